"""``python -m negative_cosine``: a report to paste into a bug report."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import platform
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import negative_cosine
from negative_cosine._loader import (
    NativeLibrary,
    is_whole,
    native_library,
    xla_problem,
)
from negative_cosine._loss import choose_implementation

_OPS = ("NegativeCosineLoss", "NegativeCosineLossGrad")
_CPU_FLAGS = ("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq")


def main() -> None:
    """Prints the report."""
    for topic, text in report_lines():
        print(f"{topic + ':':<36} {text}")


def report_lines() -> Iterator[tuple[str, str]]:
    """The report's topics and what is found for each."""
    library = native_library()
    yield "negative_cosine", negative_cosine.__version__
    yield "Python", f"{platform.python_version()} on {platform.platform()}"
    yield "TensorFlow", f"{tf.__version__}, built with {tf.version.COMPILER_VERSION}"
    yield (
        "Keras, NumPy",
        f"{keras.__version__} ({keras.backend.backend()}), {np.__version__}",
    )
    yield from _build_lines(library)
    yield "CPU", f"{platform.machine()}, {' '.join(_cpu_flags()) or 'flags unknown'}"
    yield "CPU kernels in use", _instruction_set()
    gpus = tf.config.list_physical_devices("GPU")
    yield "GPU", ", ".join(gpu.name for gpu in gpus) or "none that TensorFlow sees"
    for device, on_gpu in (("CPU", False), ("GPU", True)):
        if on_gpu and not gpus:
            continue
        choice = choose_implementation(on_gpu)
        verdict = "native" if choice.native else f"reference: {choice.problem}"
        yield f"auto on {device}", verdict


def _build_lines(library: NativeLibrary) -> Iterator[tuple[str, str]]:
    if library.build_info is None:
        yield "built for", "not known: there is no _build_info.json that can be read"
    else:
        info = ", ".join(f"{key} {value}" for key, value in library.build_info.items())
        yield "built for", info
    if library.ops is None:
        yield (
            "native library",
            f"not loaded: {library.problem}. To mend it, {library.mend}.",
        )
        return
    yield "native library", "loaded"
    yield "library for compiled functions", xla_problem() or "loaded"
    opened = ctypes.CDLL(str(library.path))
    describe = opened.negative_cosine_registered_kernels
    describe.restype = ctypes.c_char_p
    for op in _OPS:
        kernels = describe(op.encode()).decode().split("\n")
        yield (
            f"kernels of {op}",
            "; ".join(line.strip() for line in kernels if line.strip()),
        )


def _instruction_set() -> str:
    spec = importlib.util.find_spec("negative_cosine._core")
    if spec is None or spec.origin is None:
        return f"not known: there is no _core for Python {platform.python_version()}"
    if not is_whole(Path(spec.origin)):
        return f"not known: {Path(spec.origin).name} is cut short"
    try:
        core = importlib.import_module("negative_cosine._core")
    except ImportError as error:
        return f"none: {error}"
    return str(core.instruction_set())


def _cpu_flags() -> list[str]:
    try:
        with open("/proc/cpuinfo") as file:
            flags = next(line for line in file if line.startswith("flags")).split()
    except (OSError, StopIteration):
        return []
    return [flag for flag in _CPU_FLAGS if flag in flags]


if __name__ == "__main__":
    main()
