"""The sizes of a tile, as csrc/cuda/tiles/shape.cuh and kernels.cu choose them.

A test compares them with the blocks and the shared memory that the emulator sees.
"""

from __future__ import annotations

from dataclasses import dataclass

BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
# Of what rows are multiplied as: rounded float32 numbers are not a dtype of embeddings.
FACTOR_BYTES = {**BYTES, "tf32": 4}
# What tiles pad rows to, in bytes.
ROWS_OF_TILES = (128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096)
# In the order in which shape.cuh numbers them.
KINDS = ("tall", "flat", "tight", "middle", "twin")
LONGEST_ROW_OF_GROUPS = 512
TIGHT_ROWS = range(256, 1025)
ROWS_OF_WARP = 16  # of a matrix, as the tensor cores take them
WARP_SIZE = 32


@dataclass(frozen=True)
class TileShape:
    """A tile for rows of a padded length; ``dtype`` is what rows are multiplied as."""

    dtype: str
    row_bytes: int
    kind: str = "tall"

    @property
    def dim(self) -> int:
        """The elements of a padded row."""
        return self.row_bytes // FACTOR_BYTES[self.dtype]

    @property
    def is_double(self) -> bool:
        """Whether its arithmetic is float64."""
        return self.dtype == "float64"

    @property
    def sum_bytes(self) -> int:
        """What a lane holds of the sums of 16 rows."""
        return self.dim * ROWS_OF_WARP // WARP_SIZE * (8 if self.is_double else 4)

    @property
    def most_sum_bytes(self) -> int:
        """What it may hold."""
        return 512 if FACTOR_BYTES[self.dtype] < 4 or self.row_bytes <= 512 else 256

    @property
    def has_sixteen_warps(self) -> bool:
        """Whether so many share a multiprocessor's registers."""
        is_short = self.sum_bytes <= 256 and self.row_bytes <= LONGEST_ROW_OF_GROUPS
        return is_short and not self.is_double

    @property
    def slices(self) -> int:
        """Warps that share the elements of the same rows."""
        slices = 1
        while self.sum_bytes > slices * self.most_sum_bytes:
            slices *= 2
        return slices

    @property
    def columns_of_warp(self) -> int:
        """Rows of a panel that a warp multiplies with its own."""
        is_narrow = (
            self.kind == "flat"
            or self.row_bytes > 1024
            or self.is_double
            or (self.kind == "tight" and self.row_bytes > 256)
            or (self.row_bytes == 512 and FACTOR_BYTES[self.dtype] == 4)
        )
        return 16 if is_narrow else 32

    @property
    def groups(self) -> int:
        """Groups of warps that share the columns of a panel."""
        if self.kind == "flat":
            return 8
        if self.row_bytes > LONGEST_ROW_OF_GROUPS or self.is_double:
            return 1
        if self.kind in ("tight", "twin"):
            return 2
        return 4 if self.kind == "middle" or self.has_sixteen_warps else 2

    @property
    def columns(self) -> int:
        """Rows of a panel."""
        return self.groups * self.columns_of_warp

    @property
    def rows(self) -> int:
        """Rows of the tile."""
        if self.kind in ("flat", "middle"):
            return ROWS_OF_WARP if self.kind == "flat" else 2 * ROWS_OF_WARP
        if self.row_bytes <= LONGEST_ROW_OF_GROUPS:
            return 64
        longest = 1024 if self.kind == "tight" else 2048
        return 2 * self.columns if self.row_bytes <= longest else 16

    @property
    def warps(self) -> int:
        """Warps of a block."""
        return self.rows // ROWS_OF_WARP * self.groups * self.slices


def padded_row_bytes(row_bytes: int) -> int:
    """The shortest padded row that holds one.

    Raises:
        ValueError: it is too long for tiles.
    """
    for length in ROWS_OF_TILES:
        if row_bytes <= length:
            return length
    raise ValueError(f"rows of {row_bytes} bytes are too long for tiles")


def kinds_of(dtype: str, row_bytes: int) -> list[str]:
    """The kinds that there are kernels for."""
    if dtype == "float64":
        return ["tall"]
    tall = TileShape(dtype, row_bytes)
    has_groups = row_bytes <= LONGEST_ROW_OF_GROUPS
    is_there = {
        "tall": True,
        "flat": has_groups,
        "tight": row_bytes in TIGHT_ROWS and not tall.has_sixteen_warps,
        "middle": has_groups,
        "twin": tall.has_sixteen_warps,
    }
    return [kind for kind in KINDS if is_there[kind]]


def shape_for(
    dtype: str, row_bytes: int, num_candidates: int, multiprocessors: int
) -> TileShape:
    """The tile for so many rows, on a device with room for any.

    The smallest of which all run at once, each on a multiprocessor of its own.
    """
    length = padded_row_bytes(row_bytes)
    kinds = kinds_of(dtype, length)
    for kind in ("flat", "middle", "tall"):
        shape = TileShape(dtype, length, kind)
        if kind in kinds and -(-num_candidates // shape.rows) <= multiprocessors:
            return shape
    return TileShape(dtype, length, "twin" if "twin" in kinds else "tall")
