"""What a loss and its two gradients take: milliseconds, and megabytes beside the inputs."""

from __future__ import annotations

import examples.quiet_tensorflow  # noqa: F401 (before TensorFlow)

# isort: split
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks import peak_memory
from benchmarks.problem import Step
from benchmarks.rounds import time_rounds
from examples.losses import LossFunction

ROUNDS, SECONDS = 25, 5.0  # of each loss at most

Columns = Mapping[str, Any]  # of a batch, as NumPy has them
Costs = dict[str, dict[str, float]]  # of each loss


def measure(
    losses: Mapping[str, LossFunction], batch: Columns, dim: int, memory_limit: float
) -> Costs:
    """The memory of each loss in a fresh process, and the time of all in turns.

    One that takes more than ``memory_limit`` megabytes is not timed.
    """
    columns = {name: np.asarray(values) for name, values in batch.items()}
    memory = {
        name: growth / 1e6 for name, growth in growths_of(losses, columns, dim).items()
    }
    steps = {
        name: make_step(loss, columns, dim)
        for name, loss in losses.items()
        if memory[name] <= memory_limit
    }
    times, _ = time_rounds(steps, ROUNDS, 1, SECONDS)
    medians = {name: float(np.nanmedian(rounds)) for name, rounds in times.items()}
    return {
        name: {"loss_ms": medians.get(name, np.nan), "loss_mb": memory[name]}
        for name in losses
    }


def make_step(loss: LossFunction, columns: Columns, dim: int) -> Step:
    """The loss and both gradients of random embeddings, beside a batch's other columns."""
    rows = len(next(iter(columns.values())))
    query = tf.random.stateless_normal([rows, dim], seed=(1, 2))
    doc = tf.random.stateless_normal([rows, dim], seed=(3, 4))
    batch = {name: tf.constant(values) for name, values in columns.items()}

    @tf.function(autograph=False)
    def step(query: tf.Tensor, doc: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([query, doc])
            value = loss(query, doc, batch, None)
        return value, *tape.gradient(value, [query, doc])

    return Step(
        lambda: step(query, doc),
        lambda outputs: outputs[0].numpy(),
        lambda outputs: [output.numpy() for output in outputs],
    )


def growths_of(
    losses: Mapping[str, LossFunction], columns: Columns, dim: int
) -> dict[str, int]:
    """Bytes that a step adds to the memory of a fresh process."""
    with peak_memory.fresh_process() as pool:
        return {
            name: pool.submit(growth_here, loss, columns, dim).result()
            for name, loss in losses.items()
        }


def growth_here(loss: LossFunction, columns: Columns, dim: int) -> int:
    """The same of this process."""
    return peak_memory.growth_of(make_step(loss, columns, dim))
