"""What a loss costs in the training step of a whole two-tower model, on the CPU.

Towers as people have them in Keras: ids, an embedding and a small MLP, trained by Adam on
batches of tf.data. Only the loss is swapped. A step fetches a batch, runs both towers
forward and back, and updates them, in one traced function. The floor is the same step with
a loss that costs next to nothing: what a step takes above it is the share of its loss. All
run interleaved after a warm-up; the table gives the median and the quartiles of the rounds.

    python -m benchmarks.end_to_end --output end_to_end.csv
    python -m benchmarks.end_to_end --quick
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks import cpu_steps, report
from benchmarks.cpu_steps import CPU, SECONDS_A_ROUND
from benchmarks.measurements import Row
from benchmarks.problem import Step
from benchmarks.rounds import Times, num_rounds, quartiles, time_rounds
from benchmarks.tensorflow_ways import LOSSES
from benchmarks.ways import WAYS
from examples.losses import Unweighted
from examples.two_tower import TwoTower

DRAWING = ("fused", "fused-ring", "vectorised")  # K candidates for each query
FULL = ("fused-all", "in-batch")  # every document of the batch
FLOOR = "floor"
COUNTS, QUICK_COUNTS = (20, 50), (20,)
STEPS = 5  # of each way in a round
Task = tuple[str, int | None]  # a way, and K where it draws candidates


@dataclass(frozen=True)
class Towers:
    """The sizes of the model and of its data."""

    batch_size: int = 4096
    dim: int = 128
    query_ids: int = 50_000
    doc_ids: int = 20_000
    embedding: int = 64
    hidden: int = 128
    batches: int = 16  # after which the data repeats


TOWERS = Towers()
TITLE = f"Training steps of two towers on the CPU, B={TOWERS.batch_size}, D={TOWERS.dim}"


def tower(ids: int, towers: Towers) -> keras.Model:
    """An embedding of ids, and two layers on top of it."""
    return keras.Sequential(
        [
            keras.Input([], dtype="int32"),
            keras.layers.Embedding(ids, towers.embedding),
            keras.layers.Dense(towers.hidden, activation="relu"),
            keras.layers.Dense(towers.dim),
        ]
    )


def batches(towers: Towers) -> Iterator[Any]:
    """Pairs of ids from memory, without end: each query looks for one document."""
    random = np.random.default_rng(0)
    query = random.integers(
        towers.query_ids, size=towers.batches * towers.batch_size, dtype=np.int32
    )
    pairs = {"query": query, "doc": query % towers.doc_ids}
    data = tf.data.Dataset.from_tensor_slices(pairs).repeat()
    data = data.batch(towers.batch_size, drop_remainder=True)
    return iter(data.prefetch(tf.data.AUTOTUNE))


def floor_loss(query: tf.Tensor, doc: tf.Tensor) -> tf.Tensor:
    """What is no loss worth the name, but has a gradient for every embedding."""
    return -tf.reduce_mean(query * doc)


def make_model(task: Task, towers: Towers) -> keras.Model:
    """Two towers with the loss of a task, from the same start for all."""
    way, count = task
    loss = floor_loss
    if way != FLOOR:
        options = {"num_negatives": count, "candidates": None}
        loss = functools.partial(LOSSES[WAYS[way].loss], **options)
    keras.utils.set_random_seed(0)
    query_tower, doc_tower = (
        tower(ids, towers) for ids in (towers.query_ids, towers.doc_ids)
    )
    model = TwoTower(query_tower, doc_tower, Unweighted(loss))
    model.compile(keras.optimizers.Adam(), jit_compile=False)
    return model


def make_step(task: Task, towers: Towers) -> Step:
    """A traced training step, as ``fit`` runs it; it gives the mean loss until then."""
    with tf.device(CPU):
        model, data = make_model(task, towers), batches(towers)

    @tf.function(autograph=False)
    def train() -> tf.Tensor:
        with tf.device(CPU):  # what is traced knows no scope outside
            return model.train_step((next(data),))["loss"]

    return Step(train, lambda loss: loss.numpy(), lambda loss: [loss.numpy()])


def tasks(counts: Sequence[int]) -> list[Task]:
    """All that are timed, in the order of the table."""
    drawing: list[Task] = [(way, count) for count in counts for way in DRAWING]
    return [*drawing, *((way, None) for way in FULL), (FLOOR, None)]


def share(times: Times, floor: Times) -> Times:
    """The part of a step above the floor, of the same round."""
    return (times - floor) / times


def figures(times: Times, floor: Times) -> Row:
    """The median and the quartiles of a step's time, and of its loss's share."""
    found: Row = {}
    for name, rounds in {"step_ms": times, "share": share(times, floor)}.items():
        lower, median, upper = quartiles(rounds)
        found |= {name: median, f"{name}_q25": lower, f"{name}_q75": upper}
    return {**found, "rounds": num_rounds(times)}


def measure(counts: Sequence[int], rounds: int, towers: Towers) -> list[Row]:
    """A row for each task, all timed together."""
    steps = {task: make_step(task, towers) for task in tasks(counts)}
    times, _ = time_rounds(steps, rounds, STEPS, rounds * SECONDS_A_ROUND)
    return [
        {
            "impl": way,
            "batch_size": towers.batch_size,
            "num_negatives": count,
            "dim": towers.dim,
            **figures(times[way, count], times[FLOOR, None]),
        }
        for way, count in steps
    ]


def label(row: Mapping[Any, Any]) -> str:
    """What the table calls a loss."""
    is_floor = row["impl"] == FLOOR
    return "mean of query * doc, the floor" if is_floor else report.label(row["impl"])


view = report.by_vectors(
    names={
        "loss": label,
        "K": lambda row: report.or_dash(row["num_negatives"], ".0f"),
    },
    figures={
        "step, ms": lambda row: report.with_quartiles(
            row["step_ms"], row["step_ms_q25"], row["step_ms_q75"]
        ),
        "of it the loss": lambda row: report.percent(row["share"]),
    },
)


def main(words: Sequence[str] | None = None) -> None:
    """Measures, prints and, where asked to, writes a CSV."""
    cpu_steps.run(
        words,
        description=(__doc__ or "").splitlines()[0],
        quick=f"few rounds, and K = {QUICK_COUNTS[0]} alone",
        measure=lambda rounds, quick: measure(
            QUICK_COUNTS if quick else COUNTS, rounds, TOWERS
        ),
        view=view,
        title=TITLE,
    )


if __name__ == "__main__":
    main()
