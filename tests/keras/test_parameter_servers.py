"""ParameterServerStrategy: each worker trains on its own batch, and servers hold weights.

A process that coordinates belongs to its cluster until it ends. So the coordinators are
processes of their own (parameter_server_coordinator.py); they write what they found.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
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

from tests.support.cases import Array
from tests.support.parameter_servers import Cluster

ITEMS, DIM, ROWS, STEPS, LEARNING_RATE = 40, 6, 8, 4, 0.5
DEVICES = 2  # of a worker that has several
COORDINATOR = "tests.keras.parameter_server_coordinator"
Batch = dict[str, Array]
Found = dict[str, Array]


def batch(step: int) -> Batch:
    """Ids of pairs: a document's is one more than its query's."""
    ids = np.random.default_rng(step).permutation(ITEMS)[:ROWS]
    return {"query": ids, "doc": (ids + 1) % ITEMS}


# --- Models -----------------------------------------------------------------------------

MODELS: dict[str, dict[str, Any]] = {
    "towers": {},
    "cross replica": {"cross_replica": True},
    "frequency": {"frequency": True},
    "queue": {"queue": True},
    "all": {"frequency": True, "queue": True, "cross_replica": True},
}


# Models whose first layer with a state is that one.
STATEFUL = {
    "towers": "NegativeCosineLoss",
    "frequency": "DocumentFrequency",
    "queue": "DocumentQueue",
}


def new_model(
    frequency: bool = False, queue: bool = False, cross_replica: bool = False
) -> keras.Model:
    """Two tables of embeddings; the same weights each time."""
    keras.utils.set_random_seed(0)
    ids = {name: keras.Input([], dtype="int64", name=name) for name in ("query", "doc")}
    query, doc = (
        keras.layers.Embedding(ITEMS, DIM, name=f"{name}_table")(ids[name]) for name in ids
    )
    candidates = {"doc": doc, "doc_ids": ids["doc"]}
    if frequency:
        counter = DocumentFrequency(100, cross_replica=cross_replica)
        candidates["doc_log_q"] = counter(ids["doc"])
    if queue:
        candidates = DocumentQueue(2 * ROWS)(candidates)
    layer = NegativeCosineLoss(
        5,
        seed=(1, 2),
        learn_temperature=True,
        recall_at=(2,),
        cross_replica=cross_replica,
    )
    outputs = layer({"query": query, **candidates})
    return keras.Model(ids, dict(zip(("query", "doc"), outputs, strict=True)))


def train_with(
    run: Callable[[Callable[[Any], Any], Any], Any], scope: Any, name: str
) -> Found:
    """The losses of some steps, each by ``run``, and the weights that they end with."""
    with scope:
        model = new_model(**MODELS[name])
        optimizer = keras.optimizers.SGD(LEARNING_RATE)
        optimizer.build(model.trainable_variables)

    def train_step(rows: Any) -> Any:
        with tf.GradientTape() as tape:
            model(rows, training=True)
            loss = tf.add_n(model.losses)
        weights = model.trainable_variables
        optimizer.apply(tape.gradient(loss, weights), weights)
        return loss

    losses = [float(run(train_step, tensors(batch(step)))) for step in range(STEPS)]
    weights = {f"weight{n:02}": weight.numpy() for n, weight in enumerate(model.weights)}
    return {"losses": np.array(losses), **weights}


def tensors(rows: Batch) -> dict[str, tf.Tensor]:
    return {name: tf.constant(values) for name, values in rows.items()}


def on_one_device(name: str) -> Found:
    step_function: dict[Any, Any] = {}

    def run(train_step: Any, rows: Any) -> Any:
        traced = step_function.setdefault("step", tf.function(train_step))
        return traced(rows)

    return train_with(run, tf.distribute.get_strategy().scope(), name)


class Tables(tf.Module):
    """The towers as tables without Keras, which a partitioner may cut into shards."""

    def __init__(self) -> None:
        super().__init__()

        def table(number: int) -> Any:
            rows = np.random.default_rng(number).normal(size=(ITEMS, DIM)).astype("f")
            return tf.Variable(rows)

        self.query, self.doc = table(1), table(2)

    def gradients(self, rows: Any) -> tuple[Any, list[Any]]:
        """The loss of a batch, and its gradients by each table's part."""
        with tf.GradientTape() as tape:
            loss = fused_negative_cosine_loss(
                tf.nn.embedding_lookup(self.query, rows["query"]),
                tf.nn.embedding_lookup(self.doc, rows["doc"]),
                5,
                seed=(1, 2),
                doc_ids=rows["doc"],
                cross_replica=True,
            )
        parts = self.trainable_variables
        gradients = tape.gradient(loss, parts)
        return loss, [tf.convert_to_tensor(gradient) for gradient in gradients]


def stateful_layers() -> tuple[Any, Any]:
    """What counts and queues documents."""
    return DocumentFrequency(101, num_hashes=2), DocumentQueue(2 * ROWS + 1)


def count_and_queue(layers: tuple[Any, Any], ids: Any) -> dict[str, Any]:
    """One training step of the layers alone."""
    frequency, queue = layers
    doc = tf.cast(ids[:, tf.newaxis], tf.float32) * tf.ones([1, DIM])
    log_q = frequency(ids, training=True)
    given = {"doc": doc, "doc_ids": ids, "doc_log_q": log_q}
    return dict(queue(given, training=True))


def parts() -> dict[str, Any]:
    """The embeddings that each device of a worker has."""
    random = np.random.default_rng(0)
    shape = (DEVICES, ROWS, DIM)
    return {name: random.normal(size=shape).astype("f") for name in ("query", "doc")}


# --- Servers in the coordinator's process -----------------------------------------------


@pytest.fixture(scope="module")
def in_one_process(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What a coordinator found whose servers are in its own process."""
    return coordinated("in one process", tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def in_shards(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """The same with a partitioner, which cuts each variable in two."""
    return coordinated("in shards", tmp_path_factory.mktemp("shards"))


def coordinated(what: str, folder: Path) -> Found:
    output = folder / "found.npz"
    command = [sys.executable, "-m", COORDINATOR, what, str(output)]
    environment = {"PYTHONPATH": ":".join(sys.path), "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(
        command, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return dict(np.load(output))


def of(found: Found, prefix: str) -> Found:
    """The results that begin so, by the rest of their names."""
    start = prefix + "/"
    return {name[len(start) :]: found[name] for name in found if name.startswith(start)}


def assert_equal(found: Found, expected: Found) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, 1e-5, 1e-6, err_msg=name)


@pytest.mark.parametrize("name", MODELS)
def test_a_worker_alone_ends_with_one_devices_losses_and_weights(
    name: str, in_one_process: Found
) -> None:
    assert_equal(of(in_one_process, name), on_one_device(name))


def test_a_worker_is_the_only_replica_of_its_batch(in_one_process: Found) -> None:
    """So ``cross_replica`` changes nothing, as on one device."""
    assert_equal(of(in_one_process, "cross replica"), of(in_one_process, "towers"))


def test_two_workers_do_every_step_and_the_loss_falls(in_one_process: Found) -> None:
    losses = in_one_process["two workers/losses"]
    assert in_one_process["two workers/ended"] == len(losses)
    assert np.isfinite(losses).all()
    assert losses[-5:].mean() < 0.7 * losses[:5].mean()


def test_two_workers_count_and_queue_into_the_same_variables(in_one_process: Found) -> None:
    """Their steps may overlap, and then the one writes over what the other wrote."""
    steps = len(in_one_process["two workers/losses"])
    assert 0 < in_one_process["two workers/step"] <= steps
    assert 0 < in_one_process["two workers/rows_written"] <= steps * ROWS
    queued = in_one_process["two workers/queued_ids"]
    assert set(queued) <= {
        int(item) for step in range(steps) for item in batch(step)["doc"]
    }


def test_a_workers_test_step_reports_what_one_device_does(in_one_process: Found) -> None:
    model = new_model()
    model.compile(keras.optimizers.SGD(0.0))
    expected = model.evaluate(batch(0), batch_size=ROWS, verbose=0, return_dict=True)
    for name, value in of(in_one_process, "evaluated").items():
        assert value == pytest.approx(expected[name], rel=1e-5), name


def test_keras_runs_no_fit_there(in_one_process: Found) -> None:
    assert "create_per_worker_dataset" in str(in_one_process["fit"])


@pytest.mark.parametrize("how", ["checkpoint", "weights", "keras"])
def test_what_was_saved_there_is_restored_on_one_device(
    how: str, in_one_process: Found
) -> None:
    assert_equal(of(in_one_process, f"saved/{how}"), of(in_one_process, "saved/expected"))


# --- A partitioner ----------------------------------------------------------------------


def test_tables_in_shards_have_one_devices_loss_and_gradients(in_shards: Found) -> None:
    loss, gradients = Tables().gradients(tensors(batch(0)))
    # In the order of tf.Module: doc's two shards, then query's.
    halves = [half for whole in gradients for half in np.split(whole.numpy(), 2)]
    found = of(in_shards, "tables")
    assert found.pop("loss") == pytest.approx(float(loss), rel=1e-6)
    expected = {f"gradient{number}": half for number, half in enumerate(halves)}
    assert_equal(found, expected)


def test_counts_and_queues_in_shards_are_one_devices(in_shards: Found) -> None:
    layers = stateful_layers()
    for step in range(STEPS):
        returned = count_and_queue(layers, tf.constant(batch(step)["doc"]))
    weights = {w.name: w.numpy() for layer in layers for w in layer.weights}
    expected = {**{name: value.numpy() for name, value in returned.items()}, **weights}
    assert_equal(of(in_shards, "layers"), expected)


def test_what_is_in_shards_is_written_in_place(in_shards: Found) -> None:
    assert "ResourceScatterUpdate" in in_shards["ops"]
    assert "TensorScatterUpdate" not in in_shards["ops"]


def test_keras_trains_no_table_in_shards(in_shards: Found) -> None:
    assert "'ShardedVariable' object has no attribute 'handle'" in str(
        in_shards["embedding"]
    )


# --- Workers with several devices -------------------------------------------------------


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """A worker that takes its CPU for two GPUs, which this machine does not have."""
    return coordinated("two devices a worker", tmp_path_factory.mktemp("devices"))


def test_a_workers_devices_are_the_replicas_of_a_joined_batch(two_devices: Found) -> None:
    joined = {name: rows.reshape(-1, DIM) for name, rows in parts().items()}
    expected = fused_negative_cosine_loss(**joined, sampler="all")
    assert two_devices["loss"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("name", STATEFUL)
def test_tensorflow_refuses_a_layers_state_on_a_workers_several_devices(
    name: str, two_devices: Found
) -> None:
    error = str(two_devices[name])
    assert f"when calling {STATEFUL[name]}.call" in error
    assert "specify an aggregation method" in error


# --- Servers in processes of their own --------------------------------------------------


@pytest.fixture
def one_worker(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(1, tmp_path) as cluster:
        yield cluster


def next_line(coordinator: subprocess.Popen[str], cluster: Cluster) -> str:
    assert coordinator.stdout is not None
    line = coordinator.stdout.readline().strip()
    assert line, cluster.messages()
    return line


def go_on(coordinator: subprocess.Popen[str]) -> None:
    assert coordinator.stdin is not None
    coordinator.stdin.write("go on\n")
    coordinator.stdin.flush()


def finished(coordinator: subprocess.Popen[str], cluster: Cluster) -> None:
    coordinator.communicate(timeout=120)
    assert coordinator.returncode == 0, cluster.messages()


def test_a_worker_that_is_lost_and_comes_back_ends_with_one_devices_weights(
    one_worker: Cluster, tmp_path: Path
) -> None:
    """It is lost between two steps, so that none is done twice."""
    output = tmp_path / "found.npz"
    coordinator = one_worker.coordinate(COORDINATOR, "one worker", str(output))
    assert next_line(coordinator, one_worker) == f"{STEPS // 2} steps done"
    one_worker.restart_worker(0)
    go_on(coordinator)
    finished(coordinator, one_worker)
    assert_equal(dict(np.load(output)), on_one_device("all"))


@pytest.mark.nightly
def test_a_worker_lost_in_mid_epoch_comes_back_and_every_step_is_done(
    tmp_path: Path,
) -> None:
    """While it is away the other one goes on."""
    output = tmp_path / "found.npz"
    with Cluster(2, tmp_path) as cluster:
        coordinator = cluster.coordinate(COORDINATOR, "two workers", str(output))
        assert next_line(coordinator, cluster) == "the second epoch begins"
        cluster.restart_worker(1)
        finished(coordinator, cluster)
    found = dict(np.load(output))
    losses = [found[f"{epoch}/losses"] for epoch in range(2)]
    assert np.isfinite(losses).all()
    assert np.mean(losses[1]) < 0.8 * np.mean(losses[0])
    for epoch, steps in enumerate(map(len, losses)):
        # A step that was under way is done again, whether or not it had ended.
        assert steps <= found[f"{epoch}/ended"] <= steps + 1
