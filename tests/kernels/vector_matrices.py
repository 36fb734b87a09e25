"""Matrices for the tensor cores, as the lanes of a warp hold them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from tests.kernels.vector_draws import Draw

Array = NDArray[Any]

LANES = np.arange(32)[:, None]
ITEMS = np.arange(8)


@dataclass(frozen=True)
class Fragment:
    """Which elements of a matrix the lanes of a warp hold, as csrc/cuda says."""

    rows: Array  # [lanes, elements of a lane]
    columns: Array
    shape: tuple[int, int]

    def pack(self, matrices: Array) -> Array:
        """Matrices as the lanes hold them, one warp each."""
        return matrices[:, self.rows, self.columns].reshape(-1, self.rows.shape[1])

    def unpack(self, elements: Array) -> Array:
        """The matrices back again."""
        of_warps = elements.reshape(-1, *self.rows.shape)
        matrices = np.zeros((len(of_warps), *self.shape), elements.dtype)
        matrices[:, self.rows, self.columns] = of_warps
        return matrices


def fragment(rows: Array, columns: Array, shape: tuple[int, int]) -> Fragment:
    """From formulas of a lane's number and its elements' numbers."""
    rows, columns = np.broadcast_arrays(rows, columns)
    return Fragment(rows, columns, shape)


SUMS = fragment(
    LANES // 4 + ITEMS[:4] // 2 * 8, LANES % 4 * 2 + ITEMS[:4] % 2, shape=(16, 8)
)


@dataclass(frozen=True)
class Factor:
    """A type that tensor cores multiply: 16 x depth by depth x 8 elements."""

    name: str
    dtype: Any  # in which its numbers are kept
    dropped_bits: int  # of those
    depth: int
    wide: int  # exponents that have products within float32's range
    left: Fragment
    right: Fragment

    @property
    def stored(self) -> np.dtype[Any]:
        """As integers."""
        return np.dtype(f"u{np.dtype(self.dtype).itemsize}")

    @property
    def largest(self) -> float:
        """The largest number."""
        return float(self.rounded(np.array(float(ml_dtypes.finfo(self.dtype).max))))

    def rounded(self, numbers: Array) -> Array:
        """Numbers of the type, cut off where it has fewer bits than what keeps it."""
        with np.errstate(over="ignore"):
            kept = np.asarray(numbers).astype(self.dtype)
        dropped = self.stored.type(self.dropped_bits)
        bits = kept.view(self.stored) >> dropped << dropped
        return bits.view(self.dtype)

    def terms(self, left: Array, right: Array, sums: Array) -> Array:
        """What is added up for each element of the sums, exact, on the last axis."""
        lefts = self.rounded(self.left.unpack(left.view(self.dtype))).astype(np.float64)
        rights = self.rounded(self.right.unpack(right.view(self.dtype))).astype(np.float64)
        with np.errstate(invalid="ignore"):
            products = lefts[:, :, None, :] * rights.transpose(0, 2, 1)[:, None]
        start = SUMS.unpack(sums).astype(np.float64)[..., None]
        return np.concatenate([products, start], axis=-1)


def _pairs(name: str, dtype: Any, wide: int) -> Factor:
    """A type of 16 bits: a lane holds two neighbours of a row of the left."""
    row = LANES // 4 + ITEMS // 2 % 2 * 8
    column = LANES % 4 * 2 + ITEMS % 2 + ITEMS // 4 * 8
    left = fragment(row, column, (16, 16))
    row = LANES % 4 * 2 + ITEMS[:4] % 2 + ITEMS[:4] // 2 * 8
    return Factor(name, dtype, 0, 16, wide, left, fragment(row, LANES // 4, (16, 8)))


def _singles(name: str, dtype: Any, dropped_bits: int, wide: int) -> Factor:
    """A type of 32 bits: a lane holds one element, and others four or eight away."""
    row = LANES // 4 + ITEMS[:4] % 2 * 8
    left = fragment(row, LANES % 4 + ITEMS[:4] // 2 * 4, (16, 8))
    right = fragment(LANES % 4 + ITEMS[:2] * 4, LANES // 4, (8, 8))
    return Factor(name, dtype, dropped_bits, 8, wide, left, right)


FACTORS = {
    "float16": _pairs("float16", np.float16, 14),
    "bfloat16": _pairs("bfloat16", ml_dtypes.bfloat16, 50),
    "tf32": _singles("tf32", np.float32, 13, 50),
}

Matrices = tuple[Array, Array, Array]  # the left, the right, the sums at the start


@dataclass(frozen=True)
class _Products:
    """Products of matrices of one type, which its methods draw."""

    factor: Factor
    draw: Draw

    def drawn(self, numbers: Callable[..., Array]) -> Matrices:
        depth = self.factor.depth
        return numbers(16, depth), numbers(depth, 8), numbers(16, 8)

    def whole(self) -> Matrices:
        """Small whole numbers: their sums are exact in any order."""
        return self.drawn(lambda *shape: self.draw.integers(-8, 9, *shape).astype(float))

    def single(self) -> Matrices:
        """One element a row: each element of the right comes out as it is."""
        left = np.zeros((16, self.factor.depth))
        left[np.arange(16), self.draw.integers(0, self.factor.depth, 16)] = 1
        _, right, _ = self.ordinary()
        return left, right, np.zeros((16, 8))

    def ordinary(self) -> Matrices:
        return self.drawn(lambda *shape: self.draw.uniform(-1, 1, *shape))

    def wide(self) -> Matrices:
        wide = self.factor.wide
        return self.drawn(lambda *shape: self.draw.magnitudes(-wide, wide, *shape))

    def cancelling(self) -> Matrices:
        """Each product has its negative, and what is left is far smaller than they are."""
        left, right, sums = self.ordinary()
        half = self.factor.depth // 2
        left[:, half:], right[half:] = -left[:, :half], right[:half]
        left[:, -1] *= 1 + 2.0**-6
        return left, right, sums * 2.0**-20

    def residual(self) -> Matrices:
        """Sums that start from the negative of what will be added to them."""
        left, right, _ = self.wide()
        lefts, rights = (self.factor.rounded(part).astype(float) for part in (left, right))
        sums = np.zeros((16, 8))
        for column, row in zip(lefts.T, rights, strict=True):  # in one order everywhere
            sums -= column[:, None] * row
        return left, right, sums

    def subnormal(self) -> Matrices:
        """Elements below the smallest normal number, by ordinary and by large ones."""
        smallest = float(ml_dtypes.finfo(self.factor.dtype).tiny)
        left, right, _ = self.ordinary()
        right[:, ::2] *= 2.0**self.factor.wide / 4
        return left * (0.75 * smallest), right, np.zeros((16, 8))

    def subnormal_right(self) -> Matrices:
        left, right, sums = self.subnormal()
        return right.T.repeat(2, axis=0), left.T[:, ::2], sums

    def underflowing(self) -> Matrices:
        """Products around and below the smallest number of float32, subnormal sums."""
        left, right, sums = self.ordinary()
        step = 2.0**-75 if self.factor.largest > 1e30 else 2.0**-12
        return left * step, right * step, sums * 2.0**-140

    def largest(self) -> Matrices:
        """The largest numbers, by such as keep the products within float32's range."""
        signs = self.draw.integers(0, 2, 16, self.factor.depth) * 2.0 - 1
        _, right, sums = self.ordinary()
        largest = self.factor.largest
        return signs * largest, right * 2.0**-10, sums * (largest * 2.0**-10)

    def overflowing(self) -> Matrices:
        """Everything positive, and far beyond float32's range together."""
        left, right, sums = (np.abs(part) for part in self.ordinary())
        large = min(self.factor.largest, 2.0**100)
        return (1 + left) * large / 2, (1 + right) * large / 2, (1 + sums) * 2.0**126

    def zeros(self) -> Matrices:
        """Of both signs, whatever they are multiplied by."""
        left, right, sums = self.ordinary()
        return np.copysign(0.0, left), right, np.copysign(0.0, sums)

    def infinite(self) -> Matrices:
        """Infinities that meet numbers, zeros and each other."""
        left, right, sums = self.ordinary()
        left[1, 3], left[2, 1], left[2, 5], left[3, 0] = np.inf, np.inf, -np.inf, -np.inf
        right[3, :2], right[5, 6], right[7, 7] = 0, np.inf, -np.inf
        sums[5, 5], sums[6, 6], sums[3, 3] = np.inf, -np.inf, np.inf
        return left, right, sums

    def undefined(self) -> Matrices:
        """NaN in each of the three."""
        left, right, sums = self.ordinary()
        left[4, 2], right[6, 1], sums[9, 3] = np.nan, np.nan, np.nan
        right[2, 5] = 0
        return left, right, sums

    def every(self) -> list[Matrices]:
        kinds = [self.whole, self.single, self.ordinary, self.wide, self.cancelling]
        kinds += [self.residual, self.subnormal, self.subnormal_right, self.underflowing]
        kinds += [self.largest, self.zeros, self.infinite, self.undefined]
        twice = [self.whole, self.ordinary, self.wide, self.cancelling, self.residual]
        if self.factor.largest > 1e30:
            kinds.append(self.overflowing)
        return [kind() for kind in kinds + twice]


def matrices(factor: Factor) -> dict[str, Array]:
    """The three operands of a product by name, as the lanes hold them."""
    drawn = _Products(factor, Draw(f"matrices.{factor.name}")).every()
    lefts, rights, sums = (np.stack(parts) for parts in zip(*drawn, strict=True))
    left, right = factor.left.pack(lefts), factor.right.pack(rights)
    return {
        f"left.{factor.name}": with_dropped_bits(factor, left),
        f"right.{factor.name}": with_dropped_bits(factor, right),
        f"sums.{factor.name}": SUMS.pack(sums.astype(np.float32)),
    }


def with_dropped_bits(factor: Factor, numbers: Array) -> Array:
    """Numbers of the type as integers, any bits where the tensor cores do not look."""
    rounded = factor.rounded(numbers)
    noise = Draw(f"dropped bits.{factor.name}").bits(*numbers.shape)
    noise &= np.uint32((1 << factor.dropped_bits) - 1)
    return rounded.view(factor.stored) | np.where(np.isfinite(rounded), noise, 0).astype(
        factor.stored
    )
