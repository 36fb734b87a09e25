"""What four replicas saved goes on with two and with one: each from the first one's state.

TensorFlow splits a CPU into devices before anything else runs, so that each number of
replicas has a process of its own (fewer_replicas.py), which writes what it found.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
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

SAVING = 4  # the replicas that trained, and saved
ROWS, STEPS, DIM, QUEUED, NEGATIVES, LEARNING_RATE = 24, 3, 6, 10, 5, 0.1
SEED = (1, 2)
STATE = (
    *("num_draws", "rows_written", "queued_doc", "queued_ids", "queued_log_q"),
    *("step", "last_step", "distance", "occurrences"),
)
Batch = dict[str, Array]
Found = dict[str, Array]

MODES = {"own documents": False, "every replica's": True}  # and whether cross_replica
RUN: dict[str, Any] = {"batch_size": ROWS, "shuffle": False, "verbose": 0}


def data(first: int, steps: int) -> Batch:
    """Rows of some steps; some documents come again."""
    random = np.random.default_rng(first)
    rows = ROWS * steps
    return {
        "query": random.normal(size=(rows, DIM)).astype("f"),
        "doc": random.normal(size=(rows, DIM)).astype("f"),
        "doc_ids": random.integers(0, 60, rows),
    }


def new_model(cross_replica: bool) -> keras.Model:
    """Towers, and every layer of the package that has a state."""
    keras.utils.set_random_seed(0)
    inputs = {
        "query": keras.Input([DIM], name="query"),
        "doc": keras.Input([DIM], name="doc"),
        "doc_ids": keras.Input([], dtype="int64", name="doc_ids"),
    }
    query, doc = (
        keras.layers.Dense(DIM, name=f"{name}_tower")(inputs[name])
        for name in ("query", "doc")
    )
    frequency = DocumentFrequency(100, cross_replica=cross_replica, name="frequency")
    candidates = DocumentQueue(QUEUED, name="queue")(
        {
            "doc": doc,
            "doc_ids": inputs["doc_ids"],
            "doc_log_q": frequency(inputs["doc_ids"]),
        }
    )
    loss = NegativeCosineLoss(
        NEGATIVES, seed=SEED, recall_at=(2,), cross_replica=cross_replica
    )
    query, doc = loss({"query": query, **candidates})
    model = keras.Model(inputs, {"query": query, "doc": doc})
    model.compile(keras.optimizers.SGD(LEARNING_RATE))
    return model


# --- The processes ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where four replicas have saved what they trained."""
    folder = tmp_path_factory.mktemp("saved")
    run(SAVING, folder, "save")
    return folder


def run(replicas: int, folder: Path, *words: str) -> Found:
    """What a process with so many replicas found."""
    output = folder / f"{replicas} {' '.join(words)}.npz"
    module = "tests.keras.fewer_replicas"
    command = [sys.executable, "-m", module, str(replicas), str(output), *words]
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    process = subprocess.run(
        command, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True, timeout=180
    )
    assert process.returncode == 0, process.stderr
    return dict(np.load(output))


@cache
def restored(folder: Path, replicas: int, how: str) -> Found:
    """What so many replicas held after a restore, and what they did in the next step."""
    return run(replicas, folder, how)


def saved(folder: Path) -> Found:
    """What each of the four replicas held when they saved."""
    return dict(np.load(folder / f"{SAVING} save.npz"))


# --- What is right: the function on each replica's documents ------------------------------


def next_step(folder: Path, mode: str, replicas: int) -> Found:
    """The loss of the next step, and the towers' weights after it."""
    batch = data(STEPS, 1)
    parts = [
        {name: tf.constant(rows) for name, rows in zip(batch, split, strict=True)}
        for split in zip(
            *(np.split(rows, replicas) for rows in batch.values()), strict=True
        )
    ]
    joined = MODES[mode] and replicas > 1
    model = keras.saving.load_model(folder / f"{mode}.keras")
    towers = [model.get_layer(f"{name}_tower") for name in ("query", "doc")]
    weights = [weight for tower in towers for weight in tower.trainable_variables]
    with tf.GradientTape() as tape:
        queries, candidates = [], []
        for part in parts:
            counted = batch["doc_ids"] if joined else part["doc_ids"]
            queries.append(towers[0](part["query"]))
            log_q = log_q_after(folder, mode, tf.constant(counted), part["doc_ids"])
            candidates.append(
                {
                    "doc": tf.concat([towers[1](part["doc"]), queued(model, "doc")], 0),
                    "doc_ids": tf.concat([part["doc_ids"], queued(model, "ids")], 0),
                    "doc_log_q": tf.concat([log_q, queued(model, "log_q")], 0),
                }
            )
        losses = []
        for replica, query in enumerate(queries):
            own_first = candidates[replica:] + candidates[:replica]
            met = own_first if joined else own_first[:1]
            losses.append(
                fused_negative_cosine_loss(
                    query,
                    num_negatives=NEGATIVES,
                    seed=seed_of(replica, joined),
                    **{name: tf.concat([each[name] for each in met], 0) for name in met[0]},
                )
            )
        # All parts are equally long.
        loss = tf.add_n(losses) / replicas
    changes = tape.gradient(loss, [weight.value for weight in weights])
    found = {
        weight.path: weight.numpy() - LEARNING_RATE * change.numpy()
        for weight, change in zip(weights, changes, strict=True)
    }
    return {"loss": loss.numpy(), **found}


def queued(model: keras.Model, name: str) -> Any:
    return getattr(model.get_layer("queue"), f"queued_{name}").value


def log_q_after(folder: Path, mode: str, counted: Any, ids: Any) -> Any:
    """What the frequencies say of documents once a batch was counted too."""
    frequency = keras.saving.load_model(folder / f"{mode}.keras").get_layer("frequency")
    frequency(counted, training=True)
    return frequency(ids)


def seed_of(replica: int, joined: bool) -> Any:
    """The seed of a replica's next draws."""
    first, second = SEED
    seed = (first, second + STEPS)
    if not joined:
        return seed
    return tf.random.experimental.stateless_fold_in(seed, replica, alg="philox")


# --- The tests ----------------------------------------------------------------------------

HOW = [
    "checkpoint",
    *(pytest.param(how, marks=pytest.mark.nightly) for how in ("weights", "keras")),
]
EACH_MODE = pytest.mark.parametrize("mode", MODES)
EACH_WAY = pytest.mark.parametrize("how", HOW)
FEWER = pytest.mark.parametrize("replicas", [2, 1])


@EACH_WAY
@FEWER
@EACH_MODE
def test_every_replica_begins_with_the_state_of_the_first_that_saved(
    mode: str, replicas: int, how: str, folder: Path
) -> None:
    found, expected = restored(folder, replicas, how), saved(folder)
    for name in STATE:
        held = found[f"{mode}/{name}"]
        assert len(held) == replicas, name
        for own in held:
            np.testing.assert_array_equal(own, expected[f"{mode}/{name}"][0], name)


@EACH_WAY
@FEWER
@EACH_MODE
def test_the_next_step_is_that_of_the_saved_queue_frequencies_and_draws(
    mode: str, replicas: int, how: str, folder: Path
) -> None:
    found = restored(folder, replicas, how)
    for name, value in next_step(folder, mode, replicas).items():
        np.testing.assert_allclose(
            found[f"{mode}/next/{name}"], value, 2e-5, 1e-6, err_msg=name
        )


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("own documents", ["num_draws", "rows_written", "step"]),
        ("every replica's", ["num_draws", "step", "last_step", "distance", "occurrences"]),
    ],
)
def test_what_is_equal_on_every_replica_that_saved_loses_nothing(
    mode: str, names: list[str], folder: Path
) -> None:
    for name in names:
        first, *others = saved(folder)[f"{mode}/{name}"]
        assert len(others) == SAVING - 1
        for other in others:
            np.testing.assert_array_equal(other, first, name)


@EACH_MODE
def test_the_queues_of_the_other_replicas_are_not_saved(mode: str, folder: Path) -> None:
    first, *others = saved(folder)[f"{mode}/queued_ids"]
    assert not any(np.array_equal(first, other) for other in others)
