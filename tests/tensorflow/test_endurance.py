"""Ten thousand steps with flat memory, and a leak that the same gate sees."""

from __future__ import annotations

import ctypes
import gc
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import _core, fused_negative_cosine_loss

from tests.support.cases import Batch, run_on_arrays

STEPS = 10_000
WARM_UP = 1000
MOST_GROWTH = 8 * 2**20

BATCH = Batch((16, 20, 8, 5), "float32")
QUERY, DOC = tf.constant(BATCH.query), tf.constant(BATCH.doc)
IDS = tf.constant(BATCH.options["doc_ids"])


LIBC = ctypes.CDLL(None)


class MallocInfo(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def allocated_bytes() -> int:
    """What malloc has given out, of whatever memory: also of what other tests freed.

    0 where glibc is older than 2.33, which counts up to 4 GiB alone.
    """
    if not hasattr(LIBC, "mallinfo2"):
        return 0
    LIBC.mallinfo2.restype = MallocInfo
    info = LIBC.mallinfo2()
    return int(info.uordblks + info.hblkhd)


def resident_bytes() -> int:
    """The memory of this process, whoever gave it out.

    What other tests have freed goes back to the machine first, as far as it can: a page
    with one object on it stays, and a leak can hide there from this number alone.
    """
    gc.collect()
    LIBC.malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def growth(step: Callable[[], Any], steps: int = STEPS) -> int:
    """Bytes that ``steps`` steps add, after some that fill the caches."""
    for _ in range(WARM_UP):
        step()
    before = resident_bytes(), allocated_bytes()
    for _ in range(steps):
        step()
    after = resident_bytes(), allocated_bytes()
    return max(last - first for first, last in zip(before, after, strict=True))


def training_step(query: tf.Tensor, doc: tf.Tensor) -> Any:
    with tf.GradientTape() as tape:
        tape.watch([query, doc])
        loss = fused_negative_cosine_loss(
            query, doc, 5, doc_ids=IDS, implementation="native"
        )
    return tape.gradient(loss, [query, doc])


def eager_step() -> Any:
    return training_step(QUERY, DOC)


graph_function = tf.function(training_step, autograph=False)
compiled_function = tf.function(training_step, autograph=False, jit_compile=True)


def graph_step() -> Any:
    return graph_function(QUERY, DOC)


def compiled_step() -> Any:
    return compiled_function(QUERY, DOC)


def step_by_indices() -> Any:
    with tf.GradientTape() as tape:
        tape.watch(DOC)
        loss = fused_negative_cosine_loss(
            QUERY, DOC, negative_indices=BATCH.indices, implementation="native"
        )
    return tape.gradient(loss, DOC)


def step_that_fails() -> None:
    """An index outside the documents, which the kernel refuses."""
    with pytest.raises(tf.errors.InvalidArgumentError):
        fused_negative_cosine_loss(
            QUERY, DOC, negative_indices=BATCH.indices + 20, implementation="native"
        )


def step_that_fails_in_tensorflow() -> None:
    """An error of an operation of TensorFlow's own, which keeps some memory of each."""
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.gather(DOC, BATCH.indices + 20)


def core_step() -> Any:
    return run_on_arrays(_core, BATCH, "shuffle", {}, num_threads=1)


def core_step_that_fails() -> None:
    with pytest.raises(ValueError, match="got 20"):
        _core.negative_cosine_loss(
            BATCH.query, BATCH.doc, negative_indices=np.full((16, 5), 20)
        )


@pytest.mark.parametrize(
    "step",
    [
        eager_step,
        graph_step,
        compiled_step,
        pytest.param(step_by_indices, marks=pytest.mark.nightly),
        core_step,
    ],
)
def test_ten_thousand_steps_leave_memory_flat(step: Callable[[], Any]) -> None:
    assert growth(step) < MOST_GROWTH


def test_ten_thousand_steps_under_set_seed_leave_memory_flat() -> None:
    # There TensorFlow gives each random op a seed of its own, and keeps its kernel.
    tf.random.set_seed(1)
    assert growth(eager_step) < MOST_GROWTH


def test_ten_thousand_errors_of_the_core_leave_memory_flat() -> None:
    assert growth(core_step_that_fails) < MOST_GROWTH


@pytest.mark.nightly
def test_ten_thousand_errors_keep_what_tensorflow_keeps_of_its_own() -> None:
    of_tensorflow = growth(step_that_fails_in_tensorflow)
    assert growth(step_that_fails) < of_tensorflow + MOST_GROWTH


def test_a_leak_of_two_kibibytes_a_step_is_seen() -> None:
    kept = []

    def leaking_step() -> None:
        kept.append(np.ones(2048, np.uint8))

    assert growth(leaking_step) > MOST_GROWTH
    assert len(kept) == WARM_UP + STEPS
