"""The streaming estimator of log q: right in the long run, small, and saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import DocumentFrequency

from tests.support.cases import Array

DOCS, BATCH = 200, 32


def zipf() -> Array:
    """Shares of documents: the first is drawn 200 times as often as the last."""
    share = 1 / np.arange(1, DOCS + 1)
    return share / share.sum()


def batches(share: Array, steps: int, seed: int = 0) -> list[Array]:
    random = np.random.default_rng(seed)
    return list(random.choice(len(share), [steps, BATCH], p=share))


def train(layer: DocumentFrequency, steps: list[Array]) -> None:
    """Shows the layer the batches, as a training loop does."""

    @tf.function(input_signature=[tf.TensorSpec([len(steps), BATCH], tf.int64)])
    def run(table: tf.Tensor) -> None:
        for ids in table:
            layer(ids, training=True)

    layer(tf.constant([0]))  # makes the weights
    run(tf.constant(np.stack(steps)))


def estimates(layer: DocumentFrequency, docs: int = DOCS) -> Array:
    return np.asarray(layer(tf.range(docs)))


@pytest.mark.parametrize("learning_rate", [0.01, 0.001])
def test_the_estimates_are_the_logs_of_the_batches_shares(learning_rate: float) -> None:
    share, steps = zipf(), 4000
    layer = DocumentFrequency(2**16, learning_rate=learning_rate)
    train(layer, batches(share, steps))
    expected = 1 - (1 - share) ** BATCH  # a batch that holds the document
    error = estimates(layer) - np.log(expected)
    # A mean of geometric distances over as many occurrences as it remembers.
    memory = np.minimum(steps * expected, 2 / learning_rate)
    deviation = np.sqrt((1 - expected) / memory)
    assert np.sqrt(np.mean((error / deviation) ** 2)) < 1.5
    assert (abs(error) < 5 * deviation).all()
    assert np.sqrt(np.mean(error**2)) < (0.1 if learning_rate == 0.01 else 0.07)


def test_a_mean_of_few_occurrences_is_already_usable() -> None:
    layer = DocumentFrequency(2**16)
    ids = [np.array([7]), np.array([8]), np.array([8]), np.array([7])]
    for batch in ids:
        layer(tf.constant(batch), training=True)
    found = np.exp(layer(tf.constant([7, 8])))
    # 7 at the steps 1 and 4: 2 steps apart on average; 8 at 2 and 3: 1.5.
    np.testing.assert_allclose(found, [1 / 2, 1 / 1.5], rtol=1e-6)


def test_it_follows_a_distribution_that_changes() -> None:
    share = zipf()
    layer = DocumentFrequency(2**16, learning_rate=0.05)
    train(layer, batches(share, 1500))
    train(layer, batches(share[::-1], 1500))
    expected = np.log(1 - (1 - share[::-1]) ** BATCH)
    often = slice(DOCS - 20, DOCS)
    assert abs(estimates(layer) - expected)[often].mean() < 0.2


def test_what_never_occurred_counts_as_if_it_came_next() -> None:
    layer = DocumentFrequency(2**16)
    assert float(layer(tf.constant([5]))[0]) == 0.0
    for _ in range(9):
        layer(tf.constant([1]), training=True)
    assert float(tf.exp(layer(tf.constant([5])))[0]) == pytest.approx(0.1)


def test_a_document_twice_in_a_batch_counts_once() -> None:
    once, twice = DocumentFrequency(100), DocumentFrequency(100)
    for ids in ([1, 2], [2, 3], [1, 3]):
        once(tf.constant(ids), training=True)
        twice(tf.constant(ids + ids), training=True)
    np.testing.assert_array_equal(once(tf.range(4)), twice(tf.range(4)))


def test_too_few_buckets_overestimate_and_more_hashes_less_so() -> None:
    share = zipf()
    expected = np.log(1 - (1 - share) ** BATCH)
    excess = []
    for num_hashes in (1, 4):
        layer = DocumentFrequency(256, num_hashes=num_hashes)
        train(layer, batches(share, 2000))
        excess.append(np.mean(estimates(layer) - expected))
    one, four = excess
    assert one > 0.3
    assert four < 0.5 * one


def test_ids_may_be_any_integers() -> None:
    ids = tf.constant([-1, 0, 2**62, -(2**63), 2**63 - 1], tf.int64)
    layer = DocumentFrequency(2**20, num_hashes=2)
    for number in range(5):
        layer(ids[: number + 1], training=True)
    # The first at all five steps, the second from the second on: 5 / 4 apart; and so on.
    np.testing.assert_allclose(
        np.exp(layer(ids)), [1, 4 / 5, 3 / 5, 2 / 5, 1 / 5], rtol=1e-6
    )


def test_int32_and_int64_ids_are_the_same_documents() -> None:
    layer = DocumentFrequency(1000)
    layer(tf.constant([3, 4], tf.int32), training=True)
    layer(tf.constant([3], tf.int64), training=True)
    for dtype in (tf.int32, tf.int64):
        np.testing.assert_allclose(
            np.exp(layer(tf.constant([3, 4], dtype))), [1.0, 1.0], rtol=1e-6
        )


@pytest.mark.parametrize("training", [False, None])
def test_only_training_counts(training: bool | None) -> None:
    layer = DocumentFrequency(1000)
    layer(tf.constant([3]), training=True)
    before = [keras.ops.convert_to_numpy(weight) for weight in layer.weights]
    layer(tf.constant([3, 4]), training=training)
    for weight, value in zip(layer.weights, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), value)


def test_batches_of_any_size_take_one_trace() -> None:
    layer = DocumentFrequency(1000)
    layer.build([None])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
    def step(ids: tf.Tensor) -> tf.Tensor:
        return layer(ids, training=True)

    for size in (1, 7, 3, 0):
        assert step(tf.range(size, dtype=tf.int64)).shape == [size]
    assert step.experimental_get_tracing_count() == 1


def test_xla_compiles_it_to_the_same() -> None:
    plain, compiled = (DocumentFrequency(500, num_hashes=3) for _ in range(2))
    for layer in (plain, compiled):
        layer.build([None])
    step = tf.function(lambda ids: compiled(ids, training=True), jit_compile=True)
    for ids in batches(zipf(), 5):
        np.testing.assert_allclose(
            step(tf.constant(ids)), plain(tf.constant(ids), training=True), rtol=1e-5
        )


def test_under_a_mixed_policy_the_estimates_are_float32() -> None:
    layer = DocumentFrequency(1000, dtype="mixed_float16")
    assert layer(tf.constant([1]), training=True).dtype == tf.float32
    assert layer(keras.Input([], dtype="int64")).dtype == "float32"


def model_of(layer: DocumentFrequency) -> keras.Model:
    ids = keras.Input([], dtype="int64")
    return keras.Model(ids, layer(ids))


def test_a_saved_model_remembers_and_goes_on(tmp_path: Path) -> None:
    model = model_of(DocumentFrequency(5000, num_hashes=2, learning_rate=0.2))
    *first, last = batches(zipf(), 20)
    for ids in first:
        model(tf.constant(ids), training=True)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for training in (False, True):
        np.testing.assert_array_equal(
            again(tf.constant(last), training=training),
            model(tf.constant(last), training=training),
        )


@pytest.mark.parametrize(
    "options", [{"num_buckets": 10}, {"num_hashes": 3}, {"learning_rate": 0.5}], ids=str
)
def test_every_option_survives_the_configuration(options: dict[str, Any]) -> None:
    layer = DocumentFrequency(**options)
    again = DocumentFrequency.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    for name, value in options.items():
        assert getattr(again, name) == value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_buckets": 0}, "num_buckets must be an integer from 1 to .*got 0"),
        ({"num_hashes": 1.0}, "num_hashes must be an integer from 1 to .*got 1.0"),
        ({"learning_rate": 0.0}, r"learning_rate must be in \(0, 1\], got 0.0"),
        ({"learning_rate": 2}, r"learning_rate must be in \(0, 1\], got 2"),
        ({"learning_rate": True}, r"learning_rate must be in \(0, 1\], got True"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DocumentFrequency(**options)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (tf.constant([1.0]), "doc_ids must be int32 or int64, got float32"),
        (tf.constant([[1]]), r"doc_ids must have shape .*\(1, 1\)"),
    ],
)
def test_wrong_ids_are_refused(ids: tf.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DocumentFrequency(10)(ids)


@pytest.mark.parametrize(
    ("name", "value"), [("occurrences", 1), ("last_step", 9)], ids=["begun", "ahead"]
)
def test_what_another_worker_has_half_written_makes_no_estimate_infinite(
    name: str, value: int
) -> None:
    """Under a parameter server workers write into the same state, and do not wait."""
    layer = DocumentFrequency(num_buckets=16)
    ids = tf.constant([0, 1, 2])
    layer(ids)
    weight = getattr(layer, name)
    weight.assign(np.full(weight.shape, value))
    for training in (False, True, False):
        estimates = layer(ids, training=training)
        assert np.isfinite(estimates).all()
        assert (estimates.numpy() <= 0).all()
