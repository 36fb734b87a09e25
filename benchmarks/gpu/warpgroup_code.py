"""What the CUDA compiler made of the kernels of warpgroups (Hopper).

Two loops go over panels. That of the warps that multiply has both products; its `way` is
the fewest instructions from its start to its end with all products and exponentials: what
is rare is jumped over. That of the warps that copy fills a stage; `copy_way` is its
shortest way with all copies of rows of 16 bytes. `stalls` are the clocks of a warp that
nothing else delays.

    python -m benchmarks.gpu.warpgroup_code --output benchmarks/results/warpgroup_code.csv
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.gpu.code_ways import measure, places_of
from benchmarks.gpu.machine_code import (
    Instructions,
    Kernel,
    loops,
    run_command,
    table_of_kernels,
)

PRODUCT = r"^HGMMA"
WAIT_FOR_PRODUCTS = r"WARPGROUP\.DEPBAR"
EXPONENTIAL = r"\bMUFU\.EX2\b"
COPY_OF_ROWS = r"LDGSTS\S*\.128"
WAIT_FOR_STAGE = r"SYNCS\.PHASECHK"
LOCAL_ACCESS = r"\b(?:LDL|STL)\b"
NAME = re.compile(r"(forward|gradient)_warpgroups_kernel.*?(B?Float16)ELi(\d+)ELi(\d+)E")


def key_of(kernel: Kernel) -> tuple[str, str, int, int] | None:
    """Its pass, dtype, padded row and rows of a tile; None for other kernels."""
    found = NAME.search(kernel.symbol)
    if found is None:
        return None
    return found[1], found[2].lower(), int(found[3]), int(found[4])


def count(code: Instructions, pattern: str) -> int:
    """Instructions that match."""
    return len(places_of(code, pattern))


def loop_over_panels(kernel: Kernel) -> Instructions:
    """The shortest loop that has both products."""
    products = kernel.count(PRODUCT)
    found = [loop for loop in loops(kernel) if count(loop, PRODUCT) == products]
    return min(found, key=len)


def loop_of_copies(kernel: Kernel) -> Instructions:
    """The shortest loop that waits for a stage and copies rows to it."""
    found = [
        loop
        for loop in loops(kernel)
        if count(loop, WAIT_FOR_STAGE) and count(loop, COPY_OF_ROWS)
    ]
    return min(found, key=len)


def describe(kernel: Kernel) -> dict[str, Any]:
    """A row of the table."""
    key = key_of(kernel)
    assert key is not None
    panels, copies = loop_over_panels(kernel), loop_of_copies(kernel)
    stops = [*places_of(panels, PRODUCT), *places_of(panels, EXPONENTIAL)]
    way = measure(kernel, panels, stops)
    copy_way = measure(kernel, copies, places_of(copies, COPY_OF_ROWS))
    return {
        "architecture": kernel.architecture,
        **dict(zip(("pass", "dtype", "elements", "rows"), key, strict=True)),
        "stack": kernel.stack,
        "products": count(panels, PRODUCT),
        "loop_instructions": len(panels),
        "local_accesses": count(panels, LOCAL_ACCESS),
        "way": way.instructions,
        "stalls": way.stalls,
        "copy_way": copy_way.instructions,
    }


def table(library: Path, architectures: Sequence[str]) -> pd.DataFrame:
    """Every such kernel: they are compiled for one architecture alone."""
    del architectures
    return table_of_kernels(
        library,
        ["sm_90a"],
        lambda kernel: key_of(kernel) is not None,
        describe,
        ("pass", "dtype", "elements", "rows"),
    )


COLUMNS = ("kernel", "products", "instructions", "clocks", "of the loop", "copies")


def cells(row: Mapping[Any, Any]) -> list[str]:
    """A row of the table in words."""
    names = ("products", "way", "stalls", "loop_instructions", "copy_way")
    kernel = f"{row['pass']}, {row['dtype']} x {row['elements']}, {row['rows']} rows"
    return [kernel, *(str(row[name]) for name in names)]


def is_documented(row: Mapping[Any, Any]) -> bool:
    """Whether docs/cuda_kernels.md shows a row: one dtype."""
    return bool(row["dtype"] == "bfloat16")


if __name__ == "__main__":
    run_command(__doc__ or "", table, COLUMNS, cells)
