"""Predicts times on GPUs for each sampler; as a table, over K: where each one wins.

`shuffle` gathers K rows a query (benchmarks/gpu_model.py); `ring` and `all` multiply tiles
of rows, so that their 16-bit rows have a time for the tensor cores, and one for the
instructions around these, counted in the compiled code (benchmarks/tile_code.py).

    python -m benchmarks.gpu_samplers --output benchmarks/results/gpu_samplers.csv
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.gpu_model import (
    BYTES,
    DEVICES,
    HASH_OPERATIONS,
    LAUNCH_SECONDS,
    Device,
    Size,
    fits_tiles,
    floating_rate,
    launches,
    memory_bytes,
    predicted_seconds,
    tile_bytes,
    tile_rows,
)
from benchmarks.tables import print_table

SIZE = Size(8192, 1, 128, "bfloat16")
CANDIDATES = (4, 10, 20, 50, 100, 200, 500, 1000)

# What the compiler made of the tile kernels.
CODE = Path(__file__).parent / "results" / "tile_code.csv"
SHORTEST_ROW_OF_A_TILE = 128  # bytes, see csrc/cuda/tile_kernels.cuh
OPERATIONS_OF_A_PRODUCT = 2 * 16 * 8 * 16  # of 16 x 16 and 16 x 8 elements of 16 bits

# The threads that copy a row together hash its place each for itself.
HASHES_OF_A_ROW = 4


def tile_operations(size: Size, training: bool) -> int:
    """Two a multiply-add; the loss alone is a product for each pair of rows that meet.

    Of the two passes of a training step each has a product and a weighted sum: on tensor
    cores of two 16-bit parts of each weight.
    """
    pairs = size.batch_size * (tile_rows(size) + size.num_negatives)
    parts = 2 if on_tensor_cores(size) else 1
    return 2 * pairs * size.dim * (2 * (1 + parts) if training else 1)


@functools.cache
def instructions_of_a_product(architecture: str, dtype: str, elements: int) -> float:
    """A warp's, in both passes, for each instruction of the tensor cores."""
    code = pd.read_csv(CODE)
    found = code[
        (code["architecture"] == architecture)
        & (code["dtype"] == dtype)
        & (code["elements"] == elements)
        & ~code["tight"]
    ]
    return float(found["way"].sum() / found["products"].sum())


def issued_instructions(size: Size, training: bool, device: Device) -> float:
    """Instructions that the warps execute, of which some multiply.

    The loss alone is taken as the forward pass of a step: half of it.
    """
    row_bytes = max(SHORTEST_ROW_OF_A_TILE, size.dim * BYTES[size.dtype])
    elements = 2 ** math.ceil(math.log2(row_bytes)) // BYTES[size.dtype]
    step = tile_operations(replace(size, dim=elements), training=True)
    products = step / OPERATIONS_OF_A_PRODUCT / (1 if training else 2)
    return products * instructions_of_a_product(device.architecture, size.dtype, elements)


def waiting_factor(size: Size, device: Device) -> float:
    """How much longer the multiprocessors with the most tiles work than all on average."""
    tiles = math.ceil(size.batch_size / tile_rows(size)) / device.multiprocessors
    return math.ceil(tiles) / tiles


def on_tensor_cores(size: Size) -> bool:
    """Whether tensor cores multiply the tiles: those of 16-bit rows."""
    return BYTES[size.dtype] == 2


def tile_limits(size: Size, training: bool, device: Device) -> dict[str, float]:
    """Seconds that each resource needs by tiles."""
    met = size.batch_size * (1 + size.num_negatives / tile_rows(size))
    hashes = (2 if training else 1) * met * HASHES_OF_A_ROW
    waiting = waiting_factor(size, device)
    arithmetic, rate = "floating point", floating_rate(size, device)
    if on_tensor_cores(size):
        arithmetic, rate = "tensor cores", device.tensor_rate
    bounds = {
        "rows": tile_bytes(size, training) / device.l2_bandwidth,
        "memory": memory_bytes(size, training) / device.memory_bandwidth,
        arithmetic: waiting * tile_operations(size, training) / rate,
        "hash": waiting * HASH_OPERATIONS * hashes / device.integer_rate,
    }
    if on_tensor_cores(size):
        issued = issued_instructions(size, training, device)
        bounds["instructions"] = waiting * issued / device.issue_rate
    return bounds


def seconds(sampler: str, size: Size, training: bool, device: Device) -> float:
    """The predicted time of the loss alone, or of a training step."""
    if sampler == "all":
        size = replace(size, num_negatives=size.batch_size - 1)
    if sampler == "shuffle" or not fits_tiles(size):
        return predicted_seconds(size, training, device)
    slowest = max(tile_limits(size, training, device).values())
    return slowest + launches(training) * LAUNCH_SECONDS


def cases() -> Iterator[tuple[str, Size]]:
    """The samplers and sizes of the table."""
    for count in CANDIDATES:
        for sampler in ("shuffle", "ring"):
            yield sampler, replace(SIZE, num_negatives=count)
    yield "all", replace(SIZE, num_negatives=SIZE.batch_size - 1)


def predictions() -> pd.DataFrame:
    """A row for each sampler and number of candidates."""
    return pd.DataFrame(
        {
            "size": str(size),
            "dtype": size.dtype,
            "sampler": sampler,
            "candidates": size.num_negatives,
            **{
                f"{key}_us": round(1e6 * seconds(sampler, size, True, device), 1)
                for key, device in DEVICES.items()
            },
        }
        for sampler, size in cases()
    )


COLUMNS = ("K", "sampler", *(f"{device.name}, µs" for device in DEVICES.values()))


def cells(row: Mapping[Any, Any]) -> list[str]:
    """A row of predictions as the tables show it."""
    times = (f"{row[f'{key}_us']:.0f}" for key in DEVICES)
    return [str(row["candidates"]), row["sampler"], *times]


def main() -> None:
    """Prints the table and, with --output, writes a CSV."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    table = predictions()
    print_table("Predictions: nothing ran", COLUMNS, map(cells, table.to_dict("records")))
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(arguments.output, index=False)


if __name__ == "__main__":
    main()
