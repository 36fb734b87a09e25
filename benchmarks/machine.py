"""What a benchmark ran on, and how quickly a GPU copies."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.gpu.gpu_model import Device

ROOT = Path(__file__).parent.parent
LARGE = 2**30  # bytes of a copy that no cache holds


def cpu_name() -> str:
    """The processor's name where Linux gives it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    match = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return match[1] if match else platform.machine()


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


def commit() -> str:
    """What the sources are: by git, or as `make bare` wrote it down; empty if unknown."""
    described = ROOT / "commit.txt"
    if described.is_file():
        return described.read_text().strip()
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def version(package: str) -> str:
    """An installed package's version, read without importing it; empty if there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def cpu_facts(threads: int) -> dict[str, Any]:
    """What a row of the CPU ran on."""
    import tensorflow as tf
    from negative_cosine import _core

    return {
        "device": cpu_name(),
        "processors": os.cpu_count(),
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
