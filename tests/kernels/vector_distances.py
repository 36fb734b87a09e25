"""How far what two machines make of one instruction may lie apart, and who says so."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.kernels.vector_matrices import SUMS, Factor

Array = NDArray[Any]


class Distance(ABC):
    """What may differ between a device's results and the emulator's."""

    @property
    @abstractmethod
    def allowed(self) -> str:
        """In words, with its source."""

    @abstractmethod
    def differ(self, recorded: Array, computed: Array, operands: Sequence[Array]) -> Array:
        """Which results lie too far apart."""


def bits_of(numbers: Array) -> Array:
    """The same as unsigned integers."""
    return numbers.view(f"u{numbers.dtype.itemsize}")


def are_both_nan(left: Array, right: Array) -> Array:
    """Where both are NaN, whatever bits say so."""
    return np.isnan(left) & np.isnan(right)


@dataclass(frozen=True)
class Bits(Distance):
    """None."""

    source: str

    @property
    def allowed(self) -> str:
        return f"the same bits: {self.source}"

    def differ(self, recorded: Array, computed: Array, operands: Sequence[Array]) -> Array:
        return np.asarray(bits_of(recorded) != bits_of(computed))


@dataclass(frozen=True)
class Numbers(Bits):
    """None between numbers."""

    @property
    def allowed(self) -> str:
        return f"the same bits, and any NaN for NaN: {self.source}"

    def differ(self, recorded: Array, computed: Array, operands: Sequence[Array]) -> Array:
        bits = super().differ(recorded, computed, operands)
        return np.asarray(bits & ~are_both_nan(recorded, computed))


@dataclass(frozen=True)
class Ulps(Distance):
    """Units in the last place, from the correctly rounded result on each side."""

    of_device: int
    device_source: str
    of_emulator: int
    emulator_source: str
    flushed: bool = False  # what is below the smallest normal number may be zero

    @property
    def most(self) -> int:
        """From a device's result to the emulator's."""
        return self.of_device + self.of_emulator

    @property
    def allowed(self) -> str:
        flushed = ", with 0 next to the smallest normal number" if self.flushed else ""
        return (
            f"{self.most} units in the last place{flushed}: {self.of_device} of the device "
            f"({self.device_source}), {self.of_emulator} of the emulator "
            f"({self.emulator_source}); any NaN for NaN"
        )

    def differ(self, recorded: Array, computed: Array, operands: Sequence[Array]) -> Array:
        same = are_both_nan(recorded, computed) | (recorded == computed)
        finite = np.isfinite(recorded) & np.isfinite(computed)
        apart = np.abs(self._places(recorded) - self._places(computed))
        return np.asarray(~same & ~(finite & (apart <= self.most)))

    def _places(self, numbers: Array) -> Array:
        """Places in the row of all numbers, as integers that do not overflow."""
        bits = bits_of(numbers)
        sign = np.array(1 << (8 * bits.itemsize - 1), bits.dtype)
        places = (bits & ~sign).astype(object)
        if self.flushed:
            last = int(bits_of(np.array(np.finfo(numbers.dtype).tiny))) - 1
            places = np.maximum(places - last, 0)
        return np.where(bits & sign, -places, places)


# The smallest number above zero, and half of what float32's numbers above one lie apart.
SMALLEST = 2.0**-149
HALF_ULP = 2.0**-24


@dataclass(frozen=True)
class Sums(Distance):
    """What sums of products lose where each machine adds in an order of its own."""

    factor: Factor

    @property
    def allowed(self) -> str:
        depth = self.factor.depth
        return (
            f"{3 * depth} * 2^-24 of the sum of absolute terms, {2 * depth} of these for "
            f"{depth} additions of the device (PTX ISA, mma: at least single precision, "
            "neither order nor rounding are specified; Fasi et al. 2021 and Khattak and "
            "Mikaitis 2025 found A100 and H100 to cut off, within this) and "
            f"{depth} for the emulator's, rounded to nearest; the same number where any "
            "order is exact; any NaN for NaN"
        )

    def differ(self, recorded: Array, computed: Array, operands: Sequence[Array]) -> Array:
        terms = self.factor.terms(*operands)
        with np.errstate(invalid="ignore"):
            most = SUMS.pack(3 * self.factor.depth * self.unit(terms))
            apart = np.abs(recorded.astype(np.float64) - computed)
            near = np.isfinite(most) & (apart <= most)
        same = are_both_nan(recorded, computed) | (recorded == computed)
        return np.asarray(~same & ~near)

    def unit(self, terms: Array) -> Array:
        """What one addition may lose when it rounds to nearest: 0 where all are exact."""
        total = np.abs(terms).sum(axis=-1)
        rounded = np.maximum(HALF_ULP * total, SMALLEST / 2)
        return np.where(are_exact_in_any_order(terms, total), 0, rounded)


def lowest_bits(numbers: Array) -> Array:
    """The value of the last bit that is set in each, infinity of zero."""
    fractions, exponents = np.frexp(np.where(np.isfinite(numbers), numbers, 0))
    whole = np.ldexp(fractions, 53).astype(np.int64)
    lowest = np.ldexp((whole & -whole).astype(np.float64), exponents - 53)
    return np.where(whole == 0, np.inf, lowest)


def are_exact_in_any_order(terms: Array, total: Array) -> Array:
    """Whether every sum of some of the terms is a float32."""
    unit = lowest_bits(terms).min(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.asarray((unit >= SMALLEST) & (total <= 2.0**24 * unit))
