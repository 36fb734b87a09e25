"""What is left out of a benchmark, and why: said in a line, not found out by crashing."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Iterator

from benchmarks.gpu.gpu_model import Size
from benchmarks.ways import WAYS, Way

GIB = 2**30

ONLY_ON = {
    "cpu": "it is measured on the CPU only",
    "gpu": "its kernels are for a GPU: --device gpu",
}


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
    if way.only_on not in ("", device):
        yield ONLY_ON[way.only_on]
    yield from missing_packages(way)
    yield from sizes_it_does_not_take(way, size)
    if way.overflows_float16 and size.dtype == "float16":
        yield "its exponentials overflow in float16"
    if way.sampler == "ring" and size.num_negatives >= size.num_docs:
        yield f"the ring has {size.num_docs - 1} other rows for K={size.num_negatives}"
    needed = way.predicted_bytes(size, training) / GIB
    if needed > memory_limit:
        yield f"it would take {needed:.1f} GiB, --memory-limit is {memory_limit:.1f}"


def missing_packages(way: Way) -> Iterator[str]:
    """What is not installed, and how it comes with this package."""
    for package in way.packages:
        if importlib.util.find_spec(package) is None:
            yield f"{package} is not installed: {how_to_install(way)}"


def how_to_install(way: Way) -> str:
    """The command, with the extras of pyproject.toml that a way's packages are in."""
    extras = "bench,bench-gpu" if way.only_on == "gpu" else "bench"
    return f"pip install -e .[{extras}]"


def sizes_it_does_not_take(way: Way, size: Size) -> Iterator[str]:
    """Dtypes and numbers of rows and columns that a way is not made for."""
    if size.dtype not in way.dtypes:
        yield f"it takes {', '.join(way.dtypes)}, not {size.dtype}"
    if size.dim % way.dim_multiple:
        yield f"its rows are multiples of {way.dim_multiple} numbers, not {size.dim}"
    multiple, rows = way.batch_multiple, size.batch_size
    if rows > multiple and rows % multiple:
        yield f"above {multiple} rows it takes multiples of {multiple}, not {rows}"
    if way.one_doc_a_query and size.more_docs:
        yield f"it takes as many documents as queries, not {size.num_docs} for {rows}"


def reason_to_leave_out(
    name: str, training: bool, size: Size, device: str, memory_limit: float
) -> str | None:
    """The first of the problems, None if there is none."""
    return next(problems(name, training, size, device, memory_limit), None)
