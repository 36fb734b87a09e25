"""What is left out of a benchmark, and why: said in a line, not found out by crashing."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Iterator

from benchmarks.gpu_model import Size
from benchmarks.ways import WAYS

GIB = 2**30


def default_memory_limit() -> float:
    """Half of this machine's memory, in GiB."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2 / GIB
    except (ValueError, OSError):
        return math.inf


def problems(
    name: str, training: bool, size: Size, device: str, memory_limit: float
) -> Iterator[str]:
    """Why a way does not run at a size."""
    way = WAYS[name]
    if way.package and importlib.util.find_spec(way.package) is None:
        yield f"{way.package} is not installed: pip install .[bench]"
    if way.only_on_cpu and device != "cpu":
        yield "it is measured on the CPU only"
    if way.overflows_float16 and size.dtype == "float16":
        yield "its exponentials overflow in float16"
    if way.sampler == "ring" and size.num_negatives >= size.batch_size:
        yield f"the ring has {size.batch_size - 1} other rows for K={size.num_negatives}"
    needed = way.predicted_bytes(size, training) / GIB
    if needed > memory_limit:
        yield f"it would take {needed:.1f} GiB, --memory-limit is {memory_limit:.1f}"


def reason_to_leave_out(
    name: str, training: bool, size: Size, device: str, memory_limit: float
) -> str | None:
    """The first of the problems, None if there is none."""
    return next(problems(name, training, size, device, memory_limit), None)
