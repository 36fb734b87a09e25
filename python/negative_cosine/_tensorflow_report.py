"""What ``python -m negative_cosine`` says of TensorFlow, and of the libraries for it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from negative_cosine._loader import native_library, xla_problem
from negative_cosine._loss import choose_implementation

_OPS = ("NegativeCosineLoss", "NegativeCosineLossGrad")

Lines = Iterator[tuple[str, str]]


def versions() -> Lines:
    """The frameworks that are installed."""
    yield "TensorFlow", f"{tf.__version__}, built with {tf.version.COMPILER_VERSION}"
    yield (
        "Keras, NumPy",
        f"{keras.__version__} ({keras.backend.backend()}), {np.__version__}",
    )


def libraries() -> Lines:
    """Whether TensorFlow has the op, and which kernels of it."""
    library = native_library()
    if library.ops is None:
        yield (
            "native library",
            f"not loaded: {library.problem}. To fix it, {library.fix}.",
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


def devices() -> Lines:
    """The GPUs, and what "auto" takes on each device."""
    gpus = tf.config.list_physical_devices("GPU")
    yield "GPU", ", ".join(gpu.name for gpu in gpus) or "none that TensorFlow sees"
    for device, on_gpu in (("CPU", False), ("GPU", True)):
        if on_gpu and not gpus:
            continue
        choice = choose_implementation(on_gpu)
        verdict = "native" if choice.native else f"reference: {choice.problem}"
        yield f"auto on {device}", verdict
