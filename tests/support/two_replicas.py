"""The strategy that tests take for two devices."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf


@functools.cache
def mirrored_strategy() -> Any:
    """Two CPUs, see conftest.py.

    One for all tests: two strategies of the same devices in a process would take the same
    keys for their collective operations, and TensorFlow then aborts them.
    """
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
