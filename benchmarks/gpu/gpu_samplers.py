"""Predicts times on GPUs for each sampler; as a table, over K: where each one wins.

`shuffle` gathers K rows a query (row_model.py); `ring` and `all` multiply tiles of rows
(tile_model.py). Of float32 rows the products are rounded, as TensorFlow allows unless it is
told otherwise.

    python -m benchmarks.gpu.gpu_samplers --output benchmarks/results/gpu_samplers.csv \
      --wins benchmarks/results/gpu_wins.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.gpu import row_model, tile_model
from benchmarks.gpu.gpu_model import DEVICES, Device, Size
from benchmarks.gpu.kernel_time import Prediction
from benchmarks.tables import print_table

SIZE = Size(8192, 1, 128, "bfloat16")
CANDIDATES = (4, 10, 20, 50, 100, 200, 500, 1000)
# Of which `wins` are counted.
ROWS = (("bfloat16", 128), ("bfloat16", 768), ("float32", 128), ("float32", 768))


def predict(sampler: str, size: Size, training: bool, device: Device) -> Prediction:
    """The range of the loss alone, or of a training step."""
    if sampler == "all":
        size = replace(size, num_negatives=size.batch_size - 1)
    if sampler == "shuffle" or not device.takes_tiles(size):
        return row_model.predict(size, training, device)
    return tile_model.predict(size, training, device, draws=sampler == "ring")


def seconds(sampler: str, size: Size, training: bool, device: Device) -> float:
    """The range's low end: what a measured time is held against."""
    return predict(sampler, size, training, device).low


def figures(sampler: str, size: Size, training: bool) -> dict[str, Any]:
    """What the tables say of each device, in microseconds, and what bounds the low end."""
    found = {
        key: predict(sampler, size, training, device) for key, device in DEVICES.items()
    }
    return {
        **{f"{key}_low_us": round(1e6 * each.low, 1) for key, each in found.items()},
        **{f"{key}_high_us": round(1e6 * each.high, 1) for key, each in found.items()},
        **{f"{key}_bound": each.bound for key, each in found.items()},
    }


def range_cells(row: Mapping[Any, Any]) -> list[str]:
    """The ranges of the devices, in whole microseconds."""
    return [f"{row[f'{key}_low_us']:.0f}-{row[f'{key}_high_us']:.0f}" for key in DEVICES]


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
            **figures(sampler, size, training=True),
        }
        for sampler, size in cases()
    )


def first_win(sampler: str, size: Size, device: Device) -> int | None:
    """The smallest K from which on a sampler's step is faster than `shuffle`'s.

    By the middles of the two ranges, and of the table's K: none beyond them is tried.
    """

    def wins(count: int) -> bool:
        drawn = replace(size, num_negatives=count)
        here, gathered = (
            predict(name, drawn, True, device).middle for name in (sampler, "shuffle")
        )
        return here < gathered

    most = min(size.batch_size - 1, CANDIDATES[-1])
    slower = [count for count in range(1, most + 1) if not wins(count)]
    first = max(slower, default=0) + 1
    return first if first <= most else None


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


COLUMNS = (
    "K",
    "sampler",
    *(f"{device.name}, µs" for device in DEVICES.values()),
    "at the least by (H100)",
)


def cells(row: Mapping[Any, Any]) -> list[str]:
    """A row of predictions as the tables show it."""
    return [str(row["candidates"]), row["sampler"], *range_cells(row), row["H100_bound"]]


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
