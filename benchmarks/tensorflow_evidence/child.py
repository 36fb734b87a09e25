"""What the steps' programs share: their options, the device, how close a result must be."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.steps import LeftOutError


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """The option that every step's program has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="everything on the CPU, at small sizes",
    )
    return parser


def start_tensorflow(dry_run: bool) -> str:
    """The device to use. Ends the program where TensorFlow does not see it.

    With soft placement all would run, on the CPU.
    """
    device = choose_device(dry_run)
    if not tf.config.list_logical_devices(kind_of(device).upper()):
        sys.exit(f"TensorFlow sees no {kind_of(device).upper()}")
    return device


def choose_device(dry_run: bool) -> str:
    """The first GPU, or in a dry run the second of two logical CPUs.

    Ops without a kernel for it run on the CPU, in graphs too; TensorFlow takes a GPU's
    memory as it needs it.
    """
    tf.get_logger().setLevel("ERROR")  # new functions look like retracing
    tf.config.set_soft_device_placement(True)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    if not dry_run:
        return "GPU:0"
    (cpu,) = tf.config.list_physical_devices("CPU")
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    return "CPU:1"


def kind_of(device: str) -> str:
    """The kind of a device as benchmarks/ways.py calls it: "gpu" or "cpu"."""
    return device.split(":")[0].lower()


@contextmanager
def needing_a_library() -> Iterator[None]:
    """Leaves a part out where TensorFlow itself cannot run, and says its error."""
    try:
        yield
    except tf.errors.OpError as error:
        raise LeftOutError(f"{type(error).__name__}: {error.message}") from error


def require_close(what: str, actual: Any, expected: Any, tolerance: float) -> None:
    """Raises AssertionError unless equal, relative to the largest element of expected."""
    actual, expected = (np.asarray(value, np.float64) for value in (actual, expected))
    assert actual.shape == expected.shape, (what, actual.shape, expected.shape)
    difference = float(np.abs(actual - expected).max() / np.abs(expected).max())
    # NaN is a difference too.
    assert difference <= tolerance, f"{what} is off by {difference:.2g}, not {tolerance:g}"


def require_device(what: str, tensors: Sequence[tf.Tensor], device: str) -> None:
    """Raises AssertionError unless all are in the device's memory."""
    found = {tensor.backing_device for tensor in tensors}
    elsewhere = sorted(name for name in found if device.upper() not in name)
    assert not elsewhere, f"{what} is on {', '.join(elsewhere)}, not on {device}"
