"""What ``python -m negative_cosine`` reports of TensorFlow and the libraries for it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from importlib import metadata

import keras
import numpy as np
import tensorflow as tf

from negative_cosine._fixes import with_fix
from negative_cosine._loader import native_library, xla_fix, xla_problem
from negative_cosine._loss import choose_implementation

_OPS = ("NegativeCosineLoss", "NegativeCosineLossGrad")

Lines = Iterator[tuple[str, str]]


def versions() -> Lines:
    """The frameworks that are installed."""
    compiler = tf.version.COMPILER_VERSION
    yield "TensorFlow", f"{tf.__version__} of {_tensorflow_names()}, built with {compiler}"
    yield (
        "Keras, NumPy",
        f"{keras.__version__} ({keras.backend.backend()}), {np.__version__}",
    )


def _tensorflow_names() -> str:
    """The distributions with the module: more than one overwrite each other's files."""
    names = sorted({*metadata.packages_distributions().get("tensorflow", [])})
    return " and ".join(names) or "no distribution"


def libraries() -> Lines:
    """Whether TensorFlow has the op, and which kernels of it."""
    library = native_library()
    if library.ops is None:
        yield "native library", f"not loaded: {with_fix(library.problem, library.fix)}"
        return
    yield "native library", "loaded"
    problem = xla_problem()
    yield (
        "library for compiled functions",
        with_fix(problem, xla_fix()) if problem else "loaded",
    )
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
    """The GPUs, and what "auto" takes on each kind of device."""
    gpus = tf.config.list_physical_devices("GPU")
    yield "GPU", ", ".join(gpu.name for gpu in gpus) or "none that TensorFlow sees"
    for kind in dict.fromkeys(one.device_type for one in tf.config.list_physical_devices()):
        choice = choose_implementation(kind)
        reference = f"reference: {with_fix(choice.problem, choice.fix)}"
        yield f"auto on {kind}", "native" if choice.native else reference
