"""What a loss and its two gradients take: milliseconds, and megabytes beside the inputs."""

from __future__ import annotations

import examples.quiet_tensorflow  # noqa: F401 (before TensorFlow)

# isort: split
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from examples.losses import LossFunction
from examples.peak_memory import fresh_process, growth_of

ROUNDS, SECONDS = 25, 60.0  # at most, of all together

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
    times = milliseconds(steps)
    return {
        name: {"loss_ms": times.get(name, np.nan), "loss_mb": memory[name]}
        for name in losses
    }


def milliseconds(steps: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The median time of each step; they take turns, so that all meet the same machine."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()  # traces
    end = time.perf_counter() + SECONDS
    for _ in range(ROUNDS):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(1e3 * (time.perf_counter() - start))
        if time.perf_counter() > end:
            break
    return {name: float(np.median(rounds)) for name, rounds in times.items()}


def make_step(loss: LossFunction, columns: Columns, dim: int) -> Callable[[], object]:
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

    return lambda: step(query, doc)[0].numpy()


def growths_of(
    losses: Mapping[str, LossFunction], columns: Columns, dim: int
) -> dict[str, int]:
    """Bytes that a step adds to the memory of a fresh process."""
    with fresh_process() as pool:
        return {
            name: pool.submit(growth_here, loss, columns, dim).result()
            for name, loss in losses.items()
        }


def growth_here(loss: LossFunction, columns: Columns, dim: int) -> int:
    """The same of this process."""
    tf.get_logger().setLevel("ERROR")  # each loss is traced anew, which is meant
    return growth_of(make_step(loss, columns, dim))
