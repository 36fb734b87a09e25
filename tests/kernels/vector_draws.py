"""Numbers that are the same on every machine and with every NumPy: chosen and drawn ones.

Drawn from the words of a bit generator, whose stream NumPy keeps, by exact arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Draw:
    """Random numbers that are named, not shared: what one name draws moves no other's."""

    def __init__(self, name: str) -> None:
        self._generator = np.random.PCG64(list(name.encode()))

    def bits(self, *shape: int, width: int = 32) -> Array:
        """Unsigned integers of so many bits."""
        words = np.asarray(self._generator.random_raw(int(np.prod(shape))))
        return (words >> np.uint64(64 - width)).astype(f"u{width // 8}").reshape(shape)

    def uniform(self, low: float, high: float, *shape: int) -> Array:
        """Float64 numbers from ``low`` up to ``high``."""
        return low + (high - low) * np.ldexp(self.bits(*shape).astype(np.float64), -32)

    def integers(self, low: int, high: int, *shape: int) -> Array:
        """From ``low`` up to, but without, ``high``."""
        return low + (self.bits(*shape) % np.uint32(high - low)).astype(np.int64)

    def magnitudes(self, low: int, high: int, *shape: int) -> Array:
        """Of either sign, with exponents from ``low`` up to ``high``, each as often."""
        signs = 1.0 - 2.0 * self.integers(0, 2, *shape)
        exponents = self.integers(low, high, *shape)
        return signs * np.ldexp(self.uniform(1, 2, *shape), exponents)


def hard_numbers(dtype: Any) -> Array:
    """Both zeros, subnormals, the neighbours of one, the largest, infinities and NaN."""
    info = np.finfo(dtype)
    least = info.smallest_subnormal
    positive = [0, least, 3 * least, info.tiny - least, info.tiny]
    positive += [1 - info.epsneg, 1, 1 + info.eps, 3]
    positive += [info.max / 2, info.max, np.inf, np.nan]
    numbers = np.array(positive, dtype)
    return np.concatenate([numbers, -numbers])
