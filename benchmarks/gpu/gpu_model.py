"""Problems and devices, and the bytes and operations of a step, counted by hand.

What times follow from these is in row_model.py and tile_model.py.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

from benchmarks.gpu.tile_shape import BYTES, ROWS_OF_TILES, TileShape, shape_for

MODES = ("forward", "train")
SIZE_FORM = "BxKxD[ofC]"  # what `parse_size` reads

# The gradient pass reads 16 bytes of facts about each gathered row; a cache moves no
# less than a sector.
SECTOR_BYTES = 32


@dataclass(frozen=True)
class Size:
    """A problem: B rows of D numbers of a dtype, K candidates a row.

    There may be more documents than queries, behind the batch's own: those of a queue or
    of other replicas. What is predicted here is of a batch's own documents alone.
    """

    batch_size: int
    num_negatives: int
    dim: int
    dtype: str = "float32"
    more_docs: int = 0

    def __str__(self) -> str:
        of_more = f" of {self.num_docs}" if self.more_docs else ""
        return f"{self.batch_size}x{self.num_negatives}x{self.dim}{of_more}"

    @property
    def num_docs(self) -> int:
        """C, the documents that candidates are drawn from."""
        return self.batch_size + self.more_docs

    @property
    def table_bytes(self) -> int:
        """The bytes of one of the two inputs."""
        return self.batch_size * self.row_bytes

    @property
    def row_bytes(self) -> int:
        """The bytes of a row."""
        return self.dim * BYTES[self.dtype]


def parse_size(text: str) -> Size:
    """``4096x20x128`` is B x K x D, ``512x50x64of8704`` the same of C documents."""
    table, of, docs = text.partition("of")
    try:
        batch_size, num_negatives, dim = map(int, table.split("x"))
        num_docs = int(docs) if of else batch_size
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"a size is {SIZE_FORM}, such as 4096x20x128 or 512x50x64of8704, got {text!r}"
        ) from None
    if min(batch_size, num_negatives, dim) < 1:
        raise argparse.ArgumentTypeError(f"B, K and D must be at least 1, got {text!r}")
    if num_docs < batch_size:
        raise argparse.ArgumentTypeError(
            f"C must be at least B, as each query has a document of its own, got {text!r}"
        )
    return Size(batch_size, num_negatives, dim, more_docs=num_docs - batch_size)


def l2_bytes(size: Size, training: bool) -> int:
    """Bytes through the L2: query, positive and K rows a row and pass, and row facts."""
    rows = size.table_bytes * (size.num_negatives + 2)
    facts = size.batch_size * size.num_negatives * SECTOR_BYTES
    return 2 * rows + facts if training else rows


def tile_shape(size: Size, multiprocessors: int) -> TileShape:
    """The tile of a size, see csrc/cuda/tiles/shape.cuh."""
    return shape_for(size.dtype, size.row_bytes, size.num_docs, multiprocessors)


def tile_bytes(size: Size, multiprocessors: int, training: bool = True) -> int:
    """Bytes through the L2 by tiles, with ``ring`` or ``all``.

    In each pass a tile of M rows reads them and the M + K that they meet; a training step
    also writes both gradients, and the direction, which it reads again. For the direction
    it needs the positives once more: panels take their place in shared memory. Eight
    elements of these at a time are half a sector of 16-bit rows.
    """
    rows = tile_shape(size, multiprocessors).rows
    met = (2 + size.num_negatives / rows) * size.table_bytes
    if not training:
        return round(met)
    outputs = memory_bytes(size, training=True) - 2 * size.table_bytes
    positives = size.table_bytes * (2 if BYTES[size.dtype] == 2 else 1)
    return round(2 * met) + positives + outputs


def memory_bytes(size: Size, training: bool) -> int:
    """Each input read and each output written once, and the direction both.

    The query's direction, in float32 or wider, goes from the forward pass to the
    gradient pass.
    """
    if not training:
        return 2 * size.table_bytes
    direction = size.batch_size * size.dim * max(4, BYTES[size.dtype])
    return 4 * size.table_bytes + 2 * direction


def floating_operations(size: Size, training: bool) -> int:
    """Two a multiply-add; the forward pass does a product and a squared norm.

    A training step adds the weighted sum to it, and product and weighted sum to the
    gradient pass.
    """
    multiply_adds = 5 if training else 2
    elements = size.batch_size * (size.num_negatives + 1) * size.dim
    return 2 * multiply_adds * elements


@dataclass(frozen=True)
class Device:
    """What a device can do, in bytes and operations a second."""

    name: str
    l2_bandwidth: float
    l2_capacity: float  # bytes that the L2 holds at its full bandwidth
    memory_bandwidth: float
    floating_rate: float = math.inf  # float32, a multiply-add counts two
    integer_rate: float = math.inf
    reported_name: str = ""  # what the driver's name begins with
    tensor_rate: float = math.inf  # by mma.sync: 16-bit products, float32 sums
    multiprocessors: int = 1
    clock: float = math.inf
    architecture: str = "sm_90"
    # By the shared memory of a block: what is noted of float64 rows takes more of it too.
    longest_tiled_row: int = ROWS_OF_TILES[-1]
    longest_float64_row: int = ROWS_OF_TILES[-1]

    @property
    def issue_rate(self) -> float:
        """Instructions of warps a second: a multiprocessor issues four a clock."""
        return 4 * self.multiprocessors * self.clock

    def takes_tiles(self, size: Size) -> bool:
        """Whether rows are short enough for tiles; the row kernels take longer ones."""
        is_double = size.dtype == "float64"
        longest = self.longest_float64_row if is_double else self.longest_tiled_row
        return size.row_bytes <= longest


# L2 bandwidth and the capacity up to which it holds: measured by others, the plateaus of
# gpu-l2-cache/{a100_80,h100_pcie,h200}.txt in github.com/te42kyfo/gpu-benches (1c36d50).
# The H100's is that of the PCIe card, which has 114 of the SXM card's 132
# multiprocessors and half its power: a lower bound.
# Memory: NVIDIA's data sheets (A100 80 GB SXM: 2.039 TB/s, H100 SXM: 3.35 TB/s); H200:
# 3.9 TB/s measured of the sheet's 4.8.
# Operations: data sheets (float32: A100 19.5, H100 and H200 67 Tflop/s; bfloat16 by the
# tensor cores, without sparsity: A100 312, H100 and H200 989 Tflop/s); integers: 64 a
# clock and multiprocessor (CUDA programming guide, arithmetic throughput) times 108
# multiprocessors at 1.41 GHz and 132 at 1.98 GHz.
# Of the tensor cores' peak `mma.sync` reaches 62.9% on Hopper, the average of those that
# Luo et al. measured on an H800 (2025, arXiv 2501.12084); only `wgmma` reaches all of it.
SHARE_OF_MMA_SYNC = 0.629

DEVICES = {
    "A100": Device(
        "A100 SXM 80 GB",
        5.4e12,
        25600 * 1024,
        2.039e12,
        19.5e12,
        9.7e12,
        "NVIDIA A100-SXM4-80GB",
        312e12,
        108,
        1.41e9,
        "sm_80",
        3072,
        2048,
    ),
    "H100": Device(
        "H100 SXM",
        6.9e12,
        36864 * 1024,
        3.35e12,
        67e12,
        16.7e12,
        "NVIDIA H100 80GB HBM3",
        SHARE_OF_MMA_SYNC * 989e12,
        132,
        1.98e9,
    ),
    "H200": Device(
        "H200",
        9.7e12,
        40448 * 1024,
        3.9e12,
        67e12,
        16.7e12,
        "NVIDIA H200",
        SHARE_OF_MMA_SYNC * 989e12,
        132,
        1.98e9,
    ),
}


def find_device(reported_name: str) -> Device | None:
    """The device of the table that a driver's name means."""
    for device in DEVICES.values():
        if reported_name.startswith(device.reported_name):
            return device
    return None


def gather_seconds(size: Size, training: bool, device: Device) -> float:
    """The rows' time: what does not fit into the L2 comes from device memory."""
    missed = max(0.0, 1 - device.l2_capacity / size.table_bytes)
    a_byte = (1 - missed) / device.l2_bandwidth + missed / device.memory_bandwidth
    return l2_bytes(size, training) * a_byte


def floating_rate(size: Size, device: Device) -> float:
    """Operations a second; both generations have half as many float64 as float32 units."""
    return device.floating_rate / (2 if size.dtype == "float64" else 1)


def floor_seconds(size: Size, training: bool, device: Device) -> float:
    """What the measured bandwidths alone allow."""
    memory = memory_bytes(size, training) / device.memory_bandwidth
    return max(gather_seconds(size, training, device), memory)
