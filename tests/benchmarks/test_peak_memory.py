"""The peak memory of steps on the CPU, measured in a process of its own."""

from __future__ import annotations

from typing import Any

import pytest

from examples.peak_memory import fresh_process, growth_of

ROWS = 2000


def tensorflow_product() -> Any:
    """A step of TensorFlow that needs ``ROWS * ROWS`` floats."""
    import tensorflow as tf

    rows = tf.ones([ROWS, 8])
    run = tf.function(lambda: tf.reduce_sum(tf.matmul(rows, rows, transpose_b=True)))
    return lambda: run().numpy()


def numpy_product() -> Any:
    """The same of NumPy."""
    import numpy as np

    rows = np.ones([ROWS, 8], np.float32)
    return lambda: float((rows @ rows.T).sum())


def growth_here(make: Any) -> int:
    """The growth in this process, after a warm-up that needed as much."""
    return growth_of(make())


@pytest.mark.parametrize("make", [tensorflow_product, numpy_product])
@pytest.mark.parametrize("onednn", ["0", "1"])
def test_a_steps_peak_is_seen_although_the_warm_up_took_as_much(
    make: Any, onednn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", onednn)
    with fresh_process() as pool:
        growth = pool.submit(growth_here, make).result()
    assert pytest.approx(growth, rel=0.25) == 4 * ROWS**2
