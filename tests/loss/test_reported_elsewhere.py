"""What users of other losses of this kind reported, tried on this one.

Beside each test stands the thread that it comes from, as owner/repository#number. Where a
number is compared, the judge is the formula of that thread in plain TensorFlow, float64.
"""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from negative_cosine import (
    DocumentFrequency,
    DocumentQueue,
    NegativeCosineLoss,
    fused_negative_cosine_loss,
)

from tests.support.cases import Array

IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["native", "reference"])
Loss = Callable[..., Any]

B, HARD, DIM = 13, 3, 10  # queries, hard negatives of each, columns
_random = np.random.default_rng(1)
QUERY, DOC, GUIDE_QUERY, GUIDE_DOC = (_random.normal(size=(B, DIM)) for _ in range(4))
HARD_DOC = _random.normal(size=(B * HARD, DIM))
OWN_HARD = B + np.arange(B * HARD).reshape(B, HARD)
HAS_HARD = np.arange(HARD) < _random.integers(0, HARD + 1, B)[:, np.newaxis]
WEIGHT = _random.normal(size=B)
IDS = _random.integers(0, 6, B + B * HARD)
SELF = np.arange(B)[:, np.newaxis]


def unit(rows: Any) -> Any:
    return tf.math.l2_normalize(rows, axis=-1)


def similarities(query: Any, doc: Any) -> Any:
    return unit(query) @ tf.transpose(unit(doc))


def row_cross_entropy(logits: Any) -> Any:
    """Row i belongs to column i."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.range(tf.shape(logits)[0]), logits=logits
    )


def cross_entropy(logits: Any) -> Any:
    return tf.reduce_mean(row_cross_entropy(logits))


def without(logits: Any, hit: Array) -> Any:
    return tf.where(hit, tf.constant(-1e9, tf.float64), logits)


# --- Numbers: each pair is what they compute, and what one writes here. -----------------


def own_hard_negatives_there(query: Any, doc: Any, hard: Any) -> Any:
    cosines = tf.einsum("bd,bkd->bk", unit(query), unit(tf.reshape(hard, [B, HARD, DIM])))
    cosines = without(20 * cosines, ~HAS_HARD)
    own = 20 * tf.reduce_sum(unit(query) * unit(doc), axis=1, keepdims=True)
    return -tf.reduce_mean(tf.nn.log_softmax(tf.concat([own, cosines], axis=1))[:, 0])


def own_hard_negatives_here(loss: Loss, query: Any, doc: Any, hard: Any) -> Any:
    # A query with fewer hard negatives fills up with its own document: dropped.
    table = np.where(HAS_HARD, OWN_HARD, SELF)
    return loss(query, tf.concat([doc, hard], axis=0), negative_indices=table)


def ragged_hard_negatives_here(loss: Loss, query: Any, doc: Any, hard: Any) -> Any:
    ragged = tf.RaggedTensor.from_row_lengths(
        tf.constant(OWN_HARD[HAS_HARD]), HAS_HARD.sum(axis=1)
    )
    table = ragged.to_tensor(-1)
    table = tf.where(table < 0, tf.constant(SELF), table)
    return loss(query, tf.concat([doc, hard], axis=0), negative_indices=table)


def guided_away(margin: float) -> Array:
    """Documents that a second model finds as near as the positive, or nearly so."""
    guide = similarities(GUIDE_QUERY, GUIDE_DOC).numpy()
    own = np.diag(guide)[:, np.newaxis]
    return (guide > own - margin) & ~np.eye(B, dtype=bool)


def guided_there(margin: float) -> Any:
    return lambda query, doc: cross_entropy(
        without(100 * similarities(query, doc), guided_away(margin))
    )


def guided_here(margin: float) -> Any:
    table = np.where(guided_away(margin), SELF, np.arange(B))
    return lambda loss, query, doc: loss(query, doc, negative_indices=table, scale=100.0)


def every_size_there(query: Any, doc: Any) -> Any:
    sizes = (DIM, 6, 3, 1)
    return sum(cross_entropy(20 * similarities(query[:, :d], doc[:, :d])) for d in sizes)


def every_size_here(loss: Loss, query: Any, doc: Any) -> Any:
    sizes = (DIM, 6, 3, 1)
    return sum(loss(query[:, :d], doc[:, :d], sampler="all") for d in sizes)


def whole_batch_there(query: Any, doc: Any) -> Any:
    return cross_entropy(20 * similarities(query, doc))


def parts_of_the_batch_here(loss: Loss, query: Any, doc: Any) -> Any:
    # Rolled, the documents begin with the part's own.
    sums = [
        loss(query[i : i + 4], tf.roll(doc, -i, axis=0), sampler="all", reduction="sum")
        for i in range(0, B, 4)
    ]
    return tf.add_n(sums) / B


def temperature_for_scale_here(loss: Loss, query: Any, doc: Any) -> Any:
    return loss(query, doc, sampler="all", scale=1.0, temperature=0.05)


def negative_weights_there(query: Any, doc: Any) -> Any:
    return tf.reduce_mean(WEIGHT * row_cross_entropy(20 * similarities(query, doc)))


def negative_weights_here(loss: Loss, query: Any, doc: Any) -> Any:
    return loss(query, doc, sampler="all", sample_weight=WEIGHT)


def ids_of_extra_negatives_there(query: Any, doc: Any, hard: Any) -> Any:
    hit = (IDS[:B, np.newaxis] == IDS) & ~np.eye(B, len(IDS), dtype=bool)
    return cross_entropy(
        without(20 * similarities(query, tf.concat([doc, hard], axis=0)), hit)
    )


def ids_of_extra_negatives_here(loss: Loss, query: Any, doc: Any, hard: Any) -> Any:
    return loss(query, tf.concat([doc, hard], axis=0), sampler="all", doc_ids=IDS)


def other_queries_there(query: Any, doc: Any) -> Any:
    among_queries = without(20 * similarities(query, query), np.eye(B, dtype=bool))
    to_docs = 20 * similarities(query, doc)
    return cross_entropy(tf.concat([to_docs, among_queries], axis=1))


def other_queries_here(loss: Loss, query: Any, doc: Any) -> Any:
    others = [[j for j in range(2 * B) if j not in (i, B + i)] for i in range(B)]
    return loss(query, tf.concat([doc, query], axis=0), negative_indices=others)


TWO, THREE = (QUERY, DOC), (QUERY, DOC, HARD_DOC)
PAIRS: dict[str, tuple[Any, Any, tuple[Array, ...]]] = {
    # Each query against its own hard negatives alone; some have fewer than others.
    "huggingface/sentence-transformers#3072,#1178": (
        own_hard_negatives_there,
        own_hard_negatives_here,
        THREE,
    ),
    # Negatives in a column of the data, as a ragged tensor.
    "NVIDIA-Merlin/models#885": (
        own_hard_negatives_there,
        ragged_hard_negatives_here,
        THREE,
    ),
    # False negatives by a guide, whose margin must not drop the positive itself.
    "huggingface/sentence-transformers#2535": (guided_there(0.0), guided_here(0.0), TWO),
    "huggingface/sentence-transformers#3299,#3817": (
        guided_there(0.1),
        guided_here(0.1),
        TWO,
    ),
    # The first columns of the embeddings, in several sizes.
    "huggingface/sentence-transformers#2719": (every_size_there, every_size_here, TWO),
    # Parts of a batch that is too large for the towers, with the gradient of the whole.
    "huggingface/sentence-transformers#1759,#3862": (
        whole_batch_there,
        parts_of_the_batch_here,
        TWO,
    ),
    # A scale is one over a temperature.
    "huggingface/sentence-transformers#3054": (
        whole_batch_there,
        temperature_for_scale_here,
        TWO,
    ),
    # Disliked pairs with a negative weight.
    "tensorflow/recommenders#272": (negative_weights_there, negative_weights_here, TWO),
    # Accidental hits are gone, among extra negatives too; the positive stays.
    "keras-team/keras-rs#206;tensorflow/recommenders#642,#706": (
        ids_of_extra_negatives_there,
        ids_of_extra_negatives_here,
        THREE,
    ),
    # The other queries are candidates too.
    "huggingface/sentence-transformers#3607": (
        other_queries_there,
        other_queries_here,
        TWO,
    ),
}


def value_and_gradients(function: Any, arrays: tuple[Array, ...]) -> list[Array]:
    tensors = [tf.constant(array) for array in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    return [np.asarray(x) for x in (value, *tape.gradient(value, tensors))]


@IMPLEMENTATIONS
@pytest.mark.parametrize("in_function", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize(("there", "here", "arrays"), PAIRS.values(), ids=PAIRS)
def test_loss_and_gradients_are_those_of_the_formula_elsewhere(
    there: Any,
    here: Any,
    arrays: tuple[Array, ...],
    in_function: bool,
    implementation: str,
) -> None:
    def loss(*args: Any, **options: Any) -> Any:
        return fused_negative_cosine_loss(*args, **options, implementation=implementation)

    def ours(*tensors: Any) -> Any:
        return here(loss, *tensors)

    found = value_and_gradients(tf.function(ours) if in_function else ours, arrays)
    for ours_, theirs in zip(found, value_and_gradients(there, arrays), strict=True):
        np.testing.assert_allclose(ours_, theirs, rtol=1e-10, atol=1e-12)


@IMPLEMENTATIONS
def test_rows_that_are_equal_have_finite_gradients(implementation: str) -> None:
    # alibaba/EasyRec#423: the gradient of a distance of zero was NaN.
    def loss(rows: Any) -> Any:
        return fused_negative_cosine_loss(
            rows, rows, sampler="all", implementation=implementation
        )

    _, gradient = value_and_gradients(loss, (QUERY,))
    assert np.isfinite(gradient).all()


@IMPLEMENTATIONS
@pytest.mark.parametrize("fill", [0.0, 1.0], ids=["zeros", "ones"])
def test_a_collapsed_model_has_the_loss_of_guessing(
    fill: float, implementation: str
) -> None:
    # tensorflow/recommenders#231; huggingface/sentence-transformers#625 for zeros.
    rows = tf.fill([B, DIM], tf.constant(fill, tf.float64))
    loss = fused_negative_cosine_loss(
        rows, rows, sampler="all", implementation=implementation
    )
    assert float(loss) == pytest.approx(np.log(B))


@IMPLEMENTATIONS
@pytest.mark.parametrize("sampler", ["all", "shuffle"])
def test_a_last_batch_of_one_pair_has_loss_zero(sampler: str, implementation: str) -> None:
    # huggingface/sentence-transformers#3921: 0 / 0 for a batch of one.
    def loss(query: Any) -> Any:
        return fused_negative_cosine_loss(
            query,
            DOC[:1],
            4 if sampler == "shuffle" else None,
            sampler=sampler,
            implementation=implementation,
        )

    value, gradient = value_and_gradients(loss, (QUERY[:1],))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


# --- What people pass -------------------------------------------------------------------


@IMPLEMENTATIONS
def test_ids_beyond_int32_stay_apart(implementation: str) -> None:
    # tensorflow/recommenders#653: ids that exceed int32; these agree in their low halves.
    ids = np.arange(B) * 2**32
    _, stats = fused_negative_cosine_loss(
        QUERY,
        DOC,
        sampler="all",
        doc_ids=ids,
        query_ids=ids,
        return_stats=True,
        implementation=implementation,
    )
    np.testing.assert_array_equal(stats.num_kept, B - 1)


def test_ids_beyond_int32_pass_through_a_queue() -> None:
    # tensorflow/recommenders#653
    queue = DocumentQueue(2)
    ids = tf.constant([2**40, 2**40 + 2**32], tf.int64)
    queue({"doc": tf.ones([2, 3]), "doc_ids": ids}, training=True)
    again = queue({"doc": tf.ones([2, 3]), "doc_ids": ids})
    np.testing.assert_array_equal(again["doc_ids"], [*ids.numpy(), *ids.numpy()])


@pytest.mark.parametrize(
    "weight",
    [[1, 2] * 4, np.array([1, 2] * 4), pd.Series([1, 2] * 4), pd.Series([1.0, 2.0] * 4)],
    ids=["list", "array", "series of integers", "series"],
)
def test_weights_may_come_as_a_list_an_array_or_a_series(weight: Any) -> None:
    # tensorflow/recommenders#582
    loss = fused_negative_cosine_loss(
        QUERY[:8], DOC[:8], sampler="all", sample_weight=weight
    )
    rows = row_cross_entropy(20 * similarities(QUERY[:8], DOC[:8]))
    assert float(loss) == pytest.approx(float(np.mean(np.asarray(weight) * rows)))


@IMPLEMENTATIONS
@pytest.mark.parametrize("name", ["sample_weight", "doc_ids", "query_ids", "doc_log_q"])
def test_a_column_for_a_vector_is_refused_and_not_broadcast(
    name: str, implementation: str
) -> None:
    # alibaba/EasyRec#269: weights of shape [B, 1] times losses of shape [B].
    column = np.ones([B, 1], np.int64 if name.endswith("ids") else np.float64)
    options: dict[str, Any] = {name: column, "implementation": implementation}
    with pytest.raises(ValueError, match=rf"{name} must have shape \[13\].*\(13, 1\)"):
        fused_negative_cosine_loss(QUERY, DOC, sampler="all", **options)


def test_a_scalar_weight_is_refused_by_its_shape() -> None:
    # alibaba/EasyRec#491
    with pytest.raises(ValueError, match=r"sample_weight must have shape \[13\].*\(\)"):
        fused_negative_cosine_loss(QUERY, DOC, sampler="all", sample_weight=2.0)


@IMPLEMENTATIONS
@pytest.mark.parametrize("jit_compile", [None, False, True])
@pytest.mark.parametrize("bad", ["query", "doc"])
def test_a_row_of_nan_is_no_hit(
    bad: str, jit_compile: bool | None, implementation: str
) -> None:
    # NVIDIA-Merlin/models#617, #653: a model of NaN scored as a perfect one. A graph of
    # TensorFlow replaces a comparison that is negated by another one, which NaN fails.
    rows = {"query": QUERY.copy(), "doc": DOC.copy()}
    rows[bad][2] = np.nan

    def run(rows: dict[str, Any]) -> Any:
        _, stats = fused_negative_cosine_loss(
            **rows, sampler="all", return_stats=True, implementation=implementation
        )
        return stats

    if jit_compile is not None:
        run = tf.function(run, autograph=False, jit_compile=jit_compile)
    stats = run({name: tf.constant(value) for name, value in rows.items()})
    # TensorFlow's own: beside a score that is not finite no target is in the top k.
    in_top_k = tf.math.in_top_k(
        tf.range(B), tf.cast(similarities(rows["query"], rows["doc"]), tf.float32), 1
    )
    is_nan = np.isnan(stats.row_loss)
    assert is_nan.any()
    np.testing.assert_array_equal(in_top_k.numpy()[is_nan], False)
    np.testing.assert_array_equal((stats.positive_rank.numpy() == 0)[is_nan], False)


RAGGED = [[1, 2], [3], [], [1, 2]]


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
def test_the_advice_for_ragged_candidates_gives_the_loss_of_these_candidates(
    dtype: tf.DType,
) -> None:
    # NVIDIA-Merlin/models#885, huggingface/sentence-transformers#1178.
    negative_indices = tf.ragged.constant(RAGGED, dtype)
    with pytest.raises(ValueError, match="got RaggedTensor; pad short rows") as refusal:
        fused_negative_cosine_loss(QUERY[:4], DOC[:4], negative_indices=negative_indices)
    advice = str(refusal.value)
    table = negative_indices.to_tensor(-1)
    assert "table = negative_indices.to_tensor(-1)" in advice
    (filling,) = re.findall(r"tf\.where\(.*?, table\)", advice)
    filled = eval(filling, {"tf": tf, "table": table, "B": 4})
    found = fused_negative_cosine_loss(QUERY[:4], DOC[:4], negative_indices=filled)
    cosines = similarities(QUERY[:4], DOC[:4]).numpy()
    expected = [
        np.log1p(np.exp(20 * (cosines[row, others] - cosines[row, row])).sum())
        for row, others in enumerate(np.array(ids, int) for ids in RAGGED)
    ]
    np.testing.assert_allclose(found, np.mean(expected), rtol=1e-6)


@pytest.mark.parametrize("in_function", [False, True], ids=["eager", "graph"])
@IMPLEMENTATIONS
def test_minus_one_for_no_candidate_is_refused_by_what_to_put_there(
    implementation: str, in_function: bool
) -> None:
    def loss(table: Any) -> Any:
        return fused_negative_cosine_loss(
            QUERY[:3], DOC[:3], negative_indices=table, implementation=implementation
        )

    table = tf.constant([[1, 2], [0, -1], [1, 1]])
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r"(?s)-1.*their own row number, which mask_self",
    ):
        (tf.function(loss) if in_function else loss)(table)


# --- Inside TensorFlow ------------------------------------------------------------------


@pytest.fixture
def numerics_checked() -> Iterator[None]:
    """TensorFlow stops at the first operation whose result is not finite."""
    tf.debugging.enable_check_numerics()
    yield
    tf.debugging.disable_check_numerics()


@pytest.mark.usefixtures("numerics_checked")
@pytest.mark.parametrize("normalize_over", ["candidates", "batch"])
@pytest.mark.parametrize("in_function", [False, True], ids=["eager", "graph"])
@IMPLEMENTATIONS
def test_tensorflows_search_for_nan_finds_nothing(
    implementation: str, in_function: bool, normalize_over: str
) -> None:
    # tensorflow/recommenders#502: how one looks for where a NaN comes from.
    def loss(query: Any) -> Any:
        return fused_negative_cosine_loss(
            query,
            DOC,
            2 * B,
            seed=(1, 2),
            doc_ids=IDS[:B],
            doc_log_q=np.log(np.linspace(0.1, 1, B)),
            sample_weight=WEIGHT * (np.arange(B) > 2),
            normalize_over=normalize_over,
            implementation=implementation,
        )

    found = value_and_gradients(tf.function(loss) if in_function else loss, (QUERY,))
    assert np.isfinite(found[0])


@IMPLEMENTATIONS
def test_each_rows_loss_has_a_gradient_of_its_own(implementation: str) -> None:
    # tensorflow/recommenders#213: the sum over the batch or its mean, by rows.
    query = tf.constant(QUERY)
    with tf.GradientTape() as tape:
        tape.watch(query)
        losses = fused_negative_cosine_loss(
            query, DOC, sampler="all", reduction="none", implementation=implementation
        )
    jacobian = tape.jacobian(losses, query).numpy()
    _, expected = value_and_gradients(lambda rows: whole_batch_there(rows, DOC), (QUERY,))
    rows = np.arange(B)
    np.testing.assert_allclose(jacobian[rows, rows] / B, expected, rtol=1e-10, atol=1e-12)
    assert not jacobian[~np.eye(B, dtype=bool)].any()


DETERMINISTIC = """
import numpy as np, tensorflow as tf
from negative_cosine import fused_negative_cosine_loss
tf.config.experimental.enable_op_determinism()
rows = tf.constant(np.random.default_rng(0).normal(size=(256, 32)))

@tf.function
def gradient(implementation):
    with tf.GradientTape() as tape:
        tape.watch(rows)
        loss = fused_negative_cosine_loss(rows, rows + 1, 20, implementation=implementation)
    return tape.gradient(loss, rows)

for implementation in ("native", "reference"):
    found = []
    for _ in range(2):
        tf.random.set_seed(1)
        found.append(gradient.get_concrete_function(implementation)().numpy())
    np.testing.assert_array_equal(*found)
tf.random.set_seed(None)
try:
    fused_negative_cosine_loss(rows, rows, 5)
except RuntimeError as error:
    assert "tf.random.set_seed" in str(error), error
else:
    raise SystemExit("a draw without a seed")
"""


def test_with_determinism_on_two_trainings_take_the_same_step() -> None:
    # huggingface/sentence-transformers#3248
    run = subprocess.run(
        [sys.executable, "-c", DETERMINISTIC], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]


# --- With Keras -------------------------------------------------------------------------

ROWS = 60  # three batches of 16 and one of 12


def data() -> dict[str, Array]:
    random = np.random.default_rng(0)
    query = random.normal(size=(ROWS, 8)).astype(np.float32)
    doc = query @ np.linalg.qr(random.normal(size=(8, 8)))[0].astype(np.float32)
    return {"query": query, "doc": doc}


def inputs() -> dict[str, Any]:
    return {name: keras.Input([8], name=name) for name in ("query", "doc")}


def towers_of(inputs: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {
        name: keras.layers.Dense(8, name=f"{name}_tower", **settings)(inputs[name])
        for name in ("query", "doc")
    }


def model_with(layer: Any) -> keras.Model:
    named = inputs()
    return keras.Model(named, layer(towers_of(named)))


def compiled(layer: Any, **settings: Any) -> keras.Model:
    model = model_with(layer)
    model.compile(keras.optimizers.Adam(0.03), **settings)
    return model


def scores(model: keras.Model, batch_size: int = 16) -> dict[str, float]:
    found: dict[str, float] = model.evaluate(
        data(), batch_size=batch_size, verbose=0, return_dict=True
    )
    return found


def model_with_everything() -> keras.Model:
    """Queue, frequencies, ids, seed and temperature: all that has a state."""
    keras.utils.set_random_seed(0)
    named = {**inputs(), "doc_ids": keras.Input([], name="doc_ids", dtype="int64")}
    towers = towers_of(named)
    log_q = DocumentFrequency(1000)(named["doc_ids"])
    docs = {"doc": towers["doc"], "doc_ids": named["doc_ids"], "doc_log_q": log_q}
    layer = NegativeCosineLoss(10, seed=(1, 2), learn_temperature=True)
    outputs = layer({"query": towers["query"], **DocumentQueue(20)(docs)})
    model = keras.Model(named, outputs)
    model.compile(keras.optimizers.Adam(0.03))
    return model


def data_for_everything() -> dict[str, Array]:
    return {**data(), "doc_ids": np.arange(ROWS) % 40}


class Diverge(keras.callbacks.Callback):
    """Makes NaN of the weights before the second epoch is judged."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.epoch == 1:
            weights = [np.full_like(weight, np.nan) for weight in self.model.get_weights()]
            self.model.set_weights(weights)


def test_a_checkpoint_of_the_best_model_is_not_the_one_of_nan(tmp_path: Path) -> None:
    # NVIDIA-Merlin/models#617, #653.
    model = compiled(NegativeCosineLoss(sampler="all"))
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", "val_in_batch_accuracy", mode="max", save_best_only=True
    )
    model.fit(
        data(),
        epochs=2,
        validation_data=(data(),),
        verbose=0,
        callbacks=[Diverge(), best],
    )
    weights = keras.models.load_model(tmp_path / "best.keras").get_weights()
    assert all(np.isfinite(weight).all() for weight in weights)


def test_the_layer_called_as_losses_elsewhere_are_is_refused_by_what_to_write() -> None:
    # tensorflow/recommenders: task(query, candidate).
    layer = NegativeCosineLoss(10)
    with pytest.raises(ValueError, match=r"inputs must be \[query, doc\]"):
        layer(tf.constant(QUERY), tf.constant(DOC))


def test_the_layer_as_a_loss_of_compile_is_refused_by_what_to_write() -> None:
    model = keras.Sequential([keras.layers.Dense(8)])
    model.compile("sgd", loss=NegativeCosineLoss(10))
    with pytest.raises(ValueError, match=r"inputs must be \[query, doc\]"):
        model.fit(data()["query"], data()["doc"], verbose=0)


def test_fits_validation_is_an_evaluation() -> None:
    # NVIDIA-Merlin/models#274, #373: other numbers after fit(validation_data=...).
    model = compiled(NegativeCosineLoss(10))
    history = model.fit(data(), batch_size=16, validation_data=(data(),), verbose=0).history
    for name, value in scores(model).items():
        assert history[f"val_{name}"] == [value], name


@IMPLEMENTATIONS
def test_an_evaluation_in_a_graph_is_that_of_eager_steps(implementation: str) -> None:
    # NVIDIA-Merlin/models#274: with run_eagerly the numbers were others.
    model = compiled(NegativeCosineLoss(10, implementation=implementation))
    in_a_graph = scores(model)
    model.compile("adam", run_eagerly=True)
    assert scores(model) == pytest.approx(in_a_graph, rel=1e-6)


def test_metrics_start_again_after_a_second_compile() -> None:
    # NVIDIA-Merlin/models#822, #520
    model = compiled(NegativeCosineLoss(10))
    model.fit(data(), batch_size=16, verbose=0)
    first = scores(model)
    model.compile("adam")
    assert scores(model) == first


def test_an_epochs_loss_counts_a_smaller_last_batch_by_its_rows() -> None:
    # tensorflow/recommenders#177, #709: the last batch's sum stood for the epoch.
    model = compiled(NegativeCosineLoss(sampler="all"))
    query, doc = model(data())
    rows = [
        row_cross_entropy(20 * similarities(query[i : i + 16], doc[i : i + 16]))
        for i in range(0, ROWS, 16)
    ]
    assert scores(model)["loss"] == pytest.approx(np.concatenate(rows).mean(), rel=1e-5)


def test_an_evaluation_uses_the_temperature_that_was_learned() -> None:
    # NVIDIA-Merlin/models#815: the logits were never scaled.
    layer = NegativeCosineLoss(sampler="all", learn_temperature=True)
    model = compiled(layer)
    layer.log_logit_scale.assign(np.log(5.0))
    query, doc = model(data())
    expected = cross_entropy(5 * similarities(query, doc))
    assert scores(model, ROWS)["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_several_recalls_are_each_of_their_own_k() -> None:
    # alibaba/EasyRec#114: a list of ks was compared with 1 as a whole.
    model = compiled(NegativeCosineLoss(sampler="all", recall_at=(1, 5, 59)))
    query, doc = model(data())
    expected = similarities(query, doc).numpy()
    rank = (expected > np.diag(expected)[:, np.newaxis]).sum(axis=1)
    found = scores(model, ROWS)
    for k in (1, 5, 59):
        assert found[f"recall_at_{k}"] == pytest.approx((rank < k).mean()), k


def test_a_batch_without_any_weight_adds_no_loss_and_no_gradient() -> None:
    # tensorflow/recommenders#582; alibaba/EasyRec#510 divides by the mean weight.
    layer = NegativeCosineLoss(10)
    query = tf.constant(data()["query"])
    weight = tf.zeros([ROWS])
    with tf.GradientTape() as tape:
        tape.watch(query)
        layer({**data(), "query": query, "sample_weight": weight}, training=True)
        (loss,) = layer.losses
    assert float(loss) == 0
    np.testing.assert_array_equal(tape.gradient(loss, query), tf.zeros_like(query))


def test_a_model_inside_of_a_model_adds_its_loss_once() -> None:
    # keras-team/keras#15909
    inner = compiled(NegativeCosineLoss(sampler="all"))
    named = inputs()
    outer = keras.Model(named, inner(named))
    outer.compile("adam")
    assert scores(outer)["loss"] == pytest.approx(scores(inner)["loss"], rel=1e-6)


def test_a_layer_called_in_both_directions_adds_both_losses() -> None:
    # huggingface/sentence-transformers#2508: the symmetric loss.
    named = inputs()
    query, doc = towers_of(named).values()
    layer = NegativeCosineLoss(sampler="all")
    model = keras.Model(named, [*layer([query, doc]), *layer([doc, query])])
    model.compile("adam")
    query, doc, *_ = model(data())
    expected = whole_batch_there(query, doc) + whole_batch_there(doc, query)
    assert scores(model, ROWS)["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_accumulated_gradients_are_the_mean_over_the_batches() -> None:
    # huggingface/sentence-transformers#1752, #1206
    model = model_with(NegativeCosineLoss(sampler="all"))
    batches = [{name: rows[i : i + 16] for name, rows in data().items()} for i in (0, 16)]
    gradients = []
    for batch in batches:
        with tf.GradientTape() as tape:
            model(batch, training=True)
            (loss,) = model.losses
        gradients.append(tape.gradient(loss, [v.value for v in model.trainable_variables]))
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(1.0, gradient_accumulation_steps=2))
    for batch in batches:
        model.train_on_batch(batch)
    for old, new, first, second in zip(
        before, model.get_weights(), *gradients, strict=True
    ):
        np.testing.assert_allclose(new - old, -(first + second) / 2, rtol=1e-3, atol=1e-5)


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    yield
    keras.config.set_dtype_policy(previous)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_all_layers_together_train_under_a_policy(policy: str) -> None:
    # tensorflow/recommenders#498; huggingface/sentence-transformers#3800
    with dtype_policy(policy):
        model = model_with_everything()
    history = model.fit(data_for_everything(), batch_size=16, epochs=8, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]


def test_a_float64_model_trains_and_reports() -> None:
    # keras-team/keras-rs#74: metrics of another dtype than the embeddings.
    with dtype_policy("float64"):
        model = compiled(NegativeCosineLoss(10, learn_temperature=True))
    assert model(data())[0].dtype == tf.float64
    history = model.fit(data(), batch_size=16, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert history["loss"] == pytest.approx(history["negative_cosine_loss"], rel=1e-5)


def test_embeddings_of_ids_with_a_column_too_many_are_refused() -> None:
    # tensorflow/recommenders#487, #618: [B, 1, D] went through and trained nothing.
    ids = [keras.Input([1], dtype="int32") for _ in range(2)]
    embeddings = [keras.layers.Embedding(9, 4)(column) for column in ids]
    with pytest.raises(ValueError, match=r"query must have two dimensions.*None, 1, 4"):
        NegativeCosineLoss(10)(embeddings)


def test_ids_from_an_input_of_keras_default_dtype_are_refused() -> None:
    # tensorflow/recommenders#653: keras.Input makes float32 of ids.
    named = {**inputs(), "doc_ids": keras.Input([], name="doc_ids")}
    with pytest.raises(ValueError, match="doc_ids must be int32 or int64, got float32"):
        NegativeCosineLoss(10)(named)


class Batches(keras.utils.PyDataset):
    """Batches by number, made by two threads."""

    def __init__(self) -> None:
        super().__init__(workers=2)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[dict[str, Array]]:
        return (
            {name: rows[16 * index :][:16] for name, rows in data_for_everything().items()},
        )


def batches_of_any_size() -> Any:
    """The last one holds a single pair."""

    def generate() -> Iterator[dict[str, Array]]:
        for start, stop in ((0, 16), (16, 47), (47, 59), (59, 60)):
            yield {name: rows[start:stop] for name, rows in data_for_everything().items()}

    vectors = dict.fromkeys(("query", "doc"), tf.TensorSpec([None, 8]))
    return tf.data.Dataset.from_generator(
        generate, output_signature={**vectors, "doc_ids": tf.TensorSpec([None], tf.int64)}
    )


@pytest.mark.parametrize(
    "make_batches",
    [
        pytest.param(Batches, id="tensorflow/recommenders#313"),
        pytest.param(batches_of_any_size, id="huggingface/sentence-transformers#1189"),
    ],
)
def test_it_trains_on_data_generators(make_batches: Any) -> None:
    history = model_with_everything().fit(make_batches(), epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


# --- Copies, checkpoints, callbacks -----------------------------------------------------


def test_a_pickled_model_goes_on_as_the_model_does() -> None:
    # NVIDIA-Merlin/models#753
    model = model_with_everything()
    model.fit(data_for_everything(), batch_size=16, shuffle=False, verbose=0)
    again = pickle.loads(pickle.dumps(model))
    of_copy, of_model = (
        each.fit(data_for_everything(), batch_size=16, shuffle=False, verbose=0).history
        for each in (again, model)
    )
    assert of_copy["loss"] == pytest.approx(of_model["loss"], rel=1e-6)


class Interrupt(keras.callbacks.Callback):
    """Ends the run after its second epoch, as a machine that goes away."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1:
            raise KeyboardInterrupt


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(tmp_path: Path) -> None:
    # huggingface/sentence-transformers#2648, #3756: resumed at a much higher loss.
    def train(*callbacks: Any) -> keras.Model:
        model = model_with_everything()
        model.fit(
            data_for_everything(),
            batch_size=16,
            epochs=4,
            shuffle=False,
            verbose=0,
            callbacks=list(callbacks),
        )
        return model

    backup = str(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        train(keras.callbacks.BackupAndRestore(backup), Interrupt())
    resumed = train(keras.callbacks.BackupAndRestore(backup)).get_weights()
    for found, expected in zip(resumed, train().get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_callbacks_can_watch_the_layers_metrics(tmp_path: Path) -> None:
    # tensorflow/recommenders#468: which metric to stop by, and to keep a model by.
    path = tmp_path / "best.keras"
    watch = {"monitor": "val_in_batch_accuracy", "mode": "max"}
    model = compiled(NegativeCosineLoss(sampler="all"))
    history = model.fit(
        data(),
        batch_size=16,
        epochs=20,
        validation_data=(data(),),
        verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping(**watch, patience=2),
            keras.callbacks.ModelCheckpoint(path, **watch, save_best_only=True),
        ],
    ).history["val_in_batch_accuracy"]
    best = keras.models.load_model(path)
    assert scores(best)["in_batch_accuracy"] == pytest.approx(max(history))


def test_an_exported_model_returns_both_embeddings(tmp_path: Path) -> None:
    # NVIDIA-Merlin/models#188, #1224
    model = compiled(NegativeCosineLoss(10))
    model.export(tmp_path / "both", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "both"))
    for found, expected in zip(loaded.serve(data()), model(data()), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
