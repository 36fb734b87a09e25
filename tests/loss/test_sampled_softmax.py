"""Sampled and full softmax agree in the mean, where theory says so.

Write ``x_k = exp(z_ik - z_i0)``, so that a row's loss is ``log(1 + sum_k x_k)``, and
``expm1`` of it the sum itself: the normaliser, relative to the positive. Importance
sampling (Bengio and Senécal, "Quick training of probabilistic neural nets by importance
sampling", 2003) divides each candidate by its expected count in the sample, which is what
``negative_weight="auto"`` does, and ``doc_log_q`` where the counts differ: then the sum's
mean is the full softmax's sum, and so is its gradient's. The loss is its logarithm, and
below the full loss in the mean (Jensen): by ``variance / (2 * (1 + full sum)^2)`` at first
order, which falls as ``1 / K``.

Of ``shuffle``, each of the C documents is drawn ``K / C`` times in expectation; of the
ring, each of the C - 1 others ``K / (C - 1)`` times. The positive is always there: its
count is one, and its ``doc_log_q`` zero. Where every document is some row's positive,
``margin`` takes the place of the difference: ``scale * margin = -log(expected count)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss
from scipy.stats import norm

from tests.sampler.statistics_of_samplers import ALPHA, bonferroni
from tests.sampler.weak_samplers import Array

SCALE = 5.0
ROWS, DOCS, DIM = 24, 30, 8
STEPS = 4_000
MORE_STEPS = 64_000

steps = pytest.mark.parametrize(
    "steps",
    [
        pytest.param(STEPS, id="usual"),
        pytest.param(MORE_STEPS, id="more", marks=pytest.mark.nightly),
    ],
)


class Embeddings(NamedTuple):
    """Queries and documents; the first are the queries' positives."""

    query: Array
    doc: Array


def embeddings(rows: int = ROWS, docs: int = DOCS) -> Embeddings:
    """Random rows, each query near to its own document."""
    random = np.random.default_rng(8)
    doc = random.normal(size=(docs, DIM))
    return Embeddings(doc[:rows] + random.normal(size=(rows, DIM)), doc)


def row_losses(batch: Embeddings, **options: Any) -> tf.Tensor:
    """The loss of each row, float64."""
    return fused_negative_cosine_loss(
        tf.convert_to_tensor(batch.query),
        tf.convert_to_tensor(batch.doc),
        scale=SCALE,
        reduction="none",
        implementation="native",
        **options,
    )


def expected_count(sampler: str, k: int, docs: int = DOCS) -> float:
    """How often a document other than the row's own is drawn, in the mean."""
    return k / docs if sampler == "shuffle" else k / (docs - 1)


def corrected(sampler: str, k: int, count: float | None = None) -> dict[str, Any]:
    """Options that divide each candidate by its expected count, or by another one."""
    weight = "auto" if count is None else 1 / count
    return {"sampler": sampler, "num_negatives": k, "negative_weight": weight}


def corrected_by_margin(sampler: str, k: int) -> dict[str, Any]:
    """The same by means of the scale."""
    margin = -np.log(expected_count(sampler, k)) / SCALE
    return {"sampler": sampler, "num_negatives": k, "margin": margin}


def over_seeds(step: Callable[[tf.Tensor], tf.Tensor], steps: int) -> Array:
    """``step(seed)`` for each of many seeds, stacked."""
    seeds = np.stack([np.full(steps, 23), np.arange(steps)], axis=1)
    run = tf.function(
        lambda seeds: tf.map_fn(step, seeds, fn_output_signature=tf.float64),
        autograph=False,
    )
    drawn: Array = run(tf.constant(seeds)).numpy()
    return drawn


def sampled_losses(batch: Embeddings, steps: int, **options: Any) -> Array:
    """The rows' losses ``[steps, B]``, a seed each."""
    return over_seeds(lambda seed: row_losses(batch, seed=seed, **options), steps)


def mean_p(drawn: Array, expected: Array) -> float:
    """Whether the columns of independent draws have these means, by the central limit."""
    error = drawn.std(axis=0, ddof=1) / np.sqrt(len(drawn))
    away = np.abs(drawn.mean(axis=0) - expected) / error
    return bonferroni(2 * norm.sf(away))


def normaliser_p(options: dict[str, Any], steps: int, **rules: Any) -> float:
    """Whether the sampled sum's mean over seeds is the full softmax's, in each row.

    ``rules`` say what of either is dropped.
    """
    batch = embeddings()
    expected = np.expm1(row_losses(batch, sampler="all", **rules))
    return mean_p(np.expm1(sampled_losses(batch, steps, **options, **rules)), expected)


@steps
@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("sampler", ["shuffle", "ring"])
@pytest.mark.parametrize("by", [corrected, corrected_by_margin])
def test_the_sampled_normaliser_is_the_full_one_in_the_mean(
    by: Callable[[str, int], dict[str, Any]], sampler: str, k: int, steps: int
) -> None:
    assert normaliser_p(by(sampler, k), steps) > ALPHA


def dropping_rules() -> dict[str, Any]:
    """Ids that documents and queries share, and documents that are excluded."""
    log_q = np.zeros(DOCS)
    log_q[ROWS::2] = np.inf
    return {
        "doc_ids": np.arange(DOCS) % 10,
        "query_ids": np.arange(ROWS) % 7,
        "doc_log_q": log_q,
    }


@pytest.mark.parametrize("sampler", ["shuffle", "ring"])
def test_what_is_dropped_leaves_the_mean_that_of_what_is_not(sampler: str) -> None:
    rules = dropping_rules()
    assert normaliser_p(corrected(sampler, 5), STEPS, **rules) > ALPHA


@pytest.mark.parametrize("sampler", ["shuffle", "ring"])
def test_the_kept_negatives_weigh_what_the_eligible_documents_do(sampler: str) -> None:
    batch, rules = embeddings(), dropping_rules()

    def kept(**options: Any) -> tf.Tensor:
        _, stats = fused_negative_cosine_loss(
            batch.query, batch.doc, return_stats=True, **options, **rules
        )
        return tf.cast(stats.num_kept, tf.float64)

    eligible = kept(sampler="all").numpy()
    assert eligible.min() < eligible.max() < DOCS - 1
    drawn = over_seeds(
        lambda seed: kept(sampler=sampler, num_negatives=5, seed=seed), STEPS
    )
    assert mean_p(drawn / expected_count(sampler, 5), eligible) > ALPHA


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": "shuffle", "num_negatives": 5},
        corrected("shuffle", 5, count=5 / (DOCS - 1)),
        corrected("ring", 5, count=5 / DOCS),
        {**corrected("shuffle", 5), "mask_self": False},
    ],
    ids=["no correction", "ring's count", "shuffle's count", "own positive drawn too"],
)
def test_the_mean_shows_a_wrong_count(options: dict[str, Any]) -> None:
    assert normaliser_p(options, 4 * STEPS) < ALPHA


@steps
@pytest.mark.parametrize("sampler", ["shuffle", "ring"])
def test_the_gradient_of_the_normaliser_is_the_full_one_in_the_mean(
    sampler: str, steps: int
) -> None:
    batch = embeddings()
    random = np.random.default_rng(9)
    directions = [tf.constant(random.normal(size=rows.shape)) for rows in batch]

    def slopes(**options: Any) -> tf.Tensor:
        """The gradients by query and by doc, along a direction each."""
        inputs = [tf.constant(rows) for rows in batch]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            total = tf.reduce_sum(tf.math.expm1(row_losses(Embeddings(*inputs), **options)))
        gradients = tape.gradient(total, inputs)
        return tf.stack(
            [
                tf.reduce_sum(gradient * direction)
                for gradient, direction in zip(gradients, directions, strict=True)
            ]
        )

    expected = slopes(sampler="all").numpy()
    options = corrected(sampler, 5)
    drawn = over_seeds(lambda seed: slopes(seed=seed, **options), steps)
    assert mean_p(drawn, expected) > ALPHA
    uncorrected = {**options, "negative_weight": 1.0}
    drawn = over_seeds(lambda seed: slopes(seed=seed, **uncorrected), STEPS)
    assert mean_p(drawn, expected) < ALPHA


class Catalogue(NamedTuple):
    """A query, its document, and others of which the sample holds some more often."""

    query: Array
    positive: Array
    others: Array
    copies: Array

    def full(self) -> Embeddings:
        """Every other document once."""
        return Embeddings(self.query, np.concatenate([self.positive, self.others]))

    def pool(self) -> Embeddings:
        """Each other document as often as it is popular."""
        popular = np.repeat(self.others, self.copies, axis=0)
        return Embeddings(self.query, np.concatenate([self.positive, popular]))

    def log_q(self, drawn: float) -> Array:
        """Log of the expected counts, where each row of the pool is drawn so often."""
        return np.log(np.r_[1.0, np.repeat(self.copies, self.copies) * drawn])


def catalogue() -> Catalogue:
    """Twelve other documents; the most popular is there 32 times."""
    batch = embeddings(1, 13)
    copies = 1 << np.arange(12) % 6
    return Catalogue(batch.query, batch.doc[:1], batch.doc[1:], copies)


@steps
@pytest.mark.parametrize("sampler", ["shuffle", "ring"])
def test_log_q_makes_up_for_popular_documents(sampler: str, steps: int) -> None:
    of = catalogue()
    expected = np.expm1(row_losses(of.full(), sampler="all"))
    pool = of.pool()
    drawn = expected_count(sampler, 6, len(pool.doc))

    def sampled_p(log_q: Array | None) -> float:
        options = {"sampler": sampler, "num_negatives": 6, "doc_log_q": log_q}
        return mean_p(np.expm1(sampled_losses(pool, steps, **options)), expected)

    assert sampled_p(of.log_q(drawn)) > ALPHA
    assert sampled_p(None) < ALPHA
    frequency_alone = np.where(np.arange(len(pool.doc)) > 0, np.log(drawn), 0.0)
    assert sampled_p(frequency_alone) < ALPHA


def full_sum_and_variance(sampler: str, k: int) -> tuple[Array, Array]:
    """The full softmax's sum of each row, and the variance of its sampled estimate."""
    batch = embeddings()
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in batch]
    cosine = unit[0] @ unit[1].T
    own = np.arange(ROWS)
    terms = np.exp(SCALE * (cosine - cosine[own, own][:, None]))
    terms[own, own] = 0
    full = terms.sum(axis=1)
    others = DOCS - 1
    if sampler == "shuffle":  # k independent draws of C * term
        variance = DOCS * (terms**2).sum(axis=1) - full**2
        return full, variance / k
    # k draws without replacement from the others, each (C - 1) * term
    variance = others * (terms**2).sum(axis=1) - full**2
    return full, variance / k * (others - k) / (others - 1)


@pytest.mark.parametrize(("sampler", "k"), [("shuffle", 20), ("ring", 5), ("ring", 20)])
def test_the_sampled_normaliser_has_the_variance_of_its_scheme(
    sampler: str, k: int
) -> None:
    batch, options = embeddings(), corrected(sampler, k)
    full, variance = full_sum_and_variance(sampler, k)
    drawn = np.expm1(sampled_losses(batch, STEPS, **options))
    assert mean_p((drawn - full) ** 2, variance) > ALPHA
    with_replacement = full_sum_and_variance("shuffle", k)[1]
    if sampler == "ring":
        assert mean_p((drawn - full) ** 2, with_replacement) < ALPHA


@pytest.mark.parametrize(
    ("sampler", "ks", "next_order"),
    [("shuffle", (10, 40, 160), 0.1), ("ring", (5, 10, 20), 0.25)],
    ids=["shuffle", "ring"],
)
def test_the_sampled_loss_nears_the_full_loss_as_theory_says(
    sampler: str, ks: tuple[int, ...], next_order: float
) -> None:
    batch = embeddings()
    full_loss = row_losses(batch, sampler="all").numpy()
    gaps, first_order = [], []
    for k in ks:
        options = corrected(sampler, k)
        losses = sampled_losses(batch, STEPS, **options)
        full, variance = full_sum_and_variance(sampler, k)
        # Less what is known to be zero in the mean, and is most of the noise.
        errors = losses - full_loss - (np.expm1(losses) - full) / (1 + full)
        gaps.append(-errors.mean())
        first_order.append((variance / (2 * (1 + full) ** 2)).mean())
    assert gaps[0] > gaps[1] > gaps[2] > 0
    np.testing.assert_allclose(gaps[2], first_order[2], rtol=next_order)
    # Without the correction the loss is far off.
    losses = sampled_losses(batch, STEPS, sampler=sampler, num_negatives=5)
    assert (full_loss - losses.mean(axis=0)).mean() > 2 * gaps[0]


def test_a_full_ring_is_every_other_document() -> None:
    results = []
    for options in ({"sampler": "all"}, {"sampler": "ring", "num_negatives": DOCS - 1}):
        inputs = [tf.constant(rows) for rows in embeddings()]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            losses = row_losses(Embeddings(*inputs), **options)
        results.append([losses, *tape.gradient(losses, inputs)])
    for full, ring in zip(*results, strict=True):
        np.testing.assert_allclose(ring, full, rtol=1e-13, atol=1e-13)
