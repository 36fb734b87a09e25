"""Steps of JAX under jit, on the CPU."""

from __future__ import annotations

import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problem import SCALE, Array, Problem, Step
from benchmarks.ways import Way


@functools.cache
def start_with_threads(threads: int) -> None:
    """Starts JAX's CPU client with at most so many threads.

    It has no option for it, but makes a thread for each processor that its maker may use,
    and they inherit its affinity. A client that runs already keeps its threads.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:threads])
    try:
        jax.devices("cpu")
    finally:
        os.sched_setaffinity(0, allowed)


def sampled_loss(
    query: jax.Array, doc: jax.Array, num_negatives: int, key: jax.Array, table: Any
) -> jax.Array:
    """Unit rows, one gather by random indices, one cross-entropy."""
    query, doc = (
        rows / jnp.linalg.norm(rows, axis=1, keepdims=True) for rows in (query, doc)
    )
    if table is None:
        table = jax.random.randint(key, (len(doc), num_negatives), 0, len(doc))
    positive = jnp.sum(query * doc, axis=1, keepdims=True)
    negative = jnp.einsum("bd,bkd->bk", query, doc[table])
    logits = jnp.concatenate([positive, negative], axis=1) * SCALE
    return -jnp.mean(jax.nn.log_softmax(logits)[:, 0])


def make_step(
    way: Way, training: bool, problem: Problem, device: str, threads: int
) -> Step:
    """A step on inputs that stay where they are."""
    del way
    start_with_threads(threads)
    if problem.dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    where = jax.devices(device)[0]
    query, doc = (
        jax.device_put(rows.astype(jnp.dtype(problem.dtype)), where)
        for rows in (problem.query, problem.doc)
    )
    table = problem.candidates.table if problem.candidates else None

    def loss(query: jax.Array, doc: jax.Array, key: jax.Array) -> jax.Array:
        return sampled_loss(query, doc, problem.num_negatives, key, table)

    @jax.jit
    def step(key: jax.Array, query: jax.Array, doc: jax.Array) -> Any:
        key, drawn = jax.random.split(key)
        if not training:
            return key, (loss(query, doc, drawn),)
        value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(query, doc, drawn)
        return key, (value, *gradients)

    state = jax.device_put(jax.random.key(0), where)

    def run() -> Any:
        nonlocal state
        state, results = step(state, query, doc)
        return results

    return Step(run, jax.block_until_ready, outputs)


def outputs(arrays: tuple[jax.Array, ...]) -> list[Array]:
    """A step's results in NumPy."""
    return [np.asarray(array).astype(np.float64) for array in arrays]
