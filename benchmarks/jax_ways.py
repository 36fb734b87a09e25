"""Steps of JAX under jit: a sampled softmax and a full one."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

# By itself it takes three quarters of a GPU's memory, and leaves too little to the others.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problem import SCALE, Array, Problem, Step
from benchmarks.ways import Way

# Of query, doc, num_negatives, a key for random numbers, and the candidates' table.
Loss = Callable[..., jax.Array]


@functools.cache
def start_with_threads(threads: int) -> None:
    """Starts JAX's CPU client with at most this many threads.

    It has no option for it, but makes a thread for each processor that its maker may use,
    and they inherit its affinity. A client that runs already keeps its threads.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:threads])
    try:
        jax.devices("cpu")
    finally:
        os.sched_setaffinity(0, allowed)


def unit_rows(rows: jax.Array) -> jax.Array:
    """Rows divided by their norms."""
    return rows / jnp.linalg.norm(rows, axis=1, keepdims=True)


def sampled_loss(
    query: jax.Array, doc: jax.Array, num_negatives: int, key: jax.Array, table: Any
) -> jax.Array:
    """Unit rows, one gather by random indices, one cross-entropy."""
    query, doc = unit_rows(query), unit_rows(doc)
    if table is None:
        shape = (len(query), num_negatives)
        table = jax.random.randint(key, shape, 0, len(doc), jnp.int32)
    positive = jnp.sum(query * doc[: len(query)], axis=1, keepdims=True)
    negative = jnp.einsum("bd,bkd->bk", query, doc[table])
    logits = jnp.concatenate([positive, negative], axis=1) * SCALE
    return -jnp.mean(jax.nn.log_softmax(logits)[:, 0])


def in_batch_loss(
    query: jax.Array, doc: jax.Array, num_negatives: int, key: jax.Array, table: Any
) -> jax.Array:
    """Unit rows, one product with all documents, one cross-entropy with its diagonal."""
    del num_negatives, key, table
    query, doc = unit_rows(query), unit_rows(doc)
    logits = query @ doc.T * SCALE
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - jnp.diagonal(logits))


LOSSES: dict[str, Loss] = {"sampled": sampled_loss, "in-batch": in_batch_loss}


def find_device(device: str, threads: int) -> jax.Device:
    """JAX's own for the benchmark's ``cpu`` or ``gpu``.

    Raises:
        RuntimeError: JAX finds no GPU.
    """
    if device == "cpu":
        start_with_threads(threads)
    return jax.devices(device)[0]


def compile_step(
    way: Way, training: bool, problem: Problem, where: jax.Device
) -> tuple[Any, tuple[jax.Array, ...]]:
    """A function under jit, and its arguments: a random state, the query, the doc.

    It returns the next state, and the results.
    """
    if problem.dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    query, doc = (
        jax.device_put(rows.astype(jnp.dtype(problem.dtype)), where)
        for rows in (problem.query, problem.doc)
    )
    table = problem.candidates.table if problem.candidates else None

    def loss(query: jax.Array, doc: jax.Array, key: jax.Array) -> jax.Array:
        return LOSSES[way.loss](query, doc, problem.num_negatives, key, table)

    @jax.jit
    def step(key: jax.Array, query: jax.Array, doc: jax.Array) -> Any:
        key, drawn = jax.random.split(key)
        if not training:
            return key, (loss(query, doc, drawn),)
        value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(query, doc, drawn)
        return key, (value, *gradients)

    return step, (jax.device_put(jax.random.key(0), where), query, doc)


def make_step(
    way: Way, training: bool, problem: Problem, device: str, threads: int
) -> Step:
    """A step on inputs that stay where they are."""
    where = find_device(device, threads)
    step, (state, *inputs) = compile_step(way, training, problem, where)

    def run() -> Any:
        nonlocal state
        state, results = step(state, *inputs)
        return results

    return Step(run, jax.block_until_ready, outputs)


def planned_bytes(
    way: Way, training: bool, problem: Problem, device: str, threads: int
) -> int:
    """What XLA's plan of a step holds beside the inputs: temporaries and results.

    The allocator's own peak would be that of the process, from which no step can be told.
    """
    where = find_device(device, threads)
    step, arguments = compile_step(way, training, problem, where)
    plan = step.lower(*arguments).compile().memory_analysis()
    return int(plan.temp_size_in_bytes + plan.output_size_in_bytes)


def outputs(arrays: tuple[jax.Array, ...]) -> list[Array]:
    """A step's results in NumPy."""
    return [np.asarray(array).astype(np.float64) for array in arrays]
