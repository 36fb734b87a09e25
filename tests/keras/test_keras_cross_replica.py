"""Candidates from every replica in Keras's fit: all numbers are one device's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import (
    DocumentFrequency,
    DocumentQueue,
    NegativeCosineLoss,
    fused_negative_cosine_loss,
)

from tests.keras import test_keras_replicas as replicas
from tests.keras.test_keras_replicas import DIM, REPLICAS, ROWS, Batch, Layers
from tests.support.two_replicas import mirrored_strategy
from tests.support.workers import run_workers

STEPS, EPOCHS = 3, 2
FULL, SMALLER_LAST, ONE_ROW_LAST = (
    REPLICAS * ROWS * STEPS - missing for missing in (0, 3, REPLICAS * ROWS - 1)
)
FIT: dict[str, Any] = {"batch_size": REPLICAS * ROWS, "verbose": 0}
ONE_DEVICE = tf.distribute.get_strategy()


@pytest.fixture(scope="module")
def strategy() -> Any:
    return mirrored_strategy()


def data(rows: int = FULL) -> Batch:
    """Pairs; some documents come again, and some rows are padding."""
    random = np.random.default_rng(0)
    return {
        "query": random.normal(size=(rows, DIM)).astype("f"),
        "doc": random.normal(size=(rows, DIM)).astype("f"),
        "doc_ids": random.integers(0, 20, rows),
        "sample_weight": random.uniform(0.5, 2, rows).astype("f"),
    }


# --- Models -----------------------------------------------------------------------------


class AddsItsOwnLoss(keras.layers.Layer):
    """Adds a loss as Keras's layers do, and passes its input on."""

    def call(self, rows: Any) -> Any:
        self.add_loss(tf.reduce_mean(tf.square(rows)))
        return rows


class MasksEveryThirdRow(keras.layers.Layer):
    """Masks rows by their first numbers, so that the replicas mask different numbers."""

    def call(self, rows: Any) -> Any:
        return rows

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return inputs[:, 0] > -0.4


def on_both(make: Callable[[], Any]) -> Callable[[Layers], Layers]:
    return lambda towers: {name: make()(rows) for name, rows in towers.items()}


with_masks = on_both(MasksEveryThirdRow)
with_own_losses = on_both(AddsItsOwnLoss)
MODELS: dict[str, dict[str, Any]] = {
    "towers": {},
    "waiting on both sides": {
        "before": replicas.with_waiting,
        "behind": replicas.with_waiting,
    },
    "batch norm": {
        "before": replicas.with_synchronized_batch_norm,
        "behind": replicas.with_synchronized_batch_norm,
    },
    "masks": {"before": with_masks},
    "weights": {"inputs": ("sample_weight",)},
    "frequency": {"frequency": True},
    "queue": {"queue": True},
    "all": {
        "before": lambda towers: replicas.with_waiting(
            replicas.with_synchronized_batch_norm(towers)
        ),
        "behind": replicas.with_waiting,
        "inputs": ("sample_weight",),
        "frequency": True,
        "queue": True,
    },
}


def new_model(
    before: Callable[[Layers], Layers] = dict,
    behind: Callable[[Layers], Layers] = dict,
    inputs: tuple[str, ...] = (),
    frequency: bool = False,
    queue: bool = False,
    make: Any = keras.Model,
    **layer_options: Any,
) -> Any:
    """The same weights each time; in a strategy's scope for its replicas."""
    keras.utils.set_random_seed(0)
    given = {
        "query": keras.Input([DIM], name="query"),
        "doc": keras.Input([DIM], name="doc"),
        "doc_ids": keras.Input([], dtype="int64", name="doc_ids"),
        **{name: keras.Input([], name=name) for name in inputs},
    }
    candidates = before(replicas.dense(given))
    query = candidates.pop("query")
    candidates["doc_ids"] = given["doc_ids"]
    if frequency:
        counter = DocumentFrequency(1000, cross_replica=True)
        candidates["doc_log_q"] = counter(given["doc_ids"])
    if queue:
        # Each replica queues its part of the batches that one device would queue.
        all_replicas = tf.distribute.get_strategy().num_replicas_in_sync
        candidates = DocumentQueue(4 * ROWS // all_replicas)(candidates)
    options = {"sampler": "all", "learn_temperature": True, "recall_at": (2,)}
    layer = NegativeCosineLoss(cross_replica=True, **{**options, **layer_options})
    of_rows = {name: given[name] for name in inputs}
    query, doc = layer({"query": query, **candidates, **of_rows})
    return make(given, behind({"query": query, "doc": doc}))


def compiled(strategy: Any, settings: dict[str, Any], **options: Any) -> keras.Model:
    with strategy.scope():
        model = new_model(**options)
        model.compile(keras.optimizers.SGD(replicas.LEARNING_RATE), **settings)
    return model


def fit_and_evaluate(model: keras.Model, rows: int = FULL) -> dict[str, Any]:
    """Every number that Keras reports, epoch by epoch, and of an evaluation."""
    batch = {name: data(rows)[name] for name in model.input}
    history = model.fit(
        batch, epochs=EPOCHS, shuffle=False, validation_data=(batch,), **FIT
    ).history
    return {
        **history,
        **{f"evaluated_{name}": value for name, value in judged(model).items()},
    }


def judged(model: keras.Model) -> dict[str, float]:
    batch = {name: data()[name] for name in model.input}
    return dict(model.evaluate(batch, return_dict=True, **FIT))


# What each replica has of its own: of the queue its part, of the waiting layer nothing.
OF_A_REPLICA = ("queued_doc", "queued_log_q", "queued_ids", "rows_written", "mean")


def assert_equal(
    found: keras.Model, expected: keras.Model, numbers: Any, expected_numbers: Any
) -> None:
    assert set(numbers) == set(expected_numbers)
    for name, value in expected_numbers.items():
        np.testing.assert_allclose(numbers[name], value, 5e-5, 1e-5, err_msg=name)
    for weight, want in zip(found.weights, expected.weights, strict=True):
        if weight.name not in OF_A_REPLICA:
            np.testing.assert_allclose(
                weight.numpy(), want.numpy(), 1e-4, 2e-5, err_msg=weight.path
            )


# --- Fit and evaluate -------------------------------------------------------------------

GRAPH: dict[str, Any] = {}
EAGER = {"run_eagerly": True}


# The queues of replicas with fewer rows in a last batch reach further back: FULL alone.
CASES = [
    ("towers", ONE_ROW_LAST, GRAPH),
    ("masks", SMALLER_LAST, GRAPH),
    ("batch norm", SMALLER_LAST, GRAPH),
    ("all", FULL, GRAPH),
]
MORE_CASES = [
    *((name, FULL, GRAPH) for name in MODELS if name != "all"),
    *((name, SMALLER_LAST, GRAPH) for name in ("towers", "weights", "frequency")),
    ("all", FULL, EAGER),
]


@pytest.mark.parametrize(
    ("name", "rows", "settings"),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.nightly) for case in MORE_CASES)],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else str(value),
)
def test_fit_and_evaluate_say_what_one_device_says_of_the_joined_batch(
    name: str, rows: int, settings: dict[str, Any], strategy: Any
) -> None:
    found = compiled(strategy, settings, **MODELS[name])
    expected = compiled(ONE_DEVICE, {}, **MODELS[name])
    numbers = fit_and_evaluate(found, rows)
    assert_equal(found, expected, numbers, fit_and_evaluate(expected, rows))


@pytest.mark.parametrize(
    "rows", [pytest.param(FULL, marks=pytest.mark.nightly), SMALLER_LAST]
)
def test_a_sum_is_the_joined_batchs_too(rows: int, strategy: Any) -> None:
    options = {**MODELS["masks"], "reduction": "sum", "scale": 2.0}
    found, expected = (
        compiled(where, {}, **options, learn_temperature=False)
        for where in (strategy, ONE_DEVICE)
    )
    numbers = fit_and_evaluate(found, rows)
    assert_equal(found, expected, numbers, fit_and_evaluate(expected, rows))


@pytest.mark.nightly
def test_adam_and_a_weight_decay_end_with_one_devices_weights(strategy: Any) -> None:
    models = []
    for where in (strategy, ONE_DEVICE):
        model = compiled(where, {}, **MODELS["batch norm"])
        with where.scope():
            model.compile(keras.optimizers.Adam(0.01, weight_decay=0.01, epsilon=1e-3))
        models.append((model, fit_and_evaluate(model)))
    (found, numbers), (expected, expected_numbers) = models
    assert_equal(found, expected, numbers, expected_numbers)


def test_losses_of_other_layers_stay_with_the_replica_that_added_them(
    strategy: Any,
) -> None:
    options = {"before": with_own_losses, "behind": with_own_losses, "frequency": True}
    found, expected = (compiled(where, {}, **options) for where in (strategy, ONE_DEVICE))
    assert_equal(found, expected, fit_and_evaluate(found), fit_and_evaluate(expected))


def test_batch_norm_of_each_replicas_own_rows_leaves_the_candidates_joined(
    strategy: Any,
) -> None:
    def batch_norm(towers: Layers) -> Layers:
        return {
            name: keras.layers.BatchNormalization(name=name + "_norm")(rows)
            for name, rows in towers.items()
        }

    model = compiled(strategy, {}, before=batch_norm)
    batch = {name: data()[name][: REPLICAS * ROWS] for name in model.input}
    device = compiled(ONE_DEVICE, {}, before=batch_norm)
    names = ("query_norm", "doc_norm")
    towers = keras.Model(device.input, [device.get_layer(n).output for n in names])
    parts = [
        towers(
            {name: rows[start : start + ROWS] for name, rows in batch.items()},
            training=True,
        )
        for start in range(0, REPLICAS * ROWS, ROWS)
    ]
    query, doc = (tf.concat(rows, 0) for rows in zip(*parts, strict=True))
    history = model.fit(batch, shuffle=False, **FIT).history
    expected = fused_negative_cosine_loss(
        query, doc, sampler="all", doc_ids=batch["doc_ids"]
    )
    assert history["loss"][0] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("sampler", ["shuffle", "ring"])
def test_the_draws_are_those_of_the_loss_across_replicas(
    sampler: str, strategy: Any
) -> None:
    options: dict[str, Any] = {
        "sampler": sampler,
        "num_negatives": 2 * ROWS - 1,
        "seed": (3, 4),
    }
    model = compiled(strategy, {}, **options)
    towers = keras.Model(
        model.input, [model.get_layer(f"{n}_tower").output for n in ("query", "doc")]
    )
    batch = {name: data()[name][: REPLICAS * ROWS] for name in model.input}
    dataset = tf.data.Dataset.from_tensor_slices(batch).batch(REPLICAS * ROWS)
    (dealt,) = strategy.experimental_distribute_dataset(dataset)

    def share(rows: Any) -> Any:
        query, doc = towers(rows)
        return fused_negative_cosine_loss(
            query, doc, doc_ids=rows["doc_ids"], cross_replica=True, **options
        )

    shares = tf.function(lambda rows: strategy.run(share, args=(rows,)))(dealt)
    expected = float(strategy.reduce("SUM", shares, axis=None))
    history = model.fit(batch, shuffle=False, **FIT).history
    assert history["loss"][0] == pytest.approx(expected, rel=1e-5)


def test_more_negatives_than_a_replica_has_documents_are_drawn_in_fit(
    strategy: Any,
) -> None:
    model = compiled(strategy, {}, sampler="ring", num_negatives=ROWS + 3)
    assert np.isfinite(fit_and_evaluate(model)["loss"]).all()


def test_predict_gathers_nothing_and_returns_the_embeddings(strategy: Any) -> None:
    found, expected = (compiled(where, {}) for where in (strategy, ONE_DEVICE))
    batch = {name: data()[name] for name in found.input}
    for name, rows in expected.predict(batch, verbose=0).items():
        np.testing.assert_allclose(found.predict(batch, verbose=0)[name], rows, rtol=1e-5)


# --- Several processes ------------------------------------------------------------------


class OfWorkers(keras.Model):
    """What Keras's fit needs under MultiWorkerMirroredStrategy, see docs/replicas.md."""

    def train_step(self, data: Any) -> Any:
        return {name: value[tf.newaxis] for name, value in super().train_step(data).items()}

    def test_step(self, data: Any) -> Any:
        return {name: value[tf.newaxis] for name, value in super().test_step(data).items()}


# Tells the workers which model fits, and how many rows.
NAME, NUM_ROWS = "CROSS_REPLICA_MODEL", "CROSS_REPLICA_ROWS"


def compiled_for_workers(strategy: Any, **options: Any) -> keras.Model:
    """The layers in the strategy's scope, the model itself outside of it."""
    with strategy.scope():
        inputs, outputs = new_model(**options, make=lambda *ends: ends)
    model = OfWorkers(inputs, outputs)
    with strategy.scope():
        model.compile(keras.optimizers.SGD(replicas.LEARNING_RATE))
        model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("all", FULL),
        pytest.param("towers", ONE_ROW_LAST, marks=pytest.mark.nightly),
        pytest.param("masks", SMALLER_LAST, marks=pytest.mark.nightly),
        pytest.param("batch norm", SMALLER_LAST, marks=pytest.mark.nightly),
    ],
)
def test_two_workers_fit_as_one_device_on_the_joined_batch(
    name: str, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, name)
    monkeypatch.setenv(NUM_ROWS, str(rows))
    expected = compiled(ONE_DEVICE, {}, **MODELS[name])
    numbers = fit_and_evaluate(expected, rows)
    for found in run_workers("tests.keras.fit_worker", tmp_path):
        for metric, value in numbers.items():
            np.testing.assert_allclose(found[metric], value, 5e-5, 1e-5, err_msg=metric)
        for number, weight in enumerate(expected.trainable_variables):
            np.testing.assert_allclose(
                found[f"weight{number:02}"], weight.numpy(), 1e-4, 2e-5
            )


# --- Saved models -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "where_it_goes_on", [mirrored_strategy, lambda: ONE_DEVICE], ids=["replicas", "device"]
)
def test_a_saved_model_goes_on_as_one_devices(
    where_it_goes_on: Any, tmp_path: Path, strategy: Any
) -> None:
    options = {**MODELS["all"], "queue": False}
    results = []
    for number, (where, later) in enumerate(
        [(strategy, where_it_goes_on()), (ONE_DEVICE, ONE_DEVICE)]
    ):
        model = compiled(where, {}, **options)
        fit_and_evaluate(model)
        model.save(tmp_path / f"{number}.keras")
        with later.scope():
            restored = keras.saving.load_model(tmp_path / f"{number}.keras")
        results.append((restored, fit_and_evaluate(restored)))
    (found, numbers), (expected, expected_numbers) = results
    assert_equal(found, expected, numbers, expected_numbers)


# --- Loops of one's own, and what is refused --------------------------------------------


def test_each_replica_adds_the_loss_of_the_joined_batch(strategy: Any) -> None:
    """In a loop of one's own it is to be divided by the replicas, as another layer's."""
    model = compiled(strategy, {})
    batch = {name: data(SMALLER_LAST)[name] for name in model.input}
    dataset = tf.data.Dataset.from_tensor_slices(batch).batch(SMALLER_LAST)
    (dealt,) = strategy.experimental_distribute_dataset(dataset)

    def test_step(rows: Any) -> Any:
        model(rows)
        return tf.add_n(model.losses)

    losses = tf.function(lambda rows: strategy.run(test_step, args=(rows,)))(dealt)
    device = compiled(ONE_DEVICE, {})
    expected = device.evaluate(batch, batch_size=SMALLER_LAST, verbose=0, return_dict=True)
    for loss in strategy.experimental_local_results(losses):
        assert float(loss) == pytest.approx(expected["loss"], rel=1e-5)


def test_without_a_strategy_cross_replica_changes_nothing() -> None:
    found = compiled(ONE_DEVICE, {})
    expected = compiled(ONE_DEVICE, {})
    expected.layers[-1].cross_replica = False
    assert fit_and_evaluate(found) == fit_and_evaluate(expected)


def test_a_softmax_over_the_batch_is_refused_across_replicas() -> None:
    with pytest.raises(
        ValueError, match=r"cross_replica=True .*normalize_over='candidates'"
    ):
        NegativeCosineLoss(3, normalize_over="batch", cross_replica=True)


@pytest.mark.parametrize("layer", [NegativeCosineLoss, DocumentFrequency])
def test_a_cross_replica_that_is_no_boolean_is_refused_by_name(layer: Any) -> None:
    with pytest.raises(ValueError, match="cross_replica must be"):
        layer(3, cross_replica="yes")


# --- The frequency layer ----------------------------------------------------------------


def test_every_replica_counts_the_documents_of_all(strategy: Any) -> None:
    model = compiled(strategy, {}, frequency=True)
    fit_and_evaluate(model)
    for name in ("step", "last_step", "distance", "occurrences"):
        weight = replicas.weight_named(model, name)
        first, second = replicas.copies(strategy, weight)
        np.testing.assert_array_equal(first, second)
    assert replicas.weight_named(model, "step").numpy() == EPOCHS * STEPS
