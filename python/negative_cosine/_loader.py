"""Finds and opens the native library, or says why it cannot.

A library built for one TensorFlow minor release crashes or fails to resolve symbols in
another, so ``_build_info.json`` is compared with the running TensorFlow before anything
is opened. Of libraries for several releases that of the running one is taken.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from negative_cosine import _fixes, _releases
from negative_cosine._build_info import (
    BUILD_INFO,
    PACKAGE_DIR,
    is_built_without_tensorflow,
    read_build_info,
)
from negative_cosine._library_file import CORE, file_problem


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
    """Opens the library in ``folder`` that was built for ``tensorflow_version``."""
    info_path = folder / BUILD_INFO
    build_info = read_build_info(folder)
    path = _releases.ops_path(folder, build_info, tensorflow_version)

    def failed(problem: str, file: Path = path, without: str = "") -> NativeLibrary:
        fix = _fixes.reinstall_without(without) if without else _fixes.fix_of(problem, file)
        return NativeLibrary(path, build_info, problem=problem, fix=fix)

    if is_built_without_tensorflow(build_info):
        asked = "NEGATIVE_COSINE_TENSORFLOW=0"
        return failed(f"the package was built with {asked}", without=asked)
    if not path.is_file() and not info_path.is_file():
        return failed(
            "the native library is missing: only the Python part is installed",
            without="NEGATIVE_COSINE_PYTHON_ONLY=1",
        )
    if missing := _what_is_missing(path, info_path):
        return failed(missing)
    if build_info is None:
        return failed(_problem_of_build_info(info_path), file=info_path)
    if problem := _releases.release_problem(build_info, tensorflow_version):
        releases = _releases.built_for(build_info)
        return NativeLibrary(
            path, build_info, problem=problem, fix=_fixes.other_release(releases)
        )
    core = folder / CORE
    if problem := file_problem(core):
        return failed(f"the native library needs {CORE}: {problem}", file=core)
    if problem := file_problem(path):
        return failed(f"the native library cannot be opened: {problem}")
    try:
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
    if _has_cuda(library):
        return _probe_device(library.path)
    _, _, reason = str((library.build_info or {}).get("devices")).partition(": ")
    problem = "the native library was built without CUDA kernels"
    return f"{problem}: {reason}" if reason else problem


def cuda_fix(library: NativeLibrary) -> str:
    """What would help where ``cuda_problem`` finds one.

    A problem of the device or its driver says itself what to change.
    """
    is_for_cuda = tf.test.is_built_with_cuda()  # GPUs of other makers are called GPU too
    lacks_kernels = is_for_cuda and not _has_cuda(library)
    return _fixes.with_cuda() if lacks_kernels else _fixes.ON_THE_CPU


def _has_cuda(library: NativeLibrary) -> bool:
    return bool((library.build_info or {}).get("cuda"))


def xla_problem() -> str:
    """Why compiled functions cannot hold the op, "" if they can.

    The first call opens the library that registers the op with XLA. It is separate from
    the op's own library, which works without it.
    """
    return _open_for_xla()[0]


def xla_fix() -> str:
    """What would help where ``xla_problem`` finds one."""
    return _open_for_xla()[1]


@functools.cache
def _open_for_xla() -> tuple[str, str]:
    """Opens the library for XLA: the problem, and its fix."""
    library = native_library()
    if library.ops is None:
        return library.problem, library.fix
    path = _releases.xla_path(library.path)
    built = str((library.build_info or {}).get("xla"))
    if built != "built":
        asked = built.startswith("NEGATIVE_COSINE_")
        fix = _fixes.reinstall_without(built) if asked else _fixes.UNCOMPILED
        return f"the library for XLA was not built: {built}", fix
    if not path.is_file():
        return f"the library for XLA is missing: {path.name}", _fixes.REINSTALL
    if problem := file_problem(path) or _failure_to_open_for_xla(path):
        problem = f"the library for XLA cannot be opened: {problem}"
        return problem, _fixes.fix_of(problem, path)
    refusal = str(_xla_probe(path)().decode())
    return refusal, _fixes.UNCOMPILED if refusal else ""


def _failure_to_open_for_xla(path: Path) -> str:
    """Opens the library, which then tells XLA of the op: why it fails, or ""."""
    try:
        tf.load_library(str(path))
        _xla_probe(path)
    except (tf.errors.OpError, OSError, AttributeError) as error:
        return str(error).splitlines()[0]
    return ""


def _xla_probe(path: Path) -> Any:
    """The function that says why XLA refused the op, "" where it accepts it."""
    probe = ctypes.CDLL(str(path)).negative_cosine_xla_problem
    probe.restype = ctypes.c_char_p
    return probe


def xla_kernel_available() -> bool:
    """Whether the op works in compiled functions (``jit_compile=True``)."""
    return not xla_problem()


def _what_is_missing(library: Path, build_info: Path) -> str:
    """What an installation of one of the two files lacks, "" if both are there.

    A build writes the second when it has made everything else.
    """
    if not build_info.is_file():
        return (
            "the native library is incomplete, its build did not finish: there is "
            f"{library.name} and no {build_info.name}"
        )
    if not library.is_file():
        return (
            f"the native library is missing: there is {build_info.name} and no "
            f"{library.name}"
        )
    return ""


def _problem_of_build_info(path: Path) -> str:
    """Why a build description cannot be used."""
    described = f"{path.name}, which describes the native library,"
    try:
        path.read_text()
    except OSError as error:
        return f"{described} cannot be read: {error.strerror}"
    except ValueError:
        pass  # bytes that are not text are not JSON either
    return f"{described} is not valid JSON"
