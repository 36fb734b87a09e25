"""What the CUDA compiler made of the tile kernels that multiply on the tensor cores.

A block meets other rows in a loop, and what a pass of it costs besides products is what a
pair costs. The `way` is the fewest instructions that a warp can execute from the loop's
start to its end with all its products, its copy and its norms: what is rare, such as a row
that does not fit, is in the loop too, but is jumped over.

    python -m benchmarks.gpu.tile_code --output benchmarks/results/tile_code.csv
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.gpu.machine_code import (
    ASYNCHRONOUS_COPY,
    TENSOR_CORES,
    Instructions,
    Kernel,
    loops,
    read_kernels,
    run_command,
    target_of,
)

# The one load that a loop over blocks may wait for: of an odd number of 16-bit elements.
EXPECTED_LOADS = r"LDG\.E\.U16\b"
PRODUCT = r"\bHMMA\b"
# What every pass does, rare things apart: the first copy of a row, the first norm.
ONCE = (ASYNCHRONOUS_COPY, r"\bMUFU\.RSQ\b")
# Without a condition: nothing goes on behind it.
LEAVES = re.compile(r"BRA\b(?!\.DIV)|EXIT\b|RET\b")


def block_loop(kernel: Kernel) -> Instructions:
    """The loop over blocks of met rows: the shortest that copies and has a barrier."""
    patterns = (r"\bBAR\.SYNC\b", ASYNCHRONOUS_COPY)
    found = [
        loop
        for loop in loops(kernel)
        if all(places_of(loop, pattern) for pattern in patterns)
    ]
    return min(found, key=len, default=[])


def shortest_way(code: Instructions, stops: Sequence[int]) -> int:
    """The instructions from the first to the last that pass all of these places."""
    following = ways_on(code)
    ways, at = 1, 0
    for stop in (*sorted(stops), len(code) - 1):
        ways += distance(following, at, stop)
        at = stop
    return ways


def unexpected_loads(loop: Instructions) -> list[str]:
    """Loads from global memory that the threads wait for."""
    return [
        text
        for _, text in loop
        if re.search(r"\bLDG\.", text) and not re.search(EXPECTED_LOADS, text)
    ]


def places_of(code: Instructions, pattern: str) -> list[int]:
    """Where instructions match."""
    return [i for i, (_, text) in enumerate(code) if re.search(pattern, text)]


def ways_on(code: Instructions) -> list[list[int]]:
    """Where each instruction goes on: forwards, so that a loop within counts once."""
    place = {address: i for i, (address, _) in enumerate(code)}
    following = []
    for i, (address, text) in enumerate(code):
        next_ones = [] if LEAVES.match(text) else [i + 1]
        target = target_of(text)
        if target > address and target in place and "BRA.DIV" not in text:
            next_ones.append(place[target])
        following.append(next_ones)
    return following


def distance(following: Sequence[Sequence[int]], start: int, end: int) -> int:
    """The fewest steps from one instruction to another."""
    distances = {start: 0}
    waiting = deque([start])
    while waiting and end not in distances:
        here = waiting.popleft()
        for there in following[here]:
            if there <= end and there not in distances:
                distances[there] = distances[here] + 1
                waiting.append(there)
    return distances[end]


def describe(kernel: Kernel) -> dict[str, Any]:
    """A row of the table."""
    loop = block_loop(kernel)
    products = places_of(loop, PRODUCT)
    once = [place for pattern in ONCE for place in places_of(loop, pattern)[:1]]
    return {
        "architecture": kernel.architecture,
        "pass": kernel.pass_of_tiles,
        "dtype": kernel.dtype,
        "elements": kernel.elements_of_tile,
        "kind": kernel.kind_of_tile,
        "registers": kernel.registers,
        "loop_instructions": len(loop),
        "products": len(products),
        "way": shortest_way(loop, [*products, *once]),
    }


def table(library: Path, architectures: Sequence[str]) -> pd.DataFrame:
    """Every tile kernel of the tensor cores."""
    rows = [
        describe(kernel)
        for architecture in architectures
        for kernel in read_kernels(library, architecture)
        if kernel.is_tiled and kernel.dtype in TENSOR_CORES
    ]
    order = ["architecture", "pass", "dtype", "elements", "kind"]
    return pd.DataFrame(rows).sort_values(order, ignore_index=True)


COLUMNS = (
    "kernel",
    "registers",
    "products",
    "instructions on the way",
    "of the loop",
)


def cells(row: Mapping[Any, Any]) -> list[str]:
    """A row of the table in words."""
    return [
        f"{row['pass']}, {row['dtype']} x {row['elements']}, {row['kind']}",
        str(row["registers"]),
        str(row["products"]),
        str(row["way"]),
        str(row["loop_instructions"]),
    ]


def is_documented(row: Mapping[Any, Any]) -> bool:
    """Whether docs/gpu.md shows a row."""
    return row["architecture"] == "sm_90" and row["dtype"] in ("bfloat16", "tf32")


if __name__ == "__main__":
    run_command(__doc__ or "", table, COLUMNS, cells)
