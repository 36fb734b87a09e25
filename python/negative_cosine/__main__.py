"""``python -m negative_cosine``: a report to paste into a bug report."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import negative_cosine
from negative_cosine._build_info import (
    PACKAGE_DIR,
    has_numpy_modules_alone,
    read_build_info,
    what_is_there,
)
from negative_cosine._library_file import CORE, file_problem

_CPU_FLAGS = ("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq")

_WARPGROUPS = "NEGATIVE_COSINE_WARPGROUPS"

Lines = Iterator[tuple[str, str]]  # topics, and what is found for each


def main() -> None:
    """Prints the report."""
    for topic, text in report_lines():
        print(f"{topic + ':':<36} {text}")


def report_lines() -> Lines:
    """The report, as far as there is something to report."""
    yield "negative_cosine", negative_cosine.__version__
    yield "Python", f"{platform.python_version()} on {platform.platform()}"
    if has_numpy_modules_alone():
        yield "NumPy", np.__version__
        yield "TensorFlow", f"none: {what_is_there()}"
        yield from _build_lines()
        yield from _cpu_lines()
        yield "GPU", _gpu()
        return
    # TensorFlow may be missing, which the lines above then say.
    from negative_cosine import _tensorflow_report

    yield from _tensorflow_report.versions()
    yield from _build_lines()
    yield from _tensorflow_report.libraries()
    yield from _cpu_lines()
    yield from _tensorflow_report.devices()


def _build_lines() -> Lines:
    build_info = read_build_info(PACKAGE_DIR)
    if build_info is None:
        yield "built for", "not known: there is no _build_info.json that can be read"
        return
    yield "built for", ", ".join(f"{key} {value}" for key, value in build_info.items())
    if any(re.match("90", name) for name in build_info.get("cuda_architectures", ())):
        yield "kernels of warpgroups (Hopper)", _warpgroups()


def _warpgroups() -> str:
    value = os.environ.get(_WARPGROUPS, "")
    if value in ("", "0"):
        return f"not asked for: {_WARPGROUPS}=1 does"
    return "asked for" if value == "1" else f"an error: {_WARPGROUPS}={value}"


def _cpu_lines() -> Lines:
    yield "CPU", f"{platform.machine()}, {' '.join(_cpu_flags()) or 'flags unknown'}"
    yield "CPU kernels in use", _instruction_set()


def _instruction_set() -> str:
    core = _import_module("_core")
    return core if isinstance(core, str) else str(core.instruction_set())


def _gpu() -> str:
    core = _import_module("_cuda_core")
    if isinstance(core, str):
        return core
    try:
        info = core.device_info()
    except RuntimeError as error:
        return f"none: {error}"
    return ", ".join(f"{key} {value}" for key, value in info.items())


def _import_module(name: str) -> Any:
    """One of the NumPy modules, or why it is not there."""
    spec = importlib.util.find_spec(f"negative_cosine.{name}")
    if spec is None or spec.origin is None:
        return f"not known: there is no {name} for Python {platform.python_version()}"
    file = Path(spec.origin)
    if problem := file_problem(file.with_name(CORE)):
        return f"not known: {file.name} needs {CORE}: {problem}"
    if problem := file_problem(file):
        return f"not known: {file.name} cannot be opened: {problem}"
    try:
        return importlib.import_module(f"negative_cosine.{name}")
    except ImportError as error:
        return f"none: {error}"


def _cpu_flags() -> list[str]:
    try:
        with open("/proc/cpuinfo") as file:
            flags = next(line for line in file if line.startswith("flags")).split()
    except (OSError, StopIteration):
        return []
    return [flag for flag in _CPU_FLAGS if flag in flags]


if __name__ == "__main__":
    main()
