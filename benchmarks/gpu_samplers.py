"""Predicts a training step's time on GPUs for each sampler, over K: where each one wins.

`shuffle` gathers K rows a query (benchmarks/gpu_model.py); `ring` and `all` multiply tiles
of rows, so they also have a time for the tensor cores.

    python -m benchmarks.gpu_samplers --output benchmarks/results/gpu_samplers.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.gpu_model import (
    DEVICES,
    HASH_OPERATIONS,
    LAUNCH_SECONDS,
    Device,
    Size,
    launches,
    memory_bytes,
    predicted_seconds,
    tile_bytes,
    tile_rows,
)
from benchmarks.tables import print_table

SIZE = Size(8192, 1, 128, "bfloat16")
CANDIDATES = (4, 10, 20, 50, 100, 200, 500, 1000)

# Dense bfloat16 with float32 sums, data sheets (A100 312 Tflop/s, H100 and H200 SXM 989).
TENSOR_RATES = {"A100": 312e12, "H100": 989e12, "H200": 989e12}
# The threads that copy a row together hash its place each for itself.
HASHES_OF_A_ROW = 4
# In each pass a product, and a weighted sum of two 16-bit parts of each weight.
OPERATIONS_OF_A_PAIR = 2 * (2 + 2 * 2)


def tile_limits(size: Size, device: Device, tensor_rate: float) -> dict[str, float]:
    """Seconds that each resource needs for a training step by tiles of 16-bit rows."""
    met = size.batch_size * (1 + size.num_negatives / tile_rows(size))
    pairs = size.batch_size * (tile_rows(size) + size.num_negatives)
    hashes = 2 * met * HASHES_OF_A_ROW
    return {
        "rows": tile_bytes(size) / device.l2_bandwidth,
        "memory": memory_bytes(size, training=True) / device.memory_bandwidth,
        "tensor cores": OPERATIONS_OF_A_PAIR * pairs * size.dim / tensor_rate,
        "hash": HASH_OPERATIONS * hashes / device.integer_rate,
    }


def seconds(sampler: str, size: Size, key: str) -> float:
    """The predicted time of a training step."""
    device = DEVICES[key]
    if sampler == "shuffle":
        return predicted_seconds(size, True, device)
    slowest = max(tile_limits(size, device, TENSOR_RATES[key]).values())
    return slowest + launches(True) * LAUNCH_SECONDS


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
            **{f"{key}_us": round(1e6 * seconds(sampler, size, key), 1) for key in DEVICES},
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
