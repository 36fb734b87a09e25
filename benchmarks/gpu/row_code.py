"""What the CUDA compiler made of the kernels that gather rows and hold them in registers.

A loop takes some rows through products, softmax and sums. The `way` is the fewest
instructions that a warp can execute from its start to its end with all its loads and sums,
without the hash of an index (tile_code.py), and `stalls` are the clocks of a warp that
nothing else delays.

    python -m benchmarks.gpu.row_code --output benchmarks/results/row_code.csv
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.gpu.code_ways import Way, measure, places_of
from benchmarks.gpu.machine_code import (
    ORDER_OF_ROWS,
    PACKETS_OF_A_TILE,
    Kernel,
    gather_loop,
    main_part,
    run_command,
    table_of_kernels,
)
from benchmarks.gpu.tile_code import HASH

# Of rows in pieces there is a branch for each size: the widest, two a packet.
PACKET_LOADS = {False: r"\bLDG\.E\.128", True: r"\bLDG\.E\.64"}
SUM = r"\b([FD]FMA|HMMA)\b"  # the last one adds a row's elements to the sums
INDICES_OF_A_WARP = 32


def way_of_loop(kernel: Kernel) -> Way:
    """What a warp executes in a pass of the loop."""
    loop = gather_loop(kernel)
    loads = places_of(loop, PACKET_LOADS[kernel.in_pieces])
    stops = [*loads, *places_of(loop, SUM)[-1:]]
    return measure(kernel, loop, stops)


def rows_of_fragment(kernel: Kernel) -> int:
    """The rows that a warp loads together, see csrc/cuda/rows/register.cuh."""
    lanes, packets = map(int, re.findall(r"(\d+) (?:lanes|packets)", kernel.rows))
    return 32 // lanes * PACKETS_OF_A_TILE // packets


def rows_of_loop(kernel: Kernel) -> int:
    """The rows of a pass: several fragments where the loop hashes their indices too."""
    hashes = places_of(gather_loop(kernel), HASH)
    return INDICES_OF_A_WARP if hashes else rows_of_fragment(kernel)


def describe(kernel: Kernel) -> dict[str, Any]:
    """A row of the table."""
    way = way_of_loop(kernel)
    loop = gather_loop(kernel)
    return {
        "architecture": kernel.architecture,
        "pass": kernel.pass_name,
        "dtype": kernel.dtype,
        "rows": kernel.rows,
        "warps": kernel.warps_of_a_multiprocessor,
        "fragment_rows": rows_of_fragment(kernel),
        "loop_rows": rows_of_loop(kernel),
        "other_instructions": len(main_part(kernel.instructions)) - len(loop),
        "way": way.instructions,
        "stalls": way.stalls,
    }


def table(library: Path, architectures: Sequence[str]) -> pd.DataFrame:
    """Every kernel that holds rows in registers."""
    return table_of_kernels(
        library,
        architectures,
        lambda kernel: bool(kernel.pass_name) and kernel.in_registers,
        describe,
        ORDER_OF_ROWS,
    )


COLUMNS = ("kernel", "rows of a pass", "instructions", "clocks")


def cells(row: Mapping[Any, Any]) -> list[str]:
    """A row of the table in words."""
    return [
        f"{row['pass']}, {row['dtype']}, {row['rows']}",
        str(row["loop_rows"]),
        str(row["way"]),
        str(row["stalls"]),
    ]


if __name__ == "__main__":
    run_command(__doc__ or "", table, COLUMNS, cells)
