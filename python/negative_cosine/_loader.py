"""Finds and opens the native library, or says why it cannot.

A library built for one TensorFlow minor release crashes or fails to resolve symbols in
another, so ``_build_info.json`` is compared with the running TensorFlow before anything
is opened.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from negative_cosine._build_info import (
    BUILD_INFO,
    PACKAGE_DIR,
    is_built_without_tensorflow,
    is_whole,
    read_build_info,
)

REINSTALL = (
    "reinstall negative-cosine where a C++ compiler is found, with: "
    "pip install --no-build-isolation --force-reinstall --no-deps . (in its sources)"
)


@dataclass(frozen=True)
class NativeLibrary:
    """The opened op library, or why there is none and what would fix it."""

    path: Path
    build_info: dict[str, Any] | None
    ops: Any | None = None
    problem: str = ""
    fix: str = ""


@functools.cache
def native_library() -> NativeLibrary:
    """The library of this installation; opened at the first call."""
    return open_library(PACKAGE_DIR, tf.__version__)


def open_library(folder: Path, tensorflow_version: str) -> NativeLibrary:
    """Opens the library in ``folder`` if it was built for ``tensorflow_version``."""
    path = folder / "_negative_cosine_ops.so"
    info_path = folder / BUILD_INFO
    build_info = read_build_info(folder)

    def failed(problem: str) -> NativeLibrary:
        return NativeLibrary(path, build_info, problem=problem, fix=REINSTALL)

    if is_built_without_tensorflow(build_info):
        return failed("the package was built with NEGATIVE_COSINE_TENSORFLOW=0")
    if missing := _what_is_missing(path, info_path):
        return failed(missing)
    if build_info is None:
        return failed(f"{info_path.name}, which describes the native library, is no JSON")
    built_for = str(build_info.get("tensorflow"))
    if _minor_release(built_for) != _minor_release(tensorflow_version):
        return failed(
            f"the native library was built for TensorFlow {built_for} and this is "
            f"TensorFlow {tensorflow_version}"
        )
    try:
        if not is_whole(path):
            return failed("the native library cannot be opened: the file is cut short")
        ops = tf.load_op_library(str(path))
    except (tf.errors.OpError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        return failed(f"the native library cannot be opened: {reason}")
    if not hasattr(ops, "negative_cosine_loss_grad"):
        return failed("the native library has no op NegativeCosineLoss")
    return NativeLibrary(path, build_info, ops=ops)


@functools.cache
def _probe_device(path: Path) -> str:
    """What the library says of the GPU in use: "" if its kernels can run there."""
    probe = ctypes.CDLL(str(path)).negative_cosine_cuda_problem
    probe.restype = ctypes.c_char_p
    return str(probe().decode())


def cuda_problem(library: NativeLibrary) -> str:
    """Why the CUDA kernels cannot run, "" if they can."""
    if not (library.build_info or {}).get("cuda"):
        return "the native library was built without CUDA kernels"
    return _probe_device(library.path)


@functools.cache
def xla_problem() -> str:
    """Why compiled functions cannot hold the op, "" if they can.

    The first call opens the library that tells XLA of the op: it stands apart from the
    op's, which works without it.
    """
    library = native_library()
    if library.ops is None:
        return library.problem
    path = library.path.with_name("_negative_cosine_xla.so")
    built = str((library.build_info or {}).get("xla"))
    if built != "built":
        return f"the library for XLA was not built: {built}"
    if not path.is_file():
        return f"the library for XLA is missing: {path.name}"
    try:
        if not is_whole(path):
            return "the library for XLA cannot be opened: the file is cut short"
        tf.load_library(str(path))
        probe = ctypes.CDLL(str(path)).negative_cosine_xla_problem
    except (tf.errors.OpError, OSError, AttributeError) as error:
        return f"the library for XLA cannot be opened: {str(error).splitlines()[0]}"
    probe.restype = ctypes.c_char_p
    return str(probe().decode())


def xla_kernel_available() -> bool:
    """Whether the op works in compiled functions (``jit_compile=True``)."""
    return not xla_problem()


def _what_is_missing(library: Path, build_info: Path) -> str:
    """What an installation lacks, "" if both files are there.

    A build writes the second when it has made everything else.
    """
    if library.is_file() and build_info.is_file():
        return ""
    if library.is_file():
        return (
            "the native library's build did not finish: there is "
            f"{library.name} and no {build_info.name}"
        )
    if build_info.is_file():
        return (
            f"the native library is missing: there is {build_info.name} and no "
            f"{library.name}"
        )
    return "the native library is missing: only the Python part is installed"


def _minor_release(version: str) -> list[str]:
    return version.split(".")[:2]
