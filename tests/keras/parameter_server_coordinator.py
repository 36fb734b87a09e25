"""The coordinator of a ParameterServerStrategy, started by test_parameter_servers.py."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss
from tensorflow.python.distribute import parameter_server_strategy_v2

from tests.keras import test_parameter_servers as servers
from tests.support.parameter_servers import serve_here

LONG = 40  # steps in which a loss falls
STEPS_AN_EPOCH = 300
Results = dict[str, Any]


class Coordinator:
    """Schedules steps on a cluster's workers."""

    def __init__(self, resolver: Any, partitioner: Any = None) -> None:
        self.strategy = tf.distribute.ParameterServerStrategy(resolver, partitioner)
        self.of_cluster = tf.distribute.coordinator.ClusterCoordinator(self.strategy)
        self._traced: dict[Any, Any] = {}

    def schedule(self, step: Callable[[Any], Any], given: Any) -> Any:
        """A step on any worker, which may not have begun yet."""
        if step not in self._traced:
            self._traced[step] = tf.function(
                lambda given: self.strategy.run(step, args=(given,))
            )
        return self.of_cluster.schedule(self._traced[step], args=(given,))

    def run(self, step: Callable[[Any], Any], given: Any) -> Any:
        """What a step returns that some worker does."""
        return self.schedule(step, given).fetch()

    def batches(self, steps: int) -> Any:
        """An iterator for each worker, of its own."""

        def dataset() -> tf.data.Dataset:
            rows = [servers.batch(step) for step in range(steps)]
            stacked = {name: np.stack([each[name] for each in rows]) for name in rows[0]}
            return tf.data.Dataset.from_tensor_slices(stacked).repeat()

        return iter(self.of_cluster.create_per_worker_dataset(dataset))

    def compiled(self, optimizer: Any, **options: Any) -> keras.Model:
        """A model of the scope, whose steps can be scheduled."""
        with self.strategy.scope():
            model = servers.new_model(**options)
            model.compile(optimizer())
            model.optimizer.build(model.trainable_variables)
        return model

    def train(self, model: keras.Model, batches: Any, steps: int) -> Results:
        """The losses of steps that the workers share among them, and how many ended."""
        with self.strategy.scope():
            ended = tf.Variable(0)

        def step(iterator: Any) -> Any:
            model.train_step((next(iterator),))
            ended.assign_add(1)
            return tf.add_n(model.losses)

        losses = [self.schedule(step, batches) for _ in range(steps)]
        self.of_cluster.join()
        fetched = [float(loss.fetch()) for loss in losses]
        return {"losses": fetched, "ended": ended.numpy()}


def weight_named(model: keras.Model, name: str) -> Any:
    """What a model's weight of that name holds."""
    (weight,) = [weight for weight in model.weights if weight.name == name]
    return weight.numpy()


def error_of(call: Callable[[], Any]) -> str:
    """The message of the error that a call ends with, or nothing."""
    try:
        call()
    except Exception as error:
        return str(error)
    return ""


def named(prefix: str, results: Results) -> Results:
    """Results under a name of their own."""
    return {f"{prefix}/{name}": value for name, value in results.items()}


def in_one_process(output: Path) -> Results:
    """Each of the models, and what Keras offers beside a loop of one's own."""
    coordinator = Coordinator(serve_here(workers=2))
    results: Results = {}
    for name in servers.MODELS:
        scope = coordinator.strategy.scope()
        results |= named(name, servers.train_with(coordinator.run, scope, name))
    results |= named("two workers", two_workers(coordinator))
    evaluated = coordinator.compiled(lambda: keras.optimizers.SGD(0.0))
    batches = coordinator.batches(1)
    numbers = coordinator.run(lambda rows: evaluated.test_step((next(rows),)), batches)
    results |= named("evaluated", numbers)
    results["fit"] = error_of(lambda: evaluated.fit(servers.batch(0), verbose=0))
    results |= named("saved", saved(coordinator, output.parent))
    return results


def two_workers(coordinator: Coordinator) -> Results:
    """Steps that overlap, on queues and counts that both workers write."""
    model = coordinator.compiled(
        lambda: keras.optimizers.Adam(0.1), frequency=True, queue=True
    )
    results = coordinator.train(model, coordinator.batches(LONG), LONG)
    names = ("step", "rows_written", "queued_ids")
    return {**results, **{name: weight_named(model, name) for name in names}}


def saved(coordinator: Coordinator, folder: Path) -> Results:
    """The weights of a trained model, and those of what was restored on one device."""
    options = servers.MODELS["all"]
    model = coordinator.compiled(keras.optimizers.Adam, **options)
    coordinator.train(model, coordinator.batches(3), 3)
    checkpoint = tf.train.Checkpoint(model=model).save(str(folder / "checkpoint"))
    model.save_weights(folder / "model.weights.h5")
    model.save(folder / "model.keras")
    by_checkpoint, by_weights = (servers.new_model(**options) for _ in range(2))
    restored = tf.train.Checkpoint(model=by_checkpoint).restore(checkpoint)
    restored.assert_existing_objects_matched()
    by_weights.load_weights(folder / "model.weights.h5")
    models = {
        "expected": model,
        "checkpoint": by_checkpoint,
        "weights": by_weights,
        "keras": keras.saving.load_model(folder / "model.keras"),
    }
    return {
        f"{how}/weight{number:02}": weight.numpy()
        for how, each in models.items()
        for number, weight in enumerate(each.weights)
    }


def in_shards(output: Path) -> Results:
    """Tables and layers whose variables a partitioner cuts in two."""
    partitioner = tf.distribute.experimental.partitioners.FixedShardsPartitioner(2)
    coordinator = Coordinator(serve_here(workers=1), partitioner)
    with coordinator.strategy.scope():
        tables, layers = servers.Tables(), servers.stateful_layers()
    loss, gradients = coordinator.run(tables.gradients, servers.tensors(servers.batch(0)))
    results: Results = {"tables/loss": loss}
    for number, gradient in enumerate(gradients):
        results[f"tables/gradient{number}"] = gradient
    return results | shards_of_keras(coordinator, layers)


def shards_of_keras(coordinator: Coordinator, layers: Any) -> Results:
    """What layers hold in shards, and why a table of Keras cannot be trained."""
    frequency, queue = layers
    with coordinator.strategy.scope():
        frequency.build((None,))
        queue.build({"doc": (None, servers.DIM), "doc_ids": (None,), "doc_log_q": (None,)})
        frequency.built = queue.built = True

    ops: list[str] = []

    def step(ids: Any) -> Any:
        returned = servers.count_and_queue(layers, ids)
        ops.extend(op.type for op in tf.compat.v1.get_default_graph().get_operations())
        return returned

    for number in range(servers.STEPS):
        ids = tf.constant(servers.batch(number)["doc"])
        returned = coordinator.run(step, ids)
    held = {
        weight.name: np.asarray(tf.convert_to_tensor(weight.value))
        for layer in layers
        for weight in layer.weights
    }
    scope = coordinator.strategy.scope()
    error = error_of(lambda: servers.train_with(coordinator.run, scope, "towers"))
    results = named("layers", {**returned, **held})
    return {**results, "embedding": error, "ops": np.array(ops)}


def two_devices_a_worker() -> Results:
    """What the function does where a worker has two replicas: its GPUs, if it had some."""

    def set_num_gpus(extended: Any) -> None:
        extended._num_gpus_per_worker = servers.DEVICES

    extended = parameter_server_strategy_v2.ParameterServerStrategyV2Extended
    tf.config.set_soft_device_placement(True)
    with mock.patch.object(extended, "_set_num_gpus", set_num_gpus):
        coordinator = Coordinator(serve_here(workers=1))
    strategy = coordinator.strategy

    def loss_of_all(rows: Any) -> Any:
        def share(rows: Any) -> Any:
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            own = {name: all_rows[replica] for name, all_rows in rows.items()}
            return fused_negative_cosine_loss(**own, sampler="all", cross_replica=True)

        return strategy.reduce("SUM", strategy.run(share, args=(rows,)), axis=None)

    parts = servers.tensors(servers.parts())
    loss = coordinator.of_cluster.schedule(tf.function(loss_of_all), args=(parts,)).fetch()

    def error_with(name: str) -> str:
        return error_of(lambda: servers.train_with(coordinator.run, strategy.scope(), name))

    return {"loss": loss, **{name: error_with(name) for name in servers.STATEFUL}}


def from_configuration() -> Coordinator:
    """The coordinator of servers in processes of their own."""
    return Coordinator(tf.distribute.cluster_resolver.TFConfigClusterResolver())


def one_worker(output: Path) -> Results:
    """Steps one by one, with a pause in the middle for a worker to be lost."""
    coordinator = from_configuration()
    done = 0

    def run(step: Any, rows: Any) -> Any:
        nonlocal done
        if done == servers.STEPS // 2:
            print(f"{done} steps done", flush=True)
            sys.stdin.readline()
        done += 1
        return coordinator.run(step, rows)

    return servers.train_with(run, coordinator.strategy.scope(), "all")


def lost_in_mid_epoch(output: Path) -> Results:
    """Two epochs, in the second of which a worker is lost."""
    coordinator = from_configuration()
    model = coordinator.compiled(
        lambda: keras.optimizers.Adam(0.01), frequency=True, queue=True
    )
    batches = coordinator.batches(LONG)
    first = coordinator.train(model, batches, STEPS_AN_EPOCH)
    print("the second epoch begins", flush=True)
    second = coordinator.train(model, batches, STEPS_AN_EPOCH)
    return {**named("0", first), **named("1", second)}


RUNS: dict[str, Callable[[Path], Results]] = {
    "in one process": in_one_process,
    "in shards": in_shards,
    "two devices a worker": lambda output: two_devices_a_worker(),
    "one worker": one_worker,
    "two workers": lost_in_mid_epoch,
}


def main() -> None:
    """Writes what a run finds to the file named."""
    what, output = sys.argv[1], Path(sys.argv[2])
    results = RUNS[what](output)
    np.savez(output, **results)
    os._exit(0)  # servers in this process would wait for each other


if __name__ == "__main__":
    main()
