"""What a benchmark ran on, and how quickly it copies."""

from __future__ import annotations

import math
import platform
import re
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu_model import Device, Size

LARGE = 2**30  # bytes of a copy that no cache holds
SMALL = 2**14  # bytes of a copy that takes longer than its call


def cpu_name() -> str:
    """The processor's name where Linux gives it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    match = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return match[1] if match else platform.machine()


def numpy_copy_bandwidth(num_bytes: int, rounds: int = 10) -> float:
    """Bytes a second, read plus written, of NumPy's copy: the best of some rounds.

    A small copy is repeated, so that a round takes milliseconds.
    """
    source = np.ones(num_bytes, np.uint8)
    target = np.zeros_like(source)
    repeats = max(1, 2**27 // num_bytes)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(repeats):
            np.copyto(target, source)
        seconds.append(time.perf_counter() - start)
    return 2 * num_bytes * repeats / min(seconds)


def measured_cpu(size: Size) -> Device:
    """The bandwidths of a copy as large as the gathered table, and of a large one."""
    return Device(
        cpu_name(),
        l2_bandwidth=numpy_copy_bandwidth(max(SMALL, size.table_bytes // 2)),
        l2_capacity=math.inf,  # whichever cache holds the table was measured
        memory_bandwidth=numpy_copy_bandwidth(LARGE // 4),
    )


def measured_gpu(core: Any, rounds: int = 10) -> Device:
    """The bandwidths of copies on the device, in its L2 and in its memory."""
    information = core.device_info()
    l2_capacity = information["l2_bytes"]
    return Device(
        information["name"],
        l2_bandwidth=core.copy_bandwidth(l2_capacity // 4, rounds),
        l2_capacity=l2_capacity,
        memory_bandwidth=core.copy_bandwidth(LARGE, rounds),
    )


def package_version() -> str:
    """This package's version, read without importing it; empty if not installed."""
    try:
        return metadata.version("negative-cosine")
    except metadata.PackageNotFoundError:
        return ""


def cpu_facts(threads: int) -> dict[str, Any]:
    """What a row of the CPU ran on."""
    import tensorflow as tf
    from negative_cosine import _core

    return {
        "device": cpu_name(),
        "threads": threads,
        "cpu_kernels": _core.instruction_set(),
        "tensorflow": tf.__version__,
    }


def gpu_facts(core: Any) -> dict[str, Any]:
    """What a row of the GPU ran on, as the CUDA core knows it."""
    information = core.device_info()
    return {
        "device": information["name"],
        "driver": information["driver_version"],
        "cuda": information["runtime_version"],
    }


def tensorflow_gpu_facts() -> dict[str, Any]:
    """The same as TensorFlow knows it, which is without the driver."""
    import tensorflow as tf

    gpu = tf.config.list_physical_devices("GPU")[0]
    details = tf.config.experimental.get_device_details(gpu)
    return {"device": details.get("device_name", "GPU")}


def tensorflow_facts() -> dict[str, Any]:
    """TensorFlow, and the CUDA that it was built with."""
    import tensorflow as tf

    cuda = tf.sysconfig.get_build_info().get("cuda_version", "")
    return {"tensorflow": tf.__version__, "tensorflow_cuda": cuda}
