"""What the CUDA compiler made of the tile kernels that multiply on the tensor cores.

A block meets panels of rows in a loop. The `way` is the fewest instructions that a warp can
execute from the loop's start to its end with all its products and its copy: what is rare,
such as a row that does not fit, is in the loop too, but is jumped over. So are the norms of
the met rows, which wide bands find beforehand: `way_with_norms` has them. `stalls` are the
clocks of a warp that nothing else delays.

    python -m benchmarks.gpu.tile_code --output benchmarks/results/tile_code.csv
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.gpu.code_ways import (
    Way,
    measure,
    places_of,
    shortest_way,
    way_between,
    ways_on,
)
from benchmarks.gpu.machine_code import (
    ASYNCHRONOUS_COPY,
    TENSOR_CORES,
    Instructions,
    Kernel,
    loops,
    main_part,
    run_command,
    table_of_kernels,
)

# The one load that a loop over blocks may wait for: of an odd number of 16-bit elements.
EXPECTED_LOADS = r"LDG\.E\.U16\b"
PRODUCT = r"\bHMMA\b"
NORM = r"\bMUFU\.RSQ\b"
# Turns of 128 bytes that an access of a warp to shared memory takes, without conflicts:
# four matrices are four; of 16 bytes a lane, eight lanes move together, of 8 bytes sixteen.
WAVEFRONTS = (
    (r"\bLDSM\b", 4),
    (r"\b(LDS|STS|LDGSTS)\b\S*\.128\b", 4),
    (r"\b(LDS|STS|LDGSTS)\b\S*\.64\b", 2),
    (r"\b(LDS|STS|LDGSTS)\b", 1),
)
NO_ACCESS = r"@!PT LDS RZ"  # an empty instruction, before some copies on sm_80
# The first multiplication of `round_hash` in csrc/core/sampler.h, by 0x85ebca6b.
HASH = r"\bIMAD\b.*-0x7a143595"


def block_loop(kernel: Kernel) -> Instructions:
    """The loop over blocks of met rows: the shortest that copies and has a barrier."""
    patterns = (r"\bBAR\.SYNC\b", ASYNCHRONOUS_COPY)
    found = [
        loop
        for loop in loops(kernel)
        if all(places_of(loop, pattern) for pattern in patterns)
    ]
    return min(found, key=len, default=[])


def unexpected_loads(loop: Instructions) -> list[str]:
    """Loads from global memory that the threads wait for."""
    return [
        text
        for _, text in loop
        if re.search(r"\bLDG\.", text) and not re.search(EXPECTED_LOADS, text)
    ]


def stops_of(loop: Instructions) -> tuple[list[int], list[int]]:
    """What a warp executes for each panel: without the panel's norms, and with them."""
    always = [*places_of(loop, PRODUCT), *places_of(loop, ASYNCHRONOUS_COPY)[:1]]
    return always, [*always, *places_of(loop, NORM)[:1]]


def ways_of_loop(kernel: Kernel) -> tuple[Way, Way]:
    """The ways by these."""
    loop = block_loop(kernel)
    without, with_norms = stops_of(loop)
    return measure(kernel, loop, without), measure(kernel, loop, with_norms)


def wavefronts(text: str) -> int:
    """The turns of shared memory that an instruction takes."""
    if re.search(NO_ACCESS, text):
        return 0
    return next((turns for pattern, turns in WAVEFRONTS if re.search(pattern, text)), 0)


def wavefronts_of_way(loop: Instructions) -> int:
    """Those of a panel, without its norms."""
    way = shortest_way(loop, stops_of(loop)[0]) if loop else []
    return sum(wavefronts(loop[place][1]) for place in way)


def hash_instructions(kernel: Kernel) -> int:
    """What the loop executes for an index of `ring`, between its first and last round.

    The compiler unrolls the rounds four times two at a time, and has three times two behind
    it for the rest: six rounds are this rest.
    """
    loop = block_loop(kernel)
    places = places_of(loop, HASH)
    return len(way_between(ways_on(loop), places[0], places[-1])) if places else 0


def describe(kernel: Kernel) -> dict[str, Any]:
    """A row of the table."""
    loop = block_loop(kernel)
    way, with_norms = ways_of_loop(kernel)
    return {
        "architecture": kernel.architecture,
        "pass": kernel.pass_of_tiles,
        "dtype": kernel.dtype,
        "elements": kernel.elements_of_tile,
        "kind": kernel.kind_of_tile,
        "registers": kernel.registers,
        "loop_instructions": len(loop),
        "other_instructions": len(main_part(kernel.instructions)) - len(loop),
        "hash_instructions": hash_instructions(kernel),
        "products": len(places_of(loop, PRODUCT)),
        "way": way.instructions,
        "stalls": way.stalls,
        "wavefronts": wavefronts_of_way(loop),
        "way_with_norms": with_norms.instructions,
        "stalls_with_norms": with_norms.stalls,
    }


def table(library: Path, architectures: Sequence[str]) -> pd.DataFrame:
    """Every tile kernel of the tensor cores."""
    return table_of_kernels(
        library,
        architectures,
        lambda kernel: kernel.is_tiled and kernel.dtype in TENSOR_CORES,
        describe,
        ("architecture", "pass", "dtype", "elements", "kind"),
    )


COLUMNS = (
    "kernel",
    "registers",
    "products",
    "instructions",
    "clocks",
    "of the loop",
)


def with_more(figure: int, with_norms: int) -> str:
    """A figure of the way, and what it is with the norms where that is another."""
    return f"{figure}" if figure == with_norms else f"{figure}, {with_norms}"


def cells(row: Mapping[Any, Any]) -> list[str]:
    """A row of the table in words."""
    return [
        f"{row['pass']}, {row['dtype']} x {row['elements']}, {row['kind']}",
        str(row["registers"]),
        str(row["products"]),
        with_more(row["way"], row["way_with_norms"]),
        with_more(row["stalls"], row["stalls_with_norms"]),
        str(row["loop_instructions"]),
    ]


def is_documented(row: Mapping[Any, Any]) -> bool:
    """Whether docs/cuda_kernels.md shows a row: the newest architecture, one dtype.

    Of tall tiles, which there are for rows of every length.
    """
    is_newest = (row["architecture"], row["dtype"]) == ("sm_90", "bfloat16")
    return is_newest and row["kind"] == "tall"


if __name__ == "__main__":
    run_command(__doc__ or "", table, COLUMNS, cells)
