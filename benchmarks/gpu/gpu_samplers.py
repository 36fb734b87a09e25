"""Predicts times on GPUs for each sampler; as a table, over K: where each one wins.

`shuffle` gathers K rows a query (gpu_model.py); `ring` and `all` multiply tiles of rows, so
that they have a time for the tensor cores, and one for the instructions around these,
counted in the compiled code (tile_code.py). Of float32 rows the products
are rounded, as TensorFlow allows unless it is told otherwise.

    python -m benchmarks.gpu.gpu_samplers --output benchmarks/results/gpu_samplers.csv \
      --wins benchmarks/results/gpu_wins.csv
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmarks.gpu.gpu_model import (
    DEVICES,
    HASH_OPERATIONS,
    LAUNCH_SECONDS,
    Device,
    Size,
    floating_rate,
    launches,
    memory_bytes,
    predicted_seconds,
    tile_bytes,
    tile_shape,
)
from benchmarks.tables import print_table

SIZE = Size(8192, 1, 128, "bfloat16")
CANDIDATES = (4, 10, 20, 50, 100, 200, 500, 1000)
# Of which `wins` are counted.
ROWS = (("bfloat16", 128), ("bfloat16", 768), ("float32", 128), ("float32", 768))

# What the compiler made of the tile kernels.
CODE = Path(__file__).parents[1] / "results" / "tile_code.csv"
LANES_OF_A_WARP = 32


class TensorProducts(NamedTuple):
    """How tensor cores multiply rows of a dtype, see csrc/cuda/tiles/products.cuh."""

    name: str  # in the table of the compiled code
    operations: int  # of an instruction
    parts: int  # of a weight, in the weighted sums
    share: float  # of the rate of 16-bit products


TENSOR_PRODUCTS = {
    "float16": TensorProducts("float16", 2 * 16 * 8 * 16, 2, 1),
    "bfloat16": TensorProducts("bfloat16", 2 * 16 * 8 * 16, 2, 1),
    "float32": TensorProducts("tf32", 2 * 16 * 8 * 8, 1, 1 / 2),
}


def tile_operations(size: Size, rows: int, training: bool) -> int:
    """Two a multiply-add; the loss alone is a product for each pair of rows that meet.

    Tiles have so many ``rows``. Of the two passes of a training step each has a product
    and a weighted sum: on tensor cores of two 16-bit parts of each weight.
    """
    pairs = size.batch_size * (rows + size.num_negatives)
    products = TENSOR_PRODUCTS.get(size.dtype)
    parts = products.parts if products else 1
    return 2 * pairs * size.dim * (2 * (1 + parts) if training else 1)


@functools.cache
def instructions_of_a_product(
    architecture: str, name: str, elements: int, kind: str
) -> dict[str, float]:
    """By pass: a warp's instructions for each of those that multiply."""
    code = pd.read_csv(CODE)
    found = code[
        (code["architecture"] == architecture)
        & (code["dtype"] == name)
        & (code["elements"] == elements)
        & (code["kind"] == kind)
    ].set_index("pass")
    return {
        str(key): float(ratio) for key, ratio in (found["way"] / found["products"]).items()
    }


def issued_instructions(size: Size, training: bool, device: Device) -> float:
    """Instructions that the warps execute, of which some multiply."""
    products = TENSOR_PRODUCTS[size.dtype]
    tile = tile_shape(size, device.multiprocessors)
    step = tile_operations(replace(size, dim=tile.dim), tile.rows, training=True)
    of_a_pass = step / products.operations / 2
    issued = instructions_of_a_product(
        device.architecture, products.name, tile.dim, tile.kind
    )
    if training:
        return of_a_pass * (issued["forward"] + issued["gradient"])
    # The loss alone sums no rows: that many products fewer.
    return of_a_pass * (issued["forward"] - products.parts / (1 + products.parts))


def waiting_factor(size: Size, device: Device) -> float:
    """How much longer the multiprocessors with the most tiles work than all on average."""
    rows = tile_shape(size, device.multiprocessors).rows
    tiles = math.ceil(size.batch_size / rows) / device.multiprocessors
    return math.ceil(tiles) / tiles


def tile_limits(size: Size, training: bool, device: Device) -> dict[str, float]:
    """Seconds that each resource needs by tiles."""
    rows = tile_shape(size, device.multiprocessors).rows
    met = size.batch_size * (1 + size.num_negatives / rows)
    hashes = (2 if training else 1) * met
    waiting = waiting_factor(size, device)
    operations = waiting * tile_operations(size, rows, training)
    bounds = {
        "rows": tile_bytes(size, device.multiprocessors, training) / device.l2_bandwidth,
        "memory": memory_bytes(size, training) / device.memory_bandwidth,
        "hash": waiting * HASH_OPERATIONS * hashes / device.integer_rate,
    }
    if products := TENSOR_PRODUCTS.get(size.dtype):
        bounds["tensor cores"] = operations / (products.share * device.tensor_rate)
        issued = issued_instructions(size, training, device)
        issued += HASH_OPERATIONS * hashes / LANES_OF_A_WARP
        bounds["instructions"] = waiting * issued / device.issue_rate
    else:
        bounds["floating point"] = operations / floating_rate(size, device)
    return bounds


def seconds(sampler: str, size: Size, training: bool, device: Device) -> float:
    """The predicted time of the loss alone, or of a training step."""
    if sampler == "all":
        size = replace(size, num_negatives=size.batch_size - 1)
    if sampler == "shuffle" or not device.takes_tiles(size):
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


def first_win(sampler: str, size: Size, device: Device) -> int | None:
    """The smallest K from which on a sampler's step is faster than `shuffle`'s."""

    def wins(count: int) -> bool:
        drawn = replace(size, num_negatives=count)
        return seconds(sampler, drawn, True, device) < seconds(
            "shuffle", drawn, True, device
        )

    slower = [count for count in range(1, size.batch_size) if not wins(count)]
    first = max(slower, default=0) + 1
    return first if first < size.batch_size else None


def wins() -> pd.DataFrame:
    """A row for each kind of rows and each sampler but `shuffle`."""
    return pd.DataFrame(
        {
            "dtype": dtype,
            "dim": dim,
            "sampler": sampler,
            **{
                f"{key}_k": first_win(sampler, replace(SIZE, dtype=dtype, dim=dim), device)
                for key, device in DEVICES.items()
            },
        }
        for dtype, dim in ROWS
        for sampler in ("ring", "all")
    ).convert_dtypes()


WIN_COLUMNS = ("rows", "sampler", *(f"{device.name}, K" for device in DEVICES.values()))


def win_cells(row: Mapping[Any, Any]) -> list[str]:
    """A row of `wins` as the tables show it."""
    counts = (row[f"{key}_k"] for key in DEVICES)
    return [
        f"{row['dtype']} x {row['dim']}",
        row["sampler"],
        *("-" if pd.isna(count) else f"{count:.0f}" for count in counts),
    ]


COLUMNS = ("K", "sampler", *(f"{device.name}, µs" for device in DEVICES.values()))


def cells(row: Mapping[Any, Any]) -> list[str]:
    """A row of predictions as the tables show it."""
    times = (f"{row[f'{key}_us']:.0f}" for key in DEVICES)
    return [str(row["candidates"]), row["sampler"], *times]


def main() -> None:
    """Prints the tables and writes the CSVs that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="the times")
    parser.add_argument("--wins", type=Path, help="the K from which a sampler wins")
    arguments = parser.parse_args()
    times, first = predictions(), wins()
    print_table("Predictions: nothing ran", COLUMNS, map(cells, times.to_dict("records")))
    print_table(
        "Faster than shuffle from K on",
        WIN_COLUMNS,
        map(win_cells, first.to_dict("records")),
    )
    for table, path in ((times, arguments.output), (first, arguments.wins)):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            table.to_csv(path, index=False)


if __name__ == "__main__":
    main()
