"""The hardest negatives: the largest logits that are not dropped, as others choose them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import (
    NegativeCosineLoss,
    fused_negative_cosine_loss,
    hardest_negatives,
)

from tests.docs.stand_ins import Retrieval
from tests.keras import keras_steps
from tests.support import oracle
from tests.support.cases import DTYPES, Array, Batch

SOME = Batch((37, 60, 16, 5), "float32")
IDS = ("doc_ids", "query_ids", "doc_log_q")
OPTIONS: list[tuple[str, ...]] = [(), *((name,) for name in IDS), IDS]


def logits_of(batch: Batch, names: tuple[str, ...]) -> tuple[Array, Array]:
    """Every logit, minus infinity where it is dropped, and every cosine, in float64."""
    given = batch.only(*names)
    units = [oracle.unit_rows(x.astype(np.float64))[0] for x in (batch.query, batch.doc)]
    cosines = units[0] @ units[1].T
    every = np.tile(np.arange(batch.docs), [batch.rows, 1])
    ids = {name: given.get(name) for name in ("doc_ids", "query_ids")}
    kept = oracle.kept_candidates(every, batch.rows, True, **ids)
    logits = 20 * cosines - given.get("doc_log_q", np.zeros(batch.docs))
    return np.where(kept, logits, -np.inf), cosines


def first(logits: Array, k: int, skipped: int = 0) -> Array:
    """The largest logits' columns after some; the own row where there is none."""
    places = ((0, 0), (0, skipped + k))
    logits = np.pad(logits, places, constant_values=-np.inf)  # places for no document
    order = np.argsort(-logits, axis=1, kind="stable")[:, skipped : skipped + k]
    exist = np.isfinite(np.take_along_axis(logits, order, axis=1))
    return np.where(exist, order, np.arange(len(logits))[:, None])


# --- What it chooses --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("names", OPTIONS, ids=str)
def test_they_are_the_largest_logits_that_are_not_dropped(
    names: tuple[str, ...], dtype: str
) -> None:
    batch = Batch((37, 60, 16, 5), dtype)
    found = hardest_negatives(batch.query, batch.doc, 7, **batch.only(*names))
    assert found.dtype == tf.int32
    np.testing.assert_array_equal(found, first(logits_of(batch, names)[0], 7))


@pytest.mark.parametrize("block_size", [1, 7, 37, 59, 60, 61, 2**31 - 1])
def test_they_do_not_depend_on_the_blocks(block_size: int) -> None:
    found = hardest_negatives(
        SOME.query, SOME.doc, 9, **SOME.only(*IDS), block_size=block_size
    )
    np.testing.assert_array_equal(found, first(logits_of(SOME, IDS)[0], 9))


def test_scale_and_temperature_weigh_cosines_against_log_q() -> None:
    log_q = SOME.only("doc_log_q")
    usual = hardest_negatives(SOME.query, SOME.doc, 5, **log_q)
    same = hardest_negatives(
        SOME.query, SOME.doc, 5, **log_q, scale=tf.constant(10.0), temperature=0.5
    )
    other = hardest_negatives(SOME.query, SOME.doc, 5, **log_q, scale=1.0)
    np.testing.assert_array_equal(same, usual)
    assert np.any(other != usual)


@pytest.mark.parametrize("range_min", [0, 1, 10, 54, 70])
def test_range_min_skips_the_hardest(range_min: int) -> None:
    found = hardest_negatives(SOME.query, SOME.doc, 6, range_min=range_min, block_size=25)
    np.testing.assert_array_equal(found, first(logits_of(SOME, ())[0], 6, range_min))


@pytest.mark.parametrize("margin", [0.0, 0.3, -0.2])
@pytest.mark.parametrize("range_min", [0, 2])
def test_absolute_margin_keeps_away_from_the_positive(
    margin: float, range_min: int
) -> None:
    logits, cosines = logits_of(SOME, ())
    positive = np.diag(cosines)[:, None]
    allowed = np.where(cosines < positive - margin, logits, -np.inf)
    found = hardest_negatives(
        SOME.query, SOME.doc, 6, absolute_margin=margin, range_min=range_min
    )
    assert np.any(allowed != logits)
    np.testing.assert_array_equal(found, first(allowed, 6, range_min))


def test_a_margin_of_0_leaves_copies_of_the_positive_out() -> None:
    random = np.random.default_rng(0)
    positive = random.normal(size=(30, 300)).astype(np.float32)
    doc = np.concatenate([positive, positive])
    found = hardest_negatives(positive, doc, 59, absolute_margin=0.0, block_size=17)
    assert not np.any(found == np.arange(30, 60)[:, None])


def test_an_excluded_document_is_never_chosen_whatever_it_holds() -> None:
    doc = SOME.doc.copy()
    doc[40:45] = np.nan
    log_q = np.where(np.isin(np.arange(60), range(40, 45)), np.inf, 0).astype(np.float32)
    found = hardest_negatives(SOME.query, doc, 58, doc_log_q=log_q)
    assert not np.isin(found, range(40, 45)).any()


@pytest.mark.parametrize("margin", [None, 0.1])
def test_a_logit_of_nan_is_chosen_first_so_that_the_loss_shows_it(
    margin: float | None,
) -> None:
    query, doc = SOME.query.copy(), SOME.doc.copy()
    doc[50], query[3] = np.nan, np.inf
    found = hardest_negatives(query, doc, 2, absolute_margin=margin)
    assert (found.numpy()[:, 0] == np.where(np.arange(37) == 3, 0, 50)).all()
    loss = fused_negative_cosine_loss(query, doc, negative_indices=found, reduction="none")
    assert np.isnan(loss).all()


# --- Rows with fewer candidates ---------------------------------------------------------


def test_the_own_row_fills_up_and_the_loss_drops_it() -> None:
    ids = np.r_[np.zeros(20), np.arange(1, 41)].astype(np.int64)
    found = hardest_negatives(SOME.query, SOME.doc, 50, doc_ids=ids)
    assert (found.numpy()[:20, 40:] == np.arange(20)[:, None]).all()
    few, stats = fused_negative_cosine_loss(
        SOME.query, SOME.doc, negative_indices=found, doc_ids=ids, return_stats=True
    )
    assert stats.num_kept.numpy().tolist() == [40] * 20 + [50] * 17
    assert np.isfinite(few)


def test_a_k_above_the_documents_is_every_candidate() -> None:
    loss = fused_negative_cosine_loss(
        SOME.query, SOME.doc, negative_indices=hardest_negatives(SOME.query, SOME.doc, 99)
    )
    every = fused_negative_cosine_loss(SOME.query, SOME.doc, sampler="all")
    np.testing.assert_allclose(loss, every, rtol=1e-6)


@pytest.mark.parametrize(("rows", "docs"), [(0, 5), (0, 0), (1, 1)])
def test_empty_batches_are_no_error(rows: int, docs: int) -> None:
    found = hardest_negatives(tf.ones([rows, 4]), tf.ones([docs, 4]), 3)
    np.testing.assert_array_equal(found, np.zeros([rows, 3]))


# --- As others do it --------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 20, 300])
@pytest.mark.parametrize("with_ids", [False, True])
def test_the_loss_is_that_of_tensorflow_recommenders(count: int, with_ids: bool) -> None:
    random = np.random.default_rng(count)
    query, doc = random.normal(size=(2, 64, 16))
    query, doc = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, doc))
    probability = random.uniform(0.001, 0.1, 64)
    ids = random.integers(0, 30, 64)
    task = Retrieval(
        temperature=0.05, num_hard_negatives=count, remove_accidental_hits=with_ids
    )
    expected = task(
        tf.constant(query),
        tf.constant(doc),
        candidate_sampling_probability=tf.constant(probability),
        candidate_ids=tf.constant(ids) if with_ids else None,
    )
    options: dict[str, Any] = {
        "doc_log_q": np.log(probability),
        "doc_ids": ids if with_ids else None,
        "scale": 1.0,
        "temperature": 0.05,
    }
    loss = fused_negative_cosine_loss(
        query,
        doc,
        negative_indices=hardest_negatives(query, doc, count, **options),
        **options,
        reduction="sum",
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-12)


# --- Graphs -----------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("block_size", [25, None])
def test_a_graph_chooses_the_same(
    known: bool, block_size: int | None, jit_compile: bool
) -> None:
    def run(named: dict[str, tf.Tensor]) -> tf.Tensor:
        return hardest_negatives(
            **named, k=7, range_min=1, absolute_margin=0.1, block_size=block_size
        )

    arrays = {"query": SOME.query, "doc": SOME.doc, **SOME.only(*IDS)}
    named = {name: tf.constant(value) for name, value in arrays.items()}
    specs = {
        name: tf.TensorSpec([None] * value.shape.rank, value.dtype)
        for name, value in named.items()
    }
    function = tf.function(
        run,
        autograph=False,
        jit_compile=jit_compile,
        input_signature=None if known else [specs],
    )
    eager = hardest_negatives(**arrays, k=7, range_min=1, absolute_margin=0.1)
    np.testing.assert_array_equal(function(named), eager)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_sizes_that_do_not_fit_choose_no_document(jit_compile: bool) -> None:
    specs = [tf.TensorSpec([None, None])] * 2 + [tf.TensorSpec([None], tf.int64)]

    def run(query: tf.Tensor, doc: tf.Tensor, doc_ids: tf.Tensor) -> tf.Tensor:
        return hardest_negatives(query, doc, 3, doc_ids=doc_ids)

    function = tf.function(
        run, autograph=False, input_signature=specs, jit_compile=jit_compile
    )
    arguments = (SOME.query, SOME.doc, np.arange(61))
    if jit_compile:  # XLA omits the check
        np.testing.assert_array_equal(function(*arguments), np.full([37, 3], -1))
        return
    with pytest.raises(tf.errors.InvalidArgumentError, match="doc_ids must have one elem"):
        function(*arguments)


def test_the_choice_has_no_gradient() -> None:
    query = tf.constant(SOME.query)
    with tf.GradientTape() as tape:
        tape.watch(query)
        found = tf.cast(hardest_negatives(query, SOME.doc, 3), tf.float32)
    assert tape.gradient(found, query) is None


# --- The layer --------------------------------------------------------------------------


def layer_inputs(*names: str) -> dict[str, tf.Tensor]:
    arrays = {"query": SOME.query, "doc": SOME.doc, **SOME.only(*names)}
    return {name: tf.constant(value) for name, value in arrays.items()}


@pytest.mark.parametrize("names", [*OPTIONS, ("sample_weight",)], ids=str)
@pytest.mark.parametrize("learn", [False, True])
def test_the_layer_takes_the_hardest_of_its_inputs(
    names: tuple[str, ...], learn: bool
) -> None:
    inputs = layer_inputs(*names)
    layer = NegativeCosineLoss(num_hard_negatives=6, scale=8.0, learn_temperature=learn)
    mined: dict[str, Any] = {name: inputs.get(name) for name in IDS}
    table = hardest_negatives(inputs["query"], inputs["doc"], 6, scale=8.0, **mined)
    expected = fused_negative_cosine_loss(**inputs, negative_indices=table, scale=8.0)
    np.testing.assert_allclose(keras_steps.loss_of(layer, inputs), expected, rtol=1e-6)


def test_a_model_trains_with_the_hardest() -> None:
    query, doc = keras.Input([8], name="query"), keras.Input([8], name="doc")
    keras.utils.set_random_seed(0)
    towers = [keras.layers.Dense(8)(part) for part in (query, doc)]
    layer = NegativeCosineLoss(num_hard_negatives=10, recall_at=(5,))
    model = keras.Model([query, doc], layer(towers))
    model.compile(keras.optimizers.Adam(0.05))
    rows = np.random.default_rng(0).normal(size=(50, 8))
    history = model.fit([rows, rows], batch_size=25, epochs=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] / 2
    assert history["dropped_share"][-1] == 0.0
    assert history["recall_at_5"][-1] > 0.9


def test_the_layer_keeps_the_option() -> None:
    layer = NegativeCosineLoss(num_hard_negatives=6)
    again = NegativeCosineLoss.from_config(layer.get_config())
    assert again.num_hard_negatives == 6


def test_recalls_beyond_the_hardest_are_left_out() -> None:
    with pytest.warns(UserWarning, match="K = .* = 4 candidates"):
        NegativeCosineLoss(num_hard_negatives=4, recall_at=(3, 10))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_negatives": 5}, "it needs num_negatives=None .* got num_negatives=5"),
        ({"sampler": "all"}, "no sampler='all', got .* sampler='all'"),
        ({"mask_self": False}, "num_hard_negatives needs mask_self=True.* got .*False"),
        ({"cross_replica": True}, "needs cross_replica=False, got .*True"),
    ],
)
def test_a_layer_of_two_sources_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NegativeCosineLoss(**options, num_hard_negatives=3)


def test_a_layer_with_the_callers_own_candidates_too_is_refused() -> None:
    inputs = {**layer_inputs(), "negative_indices": tf.constant(SOME.indices)}
    with pytest.raises(ValueError, match="num_hard_negatives or the input negative_ind"):
        keras_steps.loss_of(NegativeCosineLoss(num_hard_negatives=3), inputs)


# --- Errors -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be an integer from 1 to .*, got 0"),
        ({"k": None}, "k must be an integer from 1 to .*, got None"),
        ({"range_min": -1}, "range_min must be an integer from 0 to .*, got -1"),
        ({"range_min": 2**31 - 1}, "range_min must be an integer from 0 to"),
        ({"range_min": True}, "range_min must be an integer from 0 to .*, got True"),
        ({"absolute_margin": np.nan}, "absolute_margin must be a finite number, got nan"),
        ({"absolute_margin": "0"}, "absolute_margin must be a finite number, got '0'"),
        ({"block_size": 0}, "block_size must be an integer from 1 to"),
        ({"doc": SOME.doc[:5]}, "doc must have at least as many rows as query"),
        ({"doc_ids": [1, 2]}, r"doc_ids must have shape \[60\]"),
        ({"query_ids": [1, 2]}, r"query_ids must have shape \[37\]"),
        ({"scale": -1}, "scale must be"),
    ],
    ids=lambda part: str(part)[:24],
)
def test_a_wrong_argument_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    usual = {"query": SOME.query, "doc": SOME.doc, "k": 3}
    with pytest.raises(ValueError, match=message):
        hardest_negatives(**{**usual, **change})


def test_a_log_q_of_nan_is_an_error_with_its_position() -> None:
    log_q = np.where(np.arange(60) == 7, np.nan, 0).astype(np.float32)
    message = "doc_log_q must be finite, or infinity"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        hardest_negatives(SOME.query, SOME.doc, 3, doc_log_q=log_q)
