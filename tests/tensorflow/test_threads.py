"""Many Python threads at once: each call's results have the bits of a call alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import _core, fused_negative_cosine_loss, sample_negatives

from tests.support.cases import Batch, run_on_arrays
from tests.support.tensorflow_runs import run_loss

THREADS = 8
CALLS = 24
SOURCES = ["shuffle", "ring", "all", "indices"]

# Small ones, that one thread works on, and ones that several share.
BATCHES = [
    Batch((rows, rows + extra, 17, 5), dtype)
    for rows, extra in ((3, 4), (257, 40))
    for dtype in ("float32", "float16", "float64")
]


def bits(results: dict[str, Any]) -> dict[str, bytes]:
    return {name: np.asarray(value).tobytes() for name, value in results.items()}


def at_once(call: Callable[[int], Any]) -> list[Any]:
    """What ``call`` returns for 0 to ``CALLS - 1``, from threads that start together."""
    start = threading.Barrier(THREADS)

    def in_thread(first: int) -> list[Any]:
        start.wait(timeout=60)
        return [call(number) for number in range(first, CALLS, THREADS)]

    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(in_thread, range(THREADS)))
    return [parts[number % THREADS][number // THREADS] for number in range(CALLS)]


def batch_and_source(number: int) -> tuple[Batch, str]:
    return BATCHES[number % len(BATCHES)], SOURCES[number % len(SOURCES)]


def run_eagerly(number: int) -> dict[str, bytes]:
    batch, source = batch_and_source(number)
    return bits(run_loss(batch, source, batch.only("doc_ids", "scale"), "native"))


def run_the_core(number: int) -> dict[str, bytes]:
    batch, source = batch_and_source(number)
    return bits(run_on_arrays(_core, batch, source, {}, num_threads=2))


@pytest.mark.parametrize("call", [run_eagerly, run_the_core])
def test_calls_at_once_give_the_bits_of_calls_one_by_one(
    call: Callable[[int], dict[str, bytes]],
) -> None:
    alone = [call(number) for number in range(CALLS)]
    assert at_once(call) == alone


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "compiled"])
def test_threads_that_share_a_function_get_the_bits_of_one_thread(compiled: bool) -> None:
    @tf.function(jit_compile=compiled, autograph=False)
    def step(query: tf.Tensor, doc: tf.Tensor, seed: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([query, doc])
            loss = fused_negative_cosine_loss(
                query, doc, 7, seed=seed, implementation="native"
            )
        return loss, *tape.gradient(loss, [query, doc])

    batch = Batch((257, 300, 33, 7), "float32")
    query, doc = tf.constant(batch.query), tf.constant(batch.doc)

    def call(number: int) -> list[bytes]:
        return [part.numpy().tobytes() for part in step(query, doc, [number, 1])]

    alone = [call(number) for number in range(CALLS)]
    assert len({parts[0] for parts in alone}) == CALLS
    assert at_once(call) == alone


def test_an_error_in_one_thread_is_its_own() -> None:
    batch = Batch((257, 300, 33, 7), "float32")
    wrong = batch.indices.copy()
    wrong[200, 3] = 300

    def call(number: int) -> Any:
        try:
            return fused_negative_cosine_loss(
                batch.query,
                batch.doc,
                negative_indices=wrong if number % 3 == 0 else batch.indices,
                implementation="native",
            ).numpy()
        except tf.errors.InvalidArgumentError as error:
            return "[200, 3]" in str(error)

    losses = at_once(call)
    assert losses[::3] == [True] * len(losses[::3])
    assert len({loss.tobytes() for loss in losses[1::3] + losses[2::3]}) == 1


def test_a_first_use_by_many_threads_at_once_traces_what_one_would() -> None:
    tables = at_once(
        lambda number: sample_negatives(50, 60, 3, "ring", seed=(number % 2, 5)).numpy()
    )
    for number, table in enumerate(tables):
        expected = _core.sample_negatives(50, 60, 3, number % 2, 5, "ring")
        np.testing.assert_array_equal(table, expected)
