"""The Keras layers under several replicas: each has its own losses, draws and state."""

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

from tests.keras import keras_steps
from tests.support.cases import Array
from tests.support.two_replicas import mirrored_strategy
from tests.support.workers import run_workers

REPLICAS, ROWS, STEPS, DIM = 2, 8, 3, 6
LEARNING_RATE = 0.1
Batch = dict[str, Array]


@pytest.fixture(scope="module")
def strategy() -> Any:
    return mirrored_strategy()


def data() -> Batch:
    """Rows for all steps of all replicas; some documents come again."""
    random = np.random.default_rng(0)
    rows = REPLICAS * ROWS * STEPS
    return {
        "query": random.normal(size=(rows, DIM)).astype("f"),
        "doc": random.normal(size=(rows, DIM)).astype("f"),
        "doc_ids": random.integers(0, 20, rows),
    }


def part(step: int, replica: int) -> Batch:
    """The rows that a replica has in a step: Keras deals a batch out in order."""
    start = (step * REPLICAS + replica) * ROWS
    return {name: rows[start : start + ROWS] for name, rows in data().items()}


# --- Models -----------------------------------------------------------------------------

Layers = dict[str, Any]


def dense(inputs: Layers) -> Layers:
    return {
        name: keras.layers.Dense(DIM, name=f"{name}_tower")(inputs[name])
        for name in ("query", "doc")
    }


@keras.saving.register_keras_serializable("tests")
class Waiting(keras.layers.Layer):
    """Passes its input on, and makes the replicas wait for each other in a call."""

    def build(self, input_shape: Any) -> None:
        self.mean = self.add_weight(trainable=False, aggregation="mean", name="mean")

    def call(self, rows: Any) -> Any:
        self.mean.assign(tf.reduce_mean(rows))
        return rows


def with_waiting(towers: Layers) -> Layers:
    return {name: Waiting()(rows) for name, rows in towers.items()}


def with_batch_norm(towers: Layers) -> Layers:
    return {name: keras.layers.BatchNormalization()(rows) for name, rows in towers.items()}


def with_synchronized_batch_norm(towers: Layers) -> Layers:
    """The replicas wait for each other to add up their sums."""
    return {
        name: keras.layers.BatchNormalization(synchronized=True)(rows)
        for name, rows in towers.items()
    }


def with_dropout(towers: Layers) -> Layers:
    return {name: keras.layers.Dropout(0.4, seed=5)(x) for name, x in towers.items()}


def model_of(
    layer: NegativeCosineLoss,
    before: Callable[[Layers], Layers] = dict,
    behind: Callable[[Layers], Layers] = dict,
    queue: bool = False,
    frequency: bool = False,
) -> keras.Model:
    inputs = {
        "query": keras.Input([DIM], name="query"),
        "doc": keras.Input([DIM], name="doc"),
        "doc_ids": keras.Input([], dtype="int64", name="doc_ids"),
    }
    candidates = before(dense(inputs))
    query = candidates.pop("query")
    candidates["doc_ids"] = inputs["doc_ids"]
    if frequency:
        candidates["doc_log_q"] = DocumentFrequency(1000)(inputs["doc_ids"])
    if queue:
        candidates = DocumentQueue(3 * ROWS // 2)(candidates)
    query, doc = layer({"query": query, **candidates})
    return keras.Model(inputs, behind({"query": query, "doc": doc}))


MODELS: dict[str, dict[str, Any]] = {
    "towers": {},
    "waiting before": {"before": with_waiting},
    "waiting behind": {"behind": with_waiting},
    "waiting on both sides": {"before": with_waiting, "behind": with_waiting},
    "batch norm": {"before": with_batch_norm, "behind": with_synchronized_batch_norm},
    "dropout": {"before": with_dropout},
    "queue": {"queue": True},
    "frequency": {"frequency": True},
    "all": {
        "before": lambda towers: with_waiting(with_dropout(with_batch_norm(towers))),
        "behind": with_waiting,
        "queue": True,
        "frequency": True,
    },
}


def new_model(options: dict[str, Any], **layer_options: Any) -> keras.Model:
    """The same weights each time."""
    keras.utils.set_random_seed(0)
    defaults = {"num_negatives": 5, "seed": (1, 2), "learn_temperature": True}
    layer = NegativeCosineLoss(**{**defaults, "recall_at": (2,), **layer_options})
    return model_of(layer, **options)


# --- What is right: one device for each replica, and the mean of what they say ----------


def mean_over_replicas(values: list[list[Any]]) -> list[Any]:
    return [sum(parts) / len(parts) for parts in zip(*values, strict=True)]


def train_devices(models: list[keras.Model]) -> list[float]:
    """Trains them as replicas of one model; the mean loss of each step."""
    losses = []
    for step in range(STEPS):
        gradients, own_losses = [], []
        for replica, model in enumerate(models):
            with tf.GradientTape() as tape:
                keras_steps.train_step(model, part(step, replica))
                (loss,) = model.losses
            weights = model.trainable_variables
            found = tape.gradient(loss, weights)
            # What stands behind the loss has none.
            gradients.append(
                [
                    tf.zeros(weight.shape) if gradient is None else gradient
                    for weight, gradient in zip(weights, found, strict=True)
                ]
            )
            own_losses.append(float(loss))
        gradient = mean_over_replicas(gradients)
        for model in models:
            for weight, own in zip(model.trainable_variables, gradient, strict=True):
                weight.assign_sub(LEARNING_RATE * own)
        losses.append(float(np.mean(own_losses)))
    return losses


def results(models: list[keras.Model]) -> dict[str, float]:
    """The metrics' means over what they counted on all devices."""

    def mean(metrics: tuple[Any, ...]) -> float:
        total = sum(float(metric.total.numpy()) for metric in metrics)
        return total / sum(float(metric.count.numpy()) for metric in metrics)

    by_metric = zip(*(model.metrics for model in models), strict=True)
    return {metrics[0].name: mean(metrics) for metrics in by_metric}


def assert_close(found: dict[str, float], expected: dict[str, float]) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=2e-5, abs=1e-6), name


def compiled(
    strategy: Any,
    options: dict[str, Any],
    layer_options: dict[str, Any] | None = None,
    **settings: Any,
) -> keras.Model:
    with strategy.scope():
        model = new_model(options, **(layer_options or {}))
        model.compile(keras.optimizers.SGD(LEARNING_RATE), **settings)
    return model


FIT: dict[str, Any] = {"batch_size": REPLICAS * ROWS, "verbose": 0}
EAGER = {"run_eagerly": True}


@pytest.mark.parametrize(
    ("name", "settings"),
    [*((name, {}) for name in MODELS), ("waiting on both sides", EAGER), ("all", EAGER)],
    ids=lambda value: value if isinstance(value, str) else "eager" if value else "graph",
)
def test_fit_is_that_of_a_device_for_each_replica(
    name: str, settings: dict[str, Any], strategy: Any
) -> None:
    options = MODELS[name]
    model = compiled(strategy, options, **settings)
    history = model.fit(data(), shuffle=False, **FIT).history
    devices = [new_model(options) for _ in range(REPLICAS)]
    loss = float(np.mean(train_devices(devices)))
    found = {name: values[0] for name, values in history.items()}
    assert_close(found, {"loss": loss, **results(devices)})
    for weight, expected in zip(
        model.trainable_variables, devices[0].trainable_variables, strict=True
    ):
        np.testing.assert_allclose(weight.numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)
    assert weight_named(model, "num_draws").numpy() == STEPS


@pytest.mark.parametrize("settings", [{}, EAGER], ids=["graph", "eager"])
@pytest.mark.parametrize("name", ["towers", "waiting on both sides", "all"])
def test_evaluate_is_that_of_a_device_for_each_replica(
    name: str, settings: dict[str, Any], strategy: Any
) -> None:
    options = MODELS[name]
    model = compiled(strategy, options, **settings)
    found = model.evaluate(data(), return_dict=True, **FIT)
    devices = [new_model(options) for _ in range(REPLICAS)]
    losses = []
    for step in range(STEPS):
        for replica, device in enumerate(devices):
            keras_steps.test_step(device, part(step, replica))
            losses.append(float(device.losses[0]))
    assert_close(found, {"loss": float(np.mean(losses)), **results(devices)})


def test_the_loss_is_the_mean_of_what_the_function_says_of_each_replica(
    strategy: Any,
) -> None:
    """The judge of the tests above is itself the layer, on one device."""
    model = compiled(strategy, {})
    query_tower, doc_tower = model.get_layer("query_tower"), model.get_layer("doc_tower")
    expected = []
    for replica in range(REPLICAS):
        rows = part(0, replica)
        loss = fused_negative_cosine_loss(
            query_tower(rows["query"]),
            doc_tower(rows["doc"]),
            5,
            seed=(1, 2),
            doc_ids=rows["doc_ids"],
        )
        expected.append(float(loss))
    batch = {name: rows[: REPLICAS * ROWS] for name, rows in data().items()}
    history = model.fit(batch, shuffle=False, **FIT).history
    assert history["loss"][0] == pytest.approx(np.mean(expected), rel=1e-5)


def test_without_a_seed_of_its_own_fit_is_that_of_a_device_for_each_replica(
    strategy: Any,
) -> None:
    every_candidate = {"num_negatives": None, "sampler": "all", "seed": None}
    options = MODELS["waiting on both sides"]
    model = compiled(strategy, options, layer_options=every_candidate)
    history = model.fit(data(), shuffle=False, **FIT).history
    devices = [new_model(options, **every_candidate) for _ in range(REPLICAS)]
    loss = float(np.mean(train_devices(devices)))
    found = {name: values[0] for name, values in history.items()}
    assert_close(found, {"loss": loss, **results(devices)})


@pytest.mark.parametrize("settings", [{}, EAGER], ids=["graph", "eager"])
@pytest.mark.parametrize("method", ["fit", "evaluate"])
@pytest.mark.parametrize("empty", range(REPLICAS))
def test_a_replica_that_counted_nothing_leaves_the_others_mean_as_it_is(
    empty: int, method: str, settings: dict[str, Any], strategy: Any
) -> None:
    def judged(weights: Array) -> dict[str, float]:
        with strategy.scope():
            keras.utils.set_random_seed(0)
            query, doc = keras.Input([DIM], name="query"), keras.Input([DIM], name="doc")
            weight = keras.Input([], name="weight")
            inputs = {"query": query, "doc": doc, "sample_weight": weight}
            outputs = NegativeCosineLoss(sampler="all", recall_at=(2,))(inputs)
            model = keras.Model({"query": query, "doc": doc, "weight": weight}, outputs)
            model.compile(keras.optimizers.SGD(0.0), **settings)
        rows = {name: data()[name][: len(weights)] for name in ("query", "doc")}
        batch = {**rows, "weight": weights}
        if method == "evaluate":
            return dict(model.evaluate(batch, return_dict=True, **FIT))
        history = model.fit(batch, shuffle=False, **FIT).history
        return {name: values[0] for name, values in history.items()}

    weights = np.ones([REPLICAS, ROWS], "f")
    weights[empty] = 0
    found = judged(weights.reshape(-1))
    assert np.isnan(judged(np.zeros(REPLICAS * ROWS, "f"))["recall_at_2"])
    device = NegativeCosineLoss(sampler="all", recall_at=(2,))
    other = part(0, 1 - empty)
    keras_steps.test_step(device, [tf.constant(other[name]) for name in ("query", "doc")])
    for metric in device.metrics:
        assert found[metric.name] == pytest.approx(float(metric.result()), rel=1e-5)


# --- Losses -----------------------------------------------------------------------------


def test_two_calls_of_a_layer_in_a_model_add_two_losses(strategy: Any) -> None:
    def twice(layer: NegativeCosineLoss) -> keras.Model:
        query, doc = keras.Input([DIM], name="query"), keras.Input([DIM], name="doc")
        pair = layer([query, Waiting()(doc)])
        return keras.Model({"query": query, "doc": doc}, layer(pair))

    batch = {name: data()[name][: REPLICAS * ROWS] for name in ("query", "doc")}
    with strategy.scope():
        model = twice(NegativeCosineLoss(sampler="all"))
        model.compile("sgd")
    found = model.evaluate(batch, return_dict=True, **FIT)
    assert found["loss"] == pytest.approx(2 * found["negative_cosine_loss"], rel=1e-5)


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("name", ["train_step", "test_step"])
def test_a_loop_of_ones_own_reads_each_replicas_losses_where_it_runs(
    name: str, mode: str, strategy: Any
) -> None:
    with strategy.scope():
        model = new_model(MODELS["waiting on both sides"])

    def train_step(batch: Any) -> Any:
        model(batch, training=True)
        return tf.add_n(model.losses)

    def test_step(batch: Any) -> Any:
        model(batch)
        return tf.add_n(model.losses)

    step = {"train_step": train_step, "test_step": test_step}[name]
    run: Any = strategy.run if mode == "eager" else tf.function(strategy.run)
    losses = run(step, args=(deal(strategy, 0),))
    found = [float(loss) for loss in strategy.experimental_local_results(losses)]
    expected = []
    for replica in range(REPLICAS):
        device = new_model(MODELS["waiting on both sides"])
        getattr(keras_steps, name)(device, part(0, replica))
        expected.append(float(device.losses[0]))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def deal(strategy: Any, step: int) -> dict[str, Any]:
    """Each replica's part of a step's rows."""

    def own(name: str) -> Any:
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(part(step, context.replica_id_in_sync_group)[name])
        )

    return {name: own(name) for name in data()}


def train_together(strategy: Any, model: keras.Model) -> list[float]:
    """A loop of one's own; the loss of each step."""

    def train_step(batch: Any) -> Any:
        with tf.GradientTape() as tape:
            model(batch, training=True)
            (loss,) = model.losses
            loss /= REPLICAS
        model.optimizer.apply(tape.gradient(loss, model.trainable_variables))
        return loss

    with strategy.scope():
        model.optimizer.build(model.trainable_variables)
    run = tf.function(lambda batch: strategy.run(train_step, args=(batch,)))
    losses = [run(deal(strategy, step)) for step in range(STEPS)]
    return [float(strategy.reduce("SUM", loss, axis=None)) for loss in losses]


def assert_as_devices(losses: Any, weights: Any) -> None:
    """The losses of all steps and the weights after them."""
    devices = [new_model(MODELS["all"]) for _ in range(REPLICAS)]
    np.testing.assert_allclose(losses, train_devices(devices), rtol=2e-5)
    for weight, expected in zip(weights, devices[0].trainable_variables, strict=True):
        np.testing.assert_allclose(weight, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_a_loop_of_ones_own_trains_as_a_device_for_each_replica(strategy: Any) -> None:
    model = compiled(strategy, MODELS["all"])
    losses = train_together(strategy, model)
    assert_as_devices(losses, [weight.numpy() for weight in model.trainable_variables])


# Keras's own fit does not run under this strategy, with any layer.
def test_two_workers_train_as_a_device_for_each(tmp_path: Path) -> None:
    workers = run_workers("tests.keras.keras_worker", tmp_path)
    for replica, results_of in enumerate(workers):
        weights = [results_of[name] for name in results_of if name.startswith("weight")]
        assert_as_devices(results_of["losses"], weights)
        assert results_of["num_draws"] == STEPS
        own = np.concatenate([part(step, replica)["doc_ids"] for step in range(STEPS)])
        latest = own[-len(results_of["queued_ids"]) :]
        np.testing.assert_array_equal(np.sort(results_of["queued_ids"]), np.sort(latest))


# --- State ------------------------------------------------------------------------------


def weight_named(model: keras.Model, name: str) -> Any:
    (weight,) = [weight for weight in model.weights if weight.name == name]
    return weight


def copies(strategy: Any, weight: Any) -> list[Array]:
    """What each replica holds."""
    return [np.asarray(own) for own in strategy.experimental_local_results(weight.value)]


STATE = ("num_draws", "rows_written", "queued_doc", "queued_ids", "step", "last_step")


def trained(strategy: Any) -> keras.Model:
    model = compiled(strategy, {"queue": True, "frequency": True})
    model.fit(data(), shuffle=False, **FIT)
    return model


def test_the_state_advances_once_a_step_on_every_replica(strategy: Any) -> None:
    model = trained(strategy)
    for name, count in {
        "num_draws": STEPS,
        "step": STEPS,
        "rows_written": STEPS * ROWS,
    }.items():
        assert copies(strategy, weight_named(model, name)) == [count] * REPLICAS, name


def test_each_replica_queues_and_counts_its_own_documents(strategy: Any) -> None:
    model = trained(strategy)
    for replica in range(REPLICAS):
        ids = [part(step, replica)["doc_ids"] for step in range(STEPS)]
        latest = np.concatenate(ids)[-3 * ROWS // 2 :]
        queued = copies(strategy, weight_named(model, "queued_ids"))[replica]
        np.testing.assert_array_equal(np.sort(queued), np.sort(latest))
        counted = copies(strategy, weight_named(model, "occurrences"))[replica]
        assert counted.sum() == sum(len(np.unique(batch)) for batch in ids)


def by_keras_file(model: keras.Model, folder: Path, strategy: Any) -> keras.Model:
    model.save(folder / "model.keras")
    with strategy.scope():
        return keras.saving.load_model(folder / "model.keras")


def by_weights_file(model: keras.Model, folder: Path, strategy: Any) -> keras.Model:
    model.save_weights(folder / "model.weights.h5")
    restored = compiled(strategy, {"queue": True, "frequency": True})
    restored.load_weights(folder / "model.weights.h5")
    return restored


def by_checkpoint(model: keras.Model, folder: Path, strategy: Any) -> keras.Model:
    path = tf.train.Checkpoint(model=model).save(folder / "checkpoint")
    restored = compiled(strategy, {"queue": True, "frequency": True})
    tf.train.Checkpoint(model=restored).restore(path).assert_existing_objects_matched()
    return restored


@pytest.mark.parametrize(
    "save_and_restore", [by_keras_file, by_weights_file, by_checkpoint]
)
def test_what_is_saved_is_the_first_replicas_and_every_replica_goes_on_from_it(
    save_and_restore: Any, tmp_path: Path, strategy: Any
) -> None:
    model = trained(strategy)
    restored = save_and_restore(model, tmp_path, strategy)
    for name in STATE:
        first = copies(strategy, weight_named(model, name))[0]
        for held in copies(strategy, weight_named(restored, name)):
            np.testing.assert_array_equal(held, first)


def test_what_replicas_trained_goes_on_on_one_device(tmp_path: Path, strategy: Any) -> None:
    model = trained(strategy)
    alone = by_keras_file(model, tmp_path, tf.distribute.get_strategy())
    history = alone.fit(data(), shuffle=False, **FIT).history
    assert np.isfinite(history["loss"]).all()
    assert weight_named(alone, "num_draws").numpy() == 2 * STEPS
