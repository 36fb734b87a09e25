"""Predicts the times of `shuffle` on GPUs, counted before anything ran.

python -m benchmarks.gpu.gpu_predictions --output benchmarks/results/gpu_predictions.csv
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.gpu.gpu_model import (
    DEVICES,
    MODES,
    Size,
    floating_operations,
    l2_bytes,
    memory_bytes,
    parse_size,
)
from benchmarks.gpu.gpu_samplers import figures, range_cells
from benchmarks.tables import print_table

SIZES = tuple(map(parse_size, ("4096x20x128", "8192x64x256", "65536x50x128")))
COLUMNS = (
    "B x K x D",
    "dtype",
    "mode",
    "L2, MB",
    "memory, MB",
    "Gflop",
    *(f"{device.name}, µs" for device in DEVICES.values()),
)


def prediction(size: Size, training: bool) -> dict[str, Any]:
    """A row of the table."""
    return {
        "size": str(size),
        "dtype": size.dtype,
        "mode": MODES[training],
        "l2_bytes": l2_bytes(size, training),
        "memory_bytes": memory_bytes(size, training),
        "floating_operations": floating_operations(size, training),
        **figures("shuffle", size, training),
    }


def predictions(sizes: Iterable[Size] = SIZES) -> pd.DataFrame:
    """Every size in float32 and bfloat16, the loss alone and the training step."""
    combinations = itertools.product(sizes, ("float32", "bfloat16"), (False, True))
    return pd.DataFrame(
        prediction(replace(size, dtype=dtype), training)
        for size, dtype, training in combinations
    )


def cells(row: Mapping[Any, Any]) -> list[str]:
    """A row of the table in words."""
    return [
        row["size"].replace("x", " x "),
        row["dtype"],
        row["mode"],
        f"{row['l2_bytes'] / 1e6:.0f}",
        f"{row['memory_bytes'] / 1e6:.0f}",
        f"{row['floating_operations'] / 1e9:.2f}",
        *range_cells(row),
    ]


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
