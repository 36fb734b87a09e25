"""The loss inside of what TensorFlow runs functions in, and after what goes wrong there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss

IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["native", "reference"])
STEPS, ROWS, DIM = 4, 6, 8
RANDOM = np.random.default_rng(0)
QUERIES = tf.constant(RANDOM.normal(size=(STEPS, ROWS, DIM)), tf.float32)
DOCS = tf.constant(RANDOM.normal(size=(STEPS, ROWS, DIM)), tf.float32)


def loss_of(query: tf.Tensor, doc: tf.Tensor, implementation: str = "native") -> tf.Tensor:
    return fused_negative_cosine_loss(
        query, doc, 3, seed=(1, 2), implementation=implementation
    )


def losses_by_one_call_each() -> list[float]:
    return [float(loss_of(query, doc)) for query, doc in zip(QUERIES, DOCS, strict=True)]


def in_a_dataset(implementation: str) -> list[Any]:
    """Mapped in parallel."""
    rows = tf.data.Dataset.from_tensor_slices((QUERIES, DOCS))
    losses = rows.map(
        lambda query, doc: loss_of(query, doc, implementation), num_parallel_calls=4
    )
    return list(losses.as_numpy_iterator())


def in_map_fn(implementation: str) -> Any:
    return tf.map_fn(
        lambda pair: loss_of(pair[0], pair[1], implementation),
        (QUERIES, DOCS),
        fn_output_signature=tf.float32,
        parallel_iterations=4,
    )


def in_vectorized_map(implementation: str) -> Any:
    """TensorFlow has no rule to make one op of many losses: it takes them in a loop."""
    return tf.vectorized_map(
        lambda pair: loss_of(pair[0], pair[1], implementation), (QUERIES, DOCS)
    )


def in_while_loop(implementation: str) -> Any:
    def body(i: tf.Tensor, losses: tf.TensorArray) -> Any:
        return i + 1, losses.write(i, loss_of(QUERIES[i], DOCS[i], implementation))

    losses = tf.TensorArray(tf.float32, STEPS)
    return tf.while_loop(lambda i, _: i < STEPS, body, (0, losses))[1].stack()


def in_a_py_function(implementation: str) -> Any:
    step = tf.function(
        lambda: [
            tf.py_function(
                lambda query, doc: loss_of(query, doc, implementation),
                (QUERIES[i], DOCS[i]),
                tf.float32,
            )
            for i in range(STEPS)
        ]
    )
    return step()


@IMPLEMENTATIONS
@pytest.mark.parametrize(
    "losses",
    [in_a_dataset, in_map_fn, in_vectorized_map, in_while_loop, in_a_py_function],
)
def test_losses_inside_are_those_outside(
    losses: Callable[[str], Any], implementation: str
) -> None:
    np.testing.assert_allclose(losses(implementation), losses_by_one_call_each(), rtol=1e-5)


def gradient_of(loss: Callable[[tf.Tensor], tf.Tensor]) -> Any:
    query = QUERIES[0]
    with tf.GradientTape() as tape:
        tape.watch(query)
        value = loss(query)
    return tape.gradient(value, query)


@IMPLEMENTATIONS
def test_the_gradient_passes_through_a_loop(implementation: str) -> None:
    def twice(query: tf.Tensor) -> tf.Tensor:
        return tf.while_loop(
            lambda i, _: i < 2,
            lambda i, total: (i + 1, total + loss_of(query, DOCS[0], implementation)),
            (0, 0.0),
        )[1]

    np.testing.assert_allclose(
        gradient_of(tf.function(twice)),
        2 * gradient_of(lambda query: loss_of(query, DOCS[0])),
        rtol=1e-4,
        atol=1e-6,
    )


@IMPLEMENTATIONS
@pytest.mark.parametrize("in_function", [False, True], ids=["eager", "graph"])
def test_a_recomputed_loss_has_the_gradient_of_a_kept_one(
    in_function: bool, implementation: str
) -> None:
    def loss(query: tf.Tensor) -> tf.Tensor:
        return tf.recompute_grad(lambda rows: loss_of(rows, DOCS[0], implementation))(query)

    np.testing.assert_allclose(
        gradient_of(tf.function(loss) if in_function else loss),
        gradient_of(lambda query: loss_of(query, DOCS[0])),
        rtol=1e-4,
        atol=1e-6,
    )


@IMPLEMENTATIONS
def test_a_custom_gradient_may_hold_the_loss(implementation: str) -> None:
    @tf.custom_gradient
    def reversed_loss(query: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(query)
            loss = loss_of(query, DOCS[0], implementation)
        by_query = tape.gradient(loss, query)
        return loss, lambda upstream: -upstream * by_query

    np.testing.assert_allclose(
        gradient_of(reversed_loss),
        -gradient_of(lambda query: loss_of(query, DOCS[0])),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize("in_function", [False, True], ids=["eager", "graph"])
def test_a_second_derivative_says_where_there_is_one(in_function: bool) -> None:
    def norm_of_gradient(query: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(query)
            loss = loss_of(query, DOCS[0])
        return tf.norm(tape.gradient(loss, query))

    with pytest.raises(LookupError, match=r"first derivatives only.*'reference'"):
        gradient_of(tf.function(norm_of_gradient) if in_function else norm_of_gradient)


# --- After an error. -------------------------------------------------------------------


@tf.function(autograph=False)
def loop_over_tables(tables: tf.Tensor) -> tf.Tensor:
    """The losses of one table of candidates after the other."""
    return tf.map_fn(
        lambda table: fused_negative_cosine_loss(
            QUERIES[0], DOCS[0], negative_indices=table, implementation="native"
        ),
        tables,
        fn_output_signature=tf.float32,
    )


def test_an_index_error_in_one_step_of_a_loop_leaves_the_next_run_right() -> None:
    tables = np.tile(np.array([[1], [2], [3], [4], [5], [0]]), (5, 1, 1))
    before = loop_over_tables(tables)
    wrong = tables.copy()
    wrong[3, 2, 0] = ROWS
    for _ in range(3):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"position \[2, 0\]"):
            loop_over_tables(wrong)
        np.testing.assert_array_equal(loop_over_tables(tables), before)


def test_a_neighbour_that_fails_leaves_the_loss_right() -> None:
    @tf.function(autograph=False)
    def step(fails: tf.Tensor) -> Any:
        check = tf.debugging.Assert(tf.logical_not(fails), ["the neighbour fails"])
        loss = loss_of(QUERIES[0], DOCS[0])
        with tf.control_dependencies([check]):
            return tf.identity(loss)

    before = step(tf.constant(False))
    for _ in range(20):
        with pytest.raises(tf.errors.InvalidArgumentError, match="neighbour"):
            step(tf.constant(True))
    np.testing.assert_array_equal(step(tf.constant(False)), before)


def test_an_interrupted_call_leaves_the_process_usable() -> None:
    rows = tf.random.stateless_normal([4096, 64], [1, 2])

    def long_call() -> tf.Tensor:
        return fused_negative_cosine_loss(
            rows, rows, 500, seed=(1, 2), implementation="native"
        )

    before = long_call()

    def calls_until_interrupted() -> None:
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            long_call()

    # A worker of pytest-xdist may be born with interrupts ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupt = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            calls_until_interrupted()
    finally:
        signal.signal(signal.SIGINT, handler)
    np.testing.assert_array_equal(long_call(), before)


AFTER_A_FORK = """
import os, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, tensorflow as tf
from negative_cosine import fused_negative_cosine_loss
rows = np.random.default_rng(0).normal(size=(2048, 64)).astype("f")

def bits():
    query, doc = tf.constant(rows), tf.constant(rows[::-1].copy())
    with tf.GradientTape() as tape:
        tape.watch([query, doc])
        loss = fused_negative_cosine_loss(
            query, doc, 50, seed=(1, 2), implementation="native")
    return [part.numpy().tobytes() for part in (loss, *tape.gradient(loss, [query, doc]))]

before = bits()
child = os.fork()
if child == 0:
    os._exit(0 if bits() == before else 1)
assert bits() == before
print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_of_a_fork_gets_the_same_bits_without_the_parents_threads() -> None:
    # TensorFlow's thread pool is not there in the child: its own ops may wait for ever,
    # but a loop of the loss is finished by the thread that began it.
    result = subprocess.run(
        [sys.executable, "-c", AFTER_A_FORK],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "child 0" in result.stdout, result.stderr
