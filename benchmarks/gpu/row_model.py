"""Predicts the row kernels, those of ``shuffle``, as a range (kernel_time.py).

A warp takes a row of a matrix through K rows of the other, some at a time. What it executes
for these comes from the compiled loop (row_code.py).
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.gpu import tile_model
from benchmarks.gpu.gpu_model import (
    Device,
    Size,
    floating_operations,
    floating_rate,
    gather_seconds,
    memory_bytes,
)
from benchmarks.gpu.kernel_time import (
    LANES,
    LATENCY,
    SCHEDULERS,
    Prediction,
    Warp,
    slow_clocks_outside,
    slowest,
    step,
)
from benchmarks.gpu.tile_shape import BYTES

CODE = Path(__file__).parents[1] / "results" / "row_code.csv"

PACKET_BYTES = 16
MOST_WARPS = 4  # of a row
# docs/sampler.md counts 67 operations of an index; six keys come from shared memory, of a
# block's first draws (csrc/cuda/candidates/candidates.cuh).
HASH_WITH_KEYS = 67 + 6
KEPT_DRAWS = 128
# Loads that wait for each other: the row, the indices' rows, what is read once more.
LOADS = 3


@functools.cache
def compiled() -> Mapping[Any, Mapping[str, float]]:
    """The table of the compiled code, by architecture, pass, dtype and layout."""
    keys = ["architecture", "pass", "dtype", "rows"]
    table = pd.read_csv(CODE).set_index(keys).astype(float)
    found: dict[Any, dict[str, float]] = table.to_dict("index")
    return found


def layout(size: Size) -> str | None:
    """How a warp holds a row, see csrc/cuda/rows/kernels.cu; None where it is streamed."""
    packets = math.ceil(size.row_bytes / PACKET_BYTES)
    short = [(8, 1, 1), (16, 1, 1), (32, 1, 1), (32, 2, 1), (32, 4, 1)]
    if size.row_bytes % PACKET_BYTES:
        held = narrowest(short, packets)
        return held and f"{held} in pieces"
    if max(math.ceil(size.dim / 1024), math.ceil(size.row_bytes / 4096)) > MOST_WARPS:
        return None
    most = 4 if BYTES[size.dtype] == 2 else 8
    longer = [(32, most, 1), (32, most // 2, MOST_WARPS), (32, most, MOST_WARPS)]
    return narrowest(short + longer, packets)


def narrowest(choices: Sequence[tuple[int, int, int]], packets: int) -> str | None:
    """The first lanes, packets of a lane and warps that hold so many packets."""
    for lanes, of_lane, warps in choices:
        if packets <= lanes * of_lane * warps:
            return f"{lanes} lanes x {of_lane} packets x {warps} warps"
    return None


def warps_of(rows: str) -> int:
    """The warps that share a row."""
    return int(rows.split(" warps")[0].split()[-1])


@functools.cache
def hash_without_keys(architecture: str) -> float:
    """Of an index whose keys are found with it, as those of tiles are (tile_code.py)."""
    found = [
        row["hash_instructions"]
        for key, row in tile_model.compiled().items()
        if key[0] == architecture
    ]
    return statistics.median(found)


def hash_instructions(architecture: str, indices: float) -> float:
    """Of so many indices of a row, of which the first ones' keys are kept."""
    kept = min(indices, KEPT_DRAWS)
    return kept * HASH_WITH_KEYS + (indices - kept) * hash_without_keys(architecture)


@dataclass(frozen=True)
class RowPass:
    """One of the two passes on a device."""

    size: Size
    device: Device
    rows: str  # the layout
    name: str

    @property
    def code(self) -> Mapping[str, float]:
        """The compiled loop's figures."""
        return compiled()[self.device.architecture, self.name, self.size.dtype, self.rows]

    @property
    def fragments(self) -> int:
        """That a row meets: by 32 indices, of which the last may be fewer."""
        full, rest = divmod(self.size.num_negatives, LANES)
        of_rows = int(self.code["fragment_rows"])
        return full * LANES // of_rows + math.ceil(rest / of_rows)

    @property
    def hashes(self) -> float:
        """A warp's instructions for the indices of a row."""
        turns = math.ceil(self.size.num_negatives / LANES)
        indices = turns * LANES
        return hash_instructions(self.device.architecture, indices) / LANES

    @property
    def warp(self) -> Warp:
        """What a warp executes for a row."""
        loop = Warp(self.code["way"], self.code["stalls"])
        share = self.code["fragment_rows"] / self.code["loop_rows"]
        met = loop.times(self.fragments * share)
        return met + Warp(self.hashes, self.hashes * loop.stalls / loop.instructions)

    @property
    def rounds(self) -> int:
        """Rows that a warp takes, one after another."""
        warps_of_row = warps_of(self.rows)
        together = int(self.code["warps"]) // warps_of_row * self.device.multiprocessors
        return math.ceil(self.size.num_docs / together)

    def limits(self) -> dict[str, float]:
        """Seconds that each resource needs by itself."""
        warps = self.size.num_docs * warps_of(self.rows)
        return {
            "instructions": warps * self.warp.instructions / self.device.issue_rate,
            "stalls": self.rounds * self.warp.stalls / self.device.clock,
        }

    def high(self) -> float:
        """The time where the warps of a scheduler hide little of each other's waiting."""
        warps = math.ceil(int(self.code["warps"]) / SCHEDULERS)
        clocks = self.warp.slow_clocks(warps) + LOADS * LATENCY
        clocks += slow_clocks_outside(self.code["other_instructions"], warps)
        return self.rounds * clocks / self.device.clock


def resources(size: Size, training: bool, device: Device) -> dict[str, float]:
    """Seconds of the whole step's bytes and operations."""
    rows = (2 if training else 1) * size.batch_size
    operations = rows * hash_instructions(device.architecture, size.num_negatives)
    return {
        "L2": gather_seconds(size, training, device),
        "memory": memory_bytes(size, training) / device.memory_bandwidth,
        "floating point": floating_operations(size, training) / floating_rate(size, device),
        "hash": operations / device.integer_rate,
    }


def launches(training: bool) -> int:
    """Kernels: two of the forward pass, one of the gradient pass."""
    return 3 if training else 2


def predict(size: Size, training: bool, device: Device) -> Prediction:
    """A training step, or the loss alone; of streamed rows at the least."""
    limits = resources(size, training, device)
    rows = layout(size)
    high = math.inf
    if rows is not None:
        names = ("forward", "gradient")[: 2 if training else 1]
        found = [RowPass(size, device, rows, name) for name in names]
        for name in ("instructions", "stalls"):
            limits[name] = sum(each.limits()[name] for each in found)
        high = sum(each.high() for each in found)
    low, bound = slowest(limits)
    both = Prediction(low, max(low, high), bound)
    return step([both], launches(training), finishes=True)
