"""Predicts the kernels of warpgroups (Hopper), as a range (kernel_time.py): nothing ran.

The sizes are those of csrc/cuda/warpgroups/shape.cuh, the instructions those of the
compiled loops (warpgroup_code.py). The low end is the slowest resource while all others
work at the same time. The high end is that of warps that hide little of each other's
waiting, by the factors that the other tiles' measured times gave, and that wait for their
own products besides.

    python -m benchmarks.gpu.warpgroup_model --output benchmarks/results/warpgroups.csv
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.gpu import tile_model
from benchmarks.gpu.gpu_model import (
    DEVICES,
    SHARE_OF_MMA_SYNC,
    Device,
    Size,
    memory_bytes,
)
from benchmarks.gpu.kernel_time import (
    LATENCY,
    SCHEDULERS,
    WAVEFRONT_BYTES,
    Prediction,
    Warp,
    slowest,
    step,
)
from benchmarks.tables import print_table

CODE = Path(__file__).parents[1] / "results" / "warpgroup_code.csv"
ARCHITECTURE = "sm_90a"
PADDED = (64, 128, 256)
ROWS_OF_WARPGROUP = 64
WARPS_OF_WARPGROUP = 4
WARPGROUPS = 2  # that multiply; a third one copies
DEPTH = 16
LAUNCHES = 4  # norms, forward, the losses' sum, gradient
LOADS = {"forward": 3, "gradient": 5}  # that wait for each other, before the first panel


@functools.cache
def compiled() -> Mapping[Any, Mapping[str, float]]:
    """The table of the compiled code, by architecture, pass, dtype, elements and rows."""
    keys = ["architecture", "pass", "dtype", "elements", "rows"]
    table = pd.read_csv(CODE).set_index(keys).astype(float)
    found: dict[Any, dict[str, float]] = table.to_dict("index")
    return found


def rows_of_tile(num_docs: int, device: Device) -> int:
    """As csrc/cuda/warpgroups/kernels.cu chooses them."""

    def turns(rows: int) -> int:
        return math.ceil(math.ceil(num_docs / rows) / device.multiprocessors)

    low, tall = ROWS_OF_WARPGROUP, WARPGROUPS * ROWS_OF_WARPGROUP
    return low if turns(low) < 2 * turns(tall) else tall


@dataclass(frozen=True)
class WarpgroupPass:
    """One of the two passes: its tiles on a device."""

    name: str
    size: Size
    device: Device

    @property
    def dim(self) -> int:
        """The padded row."""
        return min(length for length in PADDED if length >= self.size.dim)

    @property
    def rows(self) -> int:
        """Of a tile."""
        return rows_of_tile(self.size.num_docs, self.device)

    @property
    def columns(self) -> int:
        """Of a panel."""
        return 128 if self.dim <= 128 else 64

    @property
    def panels(self) -> int:
        """That a tile meets: its own rows' places, and K more."""
        return math.ceil((self.rows + self.size.num_negatives) / self.columns)

    @property
    def turns(self) -> int:
        """Tiles of the multiprocessors that have the most."""
        tiles = math.ceil(self.size.num_docs / self.rows)
        return math.ceil(tiles / self.device.multiprocessors)

    @property
    def warpgroups_of_panel(self) -> int:
        """That multiply each panel: with 64 rows they take panels in turn."""
        return self.rows // ROWS_OF_WARPGROUP

    @property
    def code(self) -> Mapping[str, float]:
        """The compiled kernel."""
        return compiled()[ARCHITECTURE, self.name, self.size.dtype, self.dim, self.rows]

    @property
    def product_clocks(self) -> float:
        """Of a multiprocessor's tensor cores, for a warpgroup's products with a panel."""
        peak = self.device.tensor_rate / SHARE_OF_MMA_SYNC
        operations = 2 * 2 * ROWS_OF_WARPGROUP * self.columns * self.dim
        a_clock = peak / self.device.multiprocessors / self.device.clock
        return operations / a_clock

    @property
    def shared_bytes(self) -> float:
        """That a warpgroup's products read of a panel, and its share of the copies.

        The logits' products read both factors, in steps of 16 elements; the sums' only the
        panel.
        """
        steps = self.dim / DEPTH
        of_logits = steps * (ROWS_OF_WARPGROUP + self.columns) * DEPTH * 2
        of_sums = self.columns * self.dim * 2
        copied = self.columns * self.dim * 2 / self.warpgroups_of_panel
        return of_logits + of_sums + copied

    def limits(self) -> dict[str, float]:
        """Seconds that each resource needs by itself."""
        clock = self.device.clock
        met = self.turns * self.panels
        times = met * self.warpgroups_of_panel
        warps = self.warpgroups_of_panel * WARPS_OF_WARPGROUP * self.code["way"]
        copies = WARPS_OF_WARPGROUP * self.code["copy_way"]
        # Each warp in its own panels, beside the other warpgroup's.
        own = met * self.warpgroups_of_panel / WARPGROUPS
        tiles = math.ceil(self.size.num_docs / self.rows)
        moved = tiles * (self.panels * self.columns + self.rows) * self.size.row_bytes
        return {
            "tensor cores": times * self.product_clocks / clock,
            "instructions": met * (warps + copies) / SCHEDULERS / clock,
            "shared memory": times * self.shared_bytes / WAVEFRONT_BYTES / clock,
            "L2": moved / self.device.l2_bandwidth,
            "memory": memory_bytes(self.size, True) / 2 / self.device.memory_bandwidth,
            "stalls": own * (self.code["stalls"] + self.product_clocks) / clock,
        }

    def high(self) -> float:
        """The time where the two warps of a scheduler hide little of their waiting."""
        of_panel = Warp(self.code["way"], self.code["stalls"]).slow_clocks(WARPGROUPS)
        own = self.panels * self.warpgroups_of_panel / WARPGROUPS
        clocks = own * (of_panel + self.product_clocks) + LOADS[self.name] * LATENCY
        return self.turns * clocks / self.device.clock

    def predict(self) -> Prediction:
        """The range."""
        low, bound = slowest(self.limits())
        return Prediction(low, max(low, self.high()), bound)


def predict(size: Size, device: Device) -> Prediction:
    """A training step."""
    kernels = [WarpgroupPass(name, size, device).predict() for name in LOADS]
    return step([*kernels, tile_model.norms(size, device)], LAUNCHES, finishes=True)


SIZES = (
    *(Size(rows, rows - 1, dim, "bfloat16") for dim in PADDED for rows in (4096, 8192)),
    *(Size(rows, rows - 1, 128, "bfloat16") for rows in (10000, 16384, 32768, 65536)),
)


def predictions() -> Iterator[dict[str, Any]]:
    """A row for each size: `all` on an H100, beside the usual kernels' prediction."""
    device = DEVICES["H100"]
    for size in SIZES:
        found = predict(size, device)
        usual = tile_model.predict(size, True, device, draws=False)
        tensor = sum(
            WarpgroupPass(name, size, device).limits()["tensor cores"] for name in LOADS
        )
        yield {
            "size": str(size),
            "dtype": size.dtype,
            "rows_of_tile": rows_of_tile(size.num_docs, device),
            "low_us": round(1e6 * found.low, 1),
            "high_us": round(1e6 * found.high, 1),
            "bound": found.bound,
            "tensor_us": round(1e6 * tensor, 1),
            "usual_low_us": round(1e6 * usual.low, 1),
            "usual_high_us": round(1e6 * usual.high, 1),
        }


COLUMNS = (
    "B x K x D",
    "rows of a tile",
    "warpgroups, µs",
    "at the least by",
    "tensor cores alone, µs",
    "usual, µs",
)


def cells(row: Mapping[Any, Any]) -> list[str]:
    """A row of the table in words."""
    return [
        str(row["size"]).replace("x", " x "),
        str(row["rows_of_tile"]),
        f"{row['low_us']:.0f}-{row['high_us']:.0f}",
        str(row["bound"]),
        f"{row['tensor_us']:.0f}",
        f"{row['usual_low_us']:.0f}-{row['usual_high_us']:.0f}",
    ]


def main(words: Sequence[str] | None = None) -> None:
    """Prints the table and writes the CSV that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="the CSV to write")
    arguments = parser.parse_args(words)
    rows = list(predictions())
    print_table("A training step of `all`: nothing ran", COLUMNS, map(cells, rows))
    if arguments.output:
        pd.DataFrame(rows).to_csv(arguments.output, index=False)


if __name__ == "__main__":
    main()
