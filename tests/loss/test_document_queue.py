"""Documents of earlier batches as candidates: order, exclusion, gradients, state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import (
    DocumentQueue,
    NegativeCosineLoss,
    fused_negative_cosine_loss,
    sample_negatives,
)

from tests.support.cases import DTYPES, Array

IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["native", "reference"])
DIM = 8


def rows(count: int, seed: int = 0, dtype: str = "float32") -> Array:
    random = np.random.default_rng(seed)
    return random.normal(size=(count, DIM)).astype(DTYPES[dtype])


def numbered(*numbers: int) -> tf.Tensor:
    """Rows that hold their number."""
    return tf.constant([[number] * 2 for number in numbers], tf.float32)


def numbers_in(result: dict[str, tf.Tensor]) -> list[int]:
    """The numbers of the rows that are no empty slots."""
    filled = np.isfinite(result["doc_log_q"])
    return [int(row[0]) for row in result["doc"].numpy()[filled]]


def test_the_batch_comes_first_and_the_earlier_batches_follow() -> None:
    queue = DocumentQueue(4)
    assert numbers_in(queue(numbered(1, 2), training=True)) == [1, 2]
    assert numbers_in(queue(numbered(3), training=True)) == [3, 1, 2]
    result = queue(numbered(4, 5), training=True)
    assert numbers_in(result) == [4, 5, 1, 2, 3]
    assert result["doc"].shape == (2 + 4, 2)


def test_a_full_queue_gives_up_its_oldest_rows() -> None:
    queue = DocumentQueue(3)
    for number in range(1, 8):
        queue(numbered(number), training=True)
    assert sorted(numbers_in(queue(numbered(9)))) == [5, 6, 7, 9]


def test_of_a_batch_longer_than_the_queue_the_last_rows_stay() -> None:
    queue = DocumentQueue(3)
    queue(numbered(1), training=True)
    queue(numbered(2, 3, 4, 5, 6), training=True)
    assert sorted(numbers_in(queue(numbered(9)))) == [4, 5, 6, 9]


def test_ids_and_log_q_follow_their_rows() -> None:
    queue = DocumentQueue(2)
    for number in (1, 2, 3):
        batch = {
            "doc": numbered(number),
            "doc_ids": tf.constant([10 * number], tf.int32),
            "doc_log_q": tf.constant([-float(number)]),
        }
        result = queue(batch, training=True)
    assert result["doc_ids"].dtype == tf.int32
    facts = zip(
        *(result[name].numpy() for name in ("doc", "doc_ids", "doc_log_q")), strict=True
    )
    by_number = {int(doc[0]): (doc_id, log_q) for doc, doc_id, log_q in facts}
    assert by_number == {3: (30, -3.0), 1: (10, -1.0), 2: (20, -2.0)}


@pytest.mark.parametrize("training", [False, None])
def test_only_training_keeps_the_batch(training: bool | None) -> None:
    queue = DocumentQueue(4)
    queue(numbered(1), training=True)
    queue(numbered(2), training=training)
    assert numbers_in(queue(numbered(3))) == [3, 1]


# --- Documents that are no candidates ---------------------------------------------------

USELESS = [float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("value", USELESS)
@pytest.mark.parametrize("name", ["doc", "doc_log_q"])
def test_a_document_that_is_not_finite_leaves_its_slot_empty(
    name: str, value: float
) -> None:
    queue = DocumentQueue(4)
    doc, log_q = np.array([[1.0, 1], [2, 2], [3, 3]], "f"), np.zeros(3, "f")
    {"doc": doc[1, :1], "doc_log_q": log_q[1:2]}[name][:] = value
    batch = {"doc": tf.constant(doc), "doc_log_q": tf.constant(log_q)}
    result = queue(batch, training=True)
    np.testing.assert_array_equal(result["doc"][:3], doc)
    np.testing.assert_array_equal(result["doc_log_q"][:3], log_q)
    later = queue(numbered(4), training=True)
    assert numbers_in(later) == [4, 1, 3]
    np.testing.assert_array_equal(later["doc"][2], 0)
    assert numbers_in(queue(numbered(5))) == [5, 1, 3, 4]


@IMPLEMENTATIONS
def test_after_a_step_without_numbers_the_next_has_a_finite_loss_and_gradient(
    implementation: str,
) -> None:
    queue = DocumentQueue(40)
    queue(tf.constant(rows(8, seed=1)), training=True)
    queue(tf.fill([8, DIM], float("nan")), training=True)
    for values in loss_and_gradients(
        rows(8, seed=2),
        **queue(tf.constant(rows(8, seed=3)), training=True),
        sampler="all",
        implementation=implementation,
    ):
        assert np.isfinite(values).all()


# --- Empty slots ------------------------------------------------------------------------


def partly_filled(dtype: str) -> tuple[DocumentQueue, Array, Array]:
    """A queue of 50 that holds 12 rows, those rows, and a batch of 20."""
    queue = DocumentQueue(50, dtype=dtype)
    held = rows(12, seed=1, dtype=dtype)
    queue(tf.constant(held), training=True)
    return queue, held, rows(20, seed=2, dtype=dtype)


def loss_and_gradients(query: Array, doc: Any, **options: Any) -> list[Array]:
    query, doc = tf.constant(query), tf.convert_to_tensor(doc)
    with tf.GradientTape() as tape:
        tape.watch([query, doc])
        loss = fused_negative_cosine_loss(query, doc, reduction="none", **options)
    return [np.asarray(loss), *map(np.asarray, tape.gradient(loss, [query, doc]))]


@IMPLEMENTATIONS
@pytest.mark.parametrize("dtype", list(DTYPES))
def test_with_all_empty_slots_change_neither_loss_nor_gradients(
    dtype: str, implementation: str
) -> None:
    queue, held, batch = partly_filled(dtype)
    query = rows(20, seed=3, dtype=dtype)
    options = {"sampler": "all", "implementation": implementation}
    found = loss_and_gradients(query, **queue(tf.constant(batch)), **options)
    expected = loss_and_gradients(query, np.concatenate([batch, held]), **options)
    tolerance = {"float16": 1e-3, "bfloat16": 1e-2}.get(dtype, 1e-6)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(found[2][:32], expected[2], rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(found[2][32:], 0)


@IMPLEMENTATIONS
@pytest.mark.parametrize("sampler", ["shuffle", "ring"])
def test_a_drawn_empty_slot_is_as_if_it_were_dropped(
    sampler: str, implementation: str
) -> None:
    queue, held, batch = partly_filled("float32")
    query = rows(20, seed=3)
    found = loss_and_gradients(
        query,
        **queue(tf.constant(batch)),
        num_negatives=15,
        sampler=sampler,
        seed=(1, 2),
        implementation=implementation,
    )
    table = sample_negatives(20, 70, 15, sampler, (1, 2)).numpy()
    own = np.arange(20)[:, None]
    assert (table >= 32).any()
    expected = loss_and_gradients(
        query,
        np.concatenate([batch, held]),
        # The row's own positive, which mask_self drops.
        negative_indices=np.where(table < 32, table, own),
        implementation=implementation,
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[2][:32], expected[2], rtol=1e-5, atol=1e-5)


@IMPLEMENTATIONS
def test_a_row_that_draws_empty_slots_alone_has_loss_zero(implementation: str) -> None:
    queue = DocumentQueue(50)
    batch = tf.constant(rows(20))
    found = loss_and_gradients(
        rows(20, seed=3),
        **queue(batch),
        negative_indices=np.full([20, 4], 69),
        implementation=implementation,
    )
    for values in found:
        np.testing.assert_array_equal(values, 0)


# --- Gradients, dtypes, shapes ----------------------------------------------------------


def test_gradients_reach_the_batchs_rows_and_no_older_ones() -> None:
    tower = keras.layers.Dense(DIM)
    queue = DocumentQueue(8)
    queue(tower(rows(4)), training=True)
    with tf.GradientTape(persistent=True) as tape:
        doc = queue(tower(rows(4, seed=1)), training=True)["doc"]
        own, older = doc[:4], doc[4:]
    assert np.any(tape.gradient(own, tower.kernel))
    assert not np.any(tape.gradient(older, tower.kernel))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_rows_come_back_bit_for_bit_in_the_policys_dtype(policy: str) -> None:
    dtype = policy.removeprefix("mixed_")
    queue = DocumentQueue(4, dtype=policy)
    batch = rows(4, dtype=dtype)
    queue(tf.constant(batch), training=True)
    result = queue(tf.constant(batch))
    assert result["doc"].dtype == dtype
    np.testing.assert_array_equal(result["doc"][4:], batch)
    assert result["doc_log_q"].dtype == tf.float32


def test_batches_of_any_size_take_one_trace() -> None:
    queue = DocumentQueue(5)
    queue.build([None, 2])

    @tf.function(input_signature=[tf.TensorSpec([None, 2])])
    def step(doc: tf.Tensor) -> Any:
        return queue(doc, training=True)

    for batch in ((1, 2), (3,), (4, 5, 6, 7, 8, 9, 10)):
        step(numbered(*batch))
    assert step.experimental_get_tracing_count() == 1
    assert sorted(numbers_in(queue(numbered(99)))) == [6, 7, 8, 9, 10, 99]


def test_xla_compiles_it_to_the_same() -> None:
    plain, compiled = DocumentQueue(5), DocumentQueue(5)
    compiled.build([None, 2])
    step = tf.function(lambda doc: compiled(doc, training=True), jit_compile=True)
    for batch in ((1, 2), (3, 4), (5, 6), (7, 8)):
        found, expected = step(numbered(*batch)), plain(numbered(*batch), training=True)
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])


def test_symbolic_inputs_of_unknown_batch_size_give_symbolic_outputs() -> None:
    inputs = {
        "doc": keras.Input([DIM]),
        "doc_ids": keras.Input([], dtype="int32"),
        "doc_log_q": keras.Input([]),
    }
    found = DocumentQueue(5)(inputs)
    shapes = {name: (spec.shape, spec.dtype) for name, spec in found.items()}
    assert shapes == {
        "doc": ((None, DIM), "float32"),
        "doc_ids": ((None,), "int32"),
        "doc_log_q": ((None,), "float32"),
    }
    assert DocumentQueue(5)(keras.Input([DIM], batch_size=3))["doc"].shape == (8, DIM)


# --- In a model -------------------------------------------------------------------------


def retrieval_model() -> keras.Model:
    """Towers, ids, the queue and the loss."""
    inputs = {
        "query": keras.Input([DIM], name="query"),
        "doc": keras.Input([DIM], name="doc"),
        "doc_ids": keras.Input([], dtype="int64", name="doc_ids"),
    }
    query = keras.layers.Dense(DIM)(inputs["query"])
    doc = keras.layers.Dense(DIM)(inputs["doc"])
    candidates = DocumentQueue(40)({"doc": doc, "doc_ids": inputs["doc_ids"]})
    return keras.Model(inputs, NegativeCosineLoss(10)({"query": query, **candidates}))


def data(count: int = 64) -> dict[str, Array]:
    query = rows(count)
    rotation = np.linalg.qr(rows(DIM, seed=1))[0]
    return {"query": query, "doc": query @ rotation, "doc_ids": np.arange(count)}


@pytest.mark.parametrize(
    "setting",
    [{}, {"run_eagerly": True}, {"steps_per_execution": 3}],
    ids=["graph", "eager", "three steps"],
)
def test_a_model_trains_with_it(setting: dict[str, Any]) -> None:
    keras.utils.set_random_seed(0)
    model = retrieval_model()
    model.compile(keras.optimizers.Adam(0.03), **setting)
    history = model.fit(data(60), batch_size=16, epochs=8, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]


def test_a_saved_model_keeps_its_queue(tmp_path: Path) -> None:
    model = retrieval_model()
    model.compile("adam")
    model.fit(data(), batch_size=16, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    expected = model.evaluate(data(), batch_size=16, verbose=0)
    np.testing.assert_allclose(
        again.evaluate(data(), batch_size=16, verbose=0), expected, rtol=1e-6
    )
    for name in ("queued_doc", "queued_ids", "queued_log_q", "rows_written"):
        found, kept = (next(w for w in m.weights if w.name == name) for m in (again, model))
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(found), keras.ops.convert_to_numpy(kept)
        )


def test_its_configuration_makes_the_same_layer_again() -> None:
    queue = DocumentQueue(7, dtype="mixed_bfloat16")
    again = DocumentQueue.from_config(queue.get_config())
    assert again.get_config() == queue.get_config()
    assert again.size == 7


# --- Refusals ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 2.0, True])
def test_a_wrong_size_is_refused(size: Any) -> None:
    with pytest.raises(ValueError, match="size must be an integer from 1 to "):
        DocumentQueue(size)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (tf.ones([4]), r"doc must have two dimensions.*\(4,\)"),
        (
            {"doc": tf.ones([4, 2]), "ids": tf.ones([4])},
            "any of doc_ids and doc_log_q, got",
        ),
        ({"doc": tf.ones([4, 2]), "doc_ids": tf.ones([4])}, "doc_ids must be int32 or"),
        (
            {"doc": tf.ones([4, 2]), "doc_log_q": tf.ones([3])},
            r"doc_log_q must have shape \[4\].*\(3,\)",
        ),
        (
            tf.ones([4, 2], tf.float16),
            "doc must have the layer's compute dtype float32, got float16.*dtype='float16'",
        ),
    ],
)
def test_wrong_inputs_are_refused(inputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DocumentQueue(3)(inputs)


def test_ids_that_come_later_or_stop_coming_are_refused() -> None:
    queue = DocumentQueue(3)
    queue(tf.ones([2, 2]), training=True)
    with pytest.raises(ValueError, match=r"doc_ids must be given in every call or in none"):
        queue({"doc": tf.ones([2, 2]), "doc_ids": tf.constant([1, 2])})
