"""Predicts the tile kernels, those of ``ring`` and ``all``, as a range (kernel_time.py).

A block takes a tile of rows through panels of others. What a warp executes for a panel
comes from the compiled loop (tile_code.py), the sizes from tile_shape.py.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmarks.gpu.gpu_model import (
    Device,
    Size,
    floating_rate,
    memory_bytes,
    tile_bytes,
    tile_shape,
)
from benchmarks.gpu.kernel_time import (
    LANES,
    LATENCY,
    REGISTERS_OF_A_MULTIPROCESSOR,
    SCHEDULERS,
    WAVEFRONT_BYTES,
    Prediction,
    Warp,
    slow_clocks_outside,
    slowest,
    step,
)
from benchmarks.gpu.tile_shape import ROWS_OF_WARP, TileShape

CODE = Path(__file__).parents[1] / "results" / "tile_code.csv"

# The compiler's stall count between two products on the tensor cores.
STALLS_OF_A_PRODUCT = 6
# What a launch of its own for the documents' norms has to save, csrc/cuda/tiles/kernels.cu.
BYTES_OF_LAUNCH = 1 << 24
# Loads that wait for each other. Forward: the seed, the own rows, the positives once more.
# Gradient: the seed, the coefficients of a document's own query (two), the documents, the
# queries and their norms.
LOADS = {"forward": 3, "gradient": 6}
# Directions that a warp scales at once, each for the gradient of a query.
QUERIES_AT_ONCE = 4

# A lane's instructions for a pair of rows beyond the loop's way, read in the listing of
# forward, bfloat16 x 128, tall, sm_90: stretches of 86 and 49 (logQ and the mask that an
# excluded document needs), of 276 (ids) and of 62 and 16 (the rank and the number of the
# candidates), each of 16 pairs. The gradient has the first two.
INSTRUCTIONS_OF_A_PAIR = {
    "doc_log_q": (86 + 49) / 16,
    "ids": 276 / 16,
    "statistics": (62 + 16) / 16,
}


class TensorProducts(NamedTuple):
    """How tensor cores multiply rows of a dtype, see csrc/cuda/tiles/products.cuh."""

    name: str  # in the table of the compiled code
    operations: int  # of an instruction
    parts: int  # of a weight, in the weighted sums
    share: float  # of the rate of 16-bit products
    of_a_wavefront: float  # that sum rows


TENSOR_PRODUCTS = {
    "float16": TensorProducts("float16", 2 * 16 * 8 * 16, 2, 1, 1),
    "bfloat16": TensorProducts("bfloat16", 2 * 16 * 8 * 16, 2, 1, 1),
    "float32": TensorProducts("tf32", 2 * 16 * 8 * 8, 1, 1 / 2, 1 / 2),
}


@dataclass(frozen=True)
class TileLoop:
    """The compiled loop over panels of a kernel."""

    registers: int
    other_instructions: int
    hash_instructions: int
    products: float
    wavefronts: float  # of shared memory
    warp: Warp

    def without_sums(self, products: TensorProducts) -> TileLoop:
        """That of the loss alone, which sums no rows: it loads none for that either.

        Each turn of shared memory that brings rows to be summed is for as many products.
        """
        fewer = self.products * products.parts / (1 + products.parts)
        return replace(
            self,
            products=self.products - fewer,
            wavefronts=self.wavefronts - fewer / products.of_a_wavefront,
            warp=self.warp + Warp(-fewer, -STALLS_OF_A_PRODUCT * fewer),
        )


@functools.cache
def compiled() -> Mapping[Any, Mapping[str, float]]:
    """The table of the compiled code, by architecture, pass, dtype, elements and kind."""
    keys = ["architecture", "pass", "dtype", "elements", "kind"]
    table = pd.read_csv(CODE).set_index(keys).astype(float)
    found: dict[Any, dict[str, float]] = table.to_dict("index")
    return found


def loop_of(
    architecture: str, pass_name: str, dtype: str, tile: TileShape, with_norms: bool
) -> TileLoop:
    """The loop of a tile's kernel."""
    row = compiled()[architecture, pass_name, dtype, tile.dim, tile.kind]
    norms = "_with_norms" if with_norms else ""
    return TileLoop(
        int(row["registers"]),
        int(row["other_instructions"]),
        int(row["hash_instructions"]),
        row["products"],
        row["wavefronts"],
        Warp(row["way" + norms], row["stalls" + norms]),
    )


def share_of_option(option: str, size: Size, device: Device) -> float:
    """An option's instructions in a step, for each one of the others."""
    found = passes(size, True, device, draws=False)
    pairs = ROWS_OF_WARP * found[0].tile.columns_of_warp / LANES
    in_passes = 1 if option == "statistics" else 2
    more = in_passes * pairs * INSTRUCTIONS_OF_A_PAIR[option]
    return more / sum(each.loop.warp.instructions for each in found)


def finds_norms_first(size: Size, tile: TileShape) -> bool:
    """Whether the documents' norms come from a launch of their own."""
    saved = size.num_negatives // tile.rows * size.num_docs * tile.row_bytes
    return saved >= BYTES_OF_LAUNCH


@dataclass(frozen=True)
class TilePass:
    """One of the two passes: its tiles on a device."""

    name: str
    size: Size
    tile: TileShape
    loop: TileLoop
    device: Device
    draws: bool  # whether places are hashed
    moved_bytes: float  # through the L2
    memory_bytes: float

    @property
    def panels(self) -> int:
        """That a tile meets: its own rows' places, and K more."""
        return math.ceil((self.tile.rows + self.size.num_negatives) / self.tile.columns)

    @property
    def tiles_in_turn(self) -> int:
        """Tiles of the multiprocessors that have the most."""
        tiles = math.ceil(self.size.num_docs / self.tile.rows)
        return math.ceil(tiles / self.device.multiprocessors)

    @property
    def blocks_together(self) -> int:
        """Tiles that share a multiprocessor's registers, where it has so many."""
        threads = self.tile.warps * LANES
        registers = -(-self.loop.registers // 8) * 8 * threads
        return max(1, min(REGISTERS_OF_A_MULTIPROCESSOR // registers, self.tiles_in_turn))

    @property
    def hashes(self) -> Warp:
        """A warp's hashes of a panel's places: each thread of the block takes some."""
        if not self.draws:
            return Warp(0, 0)
        indices = self.tile.columns / self.tile.warps / LANES
        instructions = indices * self.loop.hash_instructions
        pace = self.loop.warp.stalls / self.loop.warp.instructions
        return Warp(instructions, pace * instructions)

    @property
    def merged_bytes(self) -> float:
        """What a tile's groups write and read of their sums, in float32."""
        if self.tile.groups == 1:
            return 0
        return 2 * self.tile.groups * self.tile.rows * self.tile.dim * 4

    def limits(self) -> dict[str, float]:
        """Seconds that each resource needs by itself."""
        clock, tiles = self.device.clock, self.tiles_in_turn
        warp = (self.loop.warp + self.hashes).times(self.panels)
        rounds = math.ceil(tiles / self.blocks_together)
        products = self.panels * self.tile.warps * self.loop.products
        operations = products * TENSOR_PRODUCTS[self.size.dtype].operations
        tensor_rate = self.device.tensor_rate * TENSOR_PRODUCTS[self.size.dtype].share
        turns = self.panels * self.tile.warps * self.loop.wavefronts
        turns += self.merged_bytes / WAVEFRONT_BYTES
        return {
            "L2": self.moved_bytes / self.device.l2_bandwidth,
            "memory": self.memory_bytes / self.device.memory_bandwidth,
            "tensor cores": tiles * operations * self.device.multiprocessors / tensor_rate,
            "instructions": tiles
            * self.tile.warps
            / SCHEDULERS
            * warp.instructions
            / clock,
            "shared memory": tiles * turns / clock,
            "stalls": rounds * warp.stalls / clock,
        }

    def high(self) -> float:
        """The time where the warps of a scheduler hide little of each other's waiting."""
        warps = math.ceil(self.tile.warps * self.blocks_together / SCHEDULERS)
        panel = self.loop.warp + self.hashes
        clocks = self.panels * panel.slow_clocks(warps)
        clocks += slow_clocks_outside(self.loop.other_instructions, warps)
        loads = LOADS[self.name]
        if self.name == "gradient":
            of_a_turn = QUERIES_AT_ONCE * self.tile.warps
            loads += math.ceil(self.tile.rows / of_a_turn)
        clocks += loads * LATENCY
        return (
            math.ceil(self.tiles_in_turn / self.blocks_together)
            * clocks
            / (self.device.clock)
        )

    def predict(self) -> Prediction:
        """The range."""
        low, bound = slowest(self.limits())
        return Prediction(low, max(low, self.high()), bound)


def norms(size: Size, device: Device) -> Prediction:
    """The launch that finds the documents' norms: it reads each row once."""
    low = size.num_docs * size.row_bytes / device.l2_bandwidth
    return Prediction(low, 2 * low + 2 * LATENCY / device.clock, "L2")


def passes(size: Size, training: bool, device: Device, draws: bool) -> list[TilePass]:
    """The forward pass and, of a training step, the gradient pass."""
    products = TENSOR_PRODUCTS[size.dtype]
    tile = tile_shape(size, device.multiprocessors)
    with_norms = not finds_norms_first(size, tile)
    forward, gradient = (
        loop_of(device.architecture, name, products.name, tile, with_norms)
        for name in ("forward", "gradient")
    )
    if not training:
        forward = forward.without_sums(products)
    in_memory = float(memory_bytes(size, training))
    moved = float(tile_bytes(size, device.multiprocessors, training))
    if training:  # a half of each, nearly: the direction goes there and back
        in_memory, moved = in_memory / 2, moved / 2
    common = (size, tile)
    found = [TilePass("forward", *common, forward, device, draws, moved, in_memory)]
    if training:
        rest = TilePass("gradient", *common, gradient, device, draws, moved, in_memory)
        found.append(rest)
    return found


def plain_seconds(size: Size, training: bool, device: Device) -> float:
    """Of float64, whose multiply-adds are the limit: at the least."""
    tile = tile_shape(size, device.multiprocessors)
    pairs = size.batch_size * (tile.rows + size.num_negatives)
    operations = 2 * pairs * size.dim * (4 if training else 1)
    tiles = math.ceil(size.num_docs / tile.rows) / device.multiprocessors
    return math.ceil(tiles) / tiles * operations / floating_rate(size, device)


def launches(size: Size, training: bool, tile: TileShape) -> int:
    """The two passes and the losses' sum, and one for the norms of wide bands."""
    return (3 if training else 2) + finds_norms_first(size, tile)


def predict(size: Size, training: bool, device: Device, draws: bool = True) -> Prediction:
    """A training step, or the loss alone."""
    tile = tile_shape(size, device.multiprocessors)
    count = launches(size, training, tile)
    if size.dtype not in TENSOR_PRODUCTS:
        low = plain_seconds(size, training, device)
        return step([Prediction(low, math.inf, "floating point")], count, True)
    kernels = [each.predict() for each in passes(size, training, device, draws)]
    if finds_norms_first(size, tile):
        kernels.append(norms(size, device))
    return step(kernels, count, finishes=True)
