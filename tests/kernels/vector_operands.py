"""The operands of the instructions of ``tests/cuda/vectors``: hard ones, and drawn ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.kernels.vector_draws import Draw, hard_numbers
from tests.kernels.vector_matrices import FACTORS, matrices

Array = NDArray[Any]

WARP = 32


def in_warps(*parts: Any, dtype: Any) -> Array:
    """All of them, and the first again until they fill whole warps."""
    numbers = np.concatenate([np.asarray(part).ravel() for part in parts])
    with np.errstate(over="ignore"):
        numbers = numbers.astype(dtype)
    return np.resize(numbers, -(-numbers.size // WARP) * WARP)


# --- Arguments of functions ------------------------------------------------------------


def exponents(dtype: Any, draw: Draw) -> Array:
    """For e^x: until it overflows and until it underflows, and around zero."""
    end = 0.693147 * np.finfo(dtype).maxexp
    return in_warps(
        hard_numbers(dtype),
        draw.uniform(-1.2 * end, 1.02 * end, 300),
        draw.magnitudes(-60, 3, 300),
        dtype=dtype,
    )


def powers(draw: Draw) -> Array:
    """For 2^x: whole and halved ones too, and the last ones that are not zero."""
    ends = np.array([-126, 127, 128], np.float32)
    return in_warps(
        hard_numbers(np.float32),
        ends,
        *(np.nextafter(ends, np.float32(side)) for side in (-np.inf, np.inf)),
        np.arange(-160, 140) / 2,
        draw.uniform(-130, 130, 300),
        draw.magnitudes(-40, 0, 100),
        dtype=np.float32,
    )


def positives(dtype: Any, draw: Draw) -> Array:
    """For logarithms and roots: of every magnitude, and around one."""
    info = np.finfo(dtype)
    lowest = info.minexp - info.nmant
    return in_warps(
        hard_numbers(dtype),
        np.abs(draw.magnitudes(lowest, info.maxexp, 300)),
        1 + draw.magnitudes(-info.nmant - 2, -1, 300),
        dtype=dtype,
    )


def above_minus_one(dtype: Any, draw: Draw) -> Array:
    """For log(1 + x)."""
    info = np.finfo(dtype)
    return in_warps(
        hard_numbers(dtype),
        draw.uniform(-1, 1, 200),
        draw.magnitudes(-2 * info.nmant, -1, 200),
        np.abs(draw.magnitudes(0, info.maxexp, 200)),
        draw.magnitudes(-info.nmant, -1, 50) ** 2 - 1,
        dtype=dtype,
    )


def factors(dtype: Any) -> tuple[Array, Array, Array]:
    """Three numbers for ``left * right + added``: each hard one meets each, many cancel."""
    draw = Draw(f"factors.{np.dtype(dtype).name}")
    hard = hard_numbers(dtype)
    number = np.arange(hard.size**2)
    left, right = (draw.magnitudes(-20, 20, 480).astype(dtype) for _ in range(2))
    wide = draw.bits(2, 128, width=8 * np.dtype(dtype).itemsize).view(dtype)
    added = np.where(number[:480] % 3 == 0, draw.magnitudes(-40, 40, 480), -left * right)
    return (
        in_warps(hard[number % hard.size], left, wide[0], dtype=dtype),
        in_warps(hard[number // hard.size], right, wide[1], dtype=dtype),
        in_warps(hard[number * 7 % hard.size], added, wide[1, ::-1], dtype=dtype),
    )


# --- What is rounded, and what it was rounded to ----------------------------------------


def around_ties(bits: Array, dropped: int) -> Array:
    """Floats halfway between neighbours when so many bits are dropped, and beside that."""
    kept = bits >> np.uint32(dropped) << np.uint32(dropped)
    half = np.uint32(1 << (dropped - 1))
    ties = [kept, kept | half, kept | (half + np.uint32(1)), kept | (half - np.uint32(1))]
    floats = np.concatenate(ties).view(np.float32)
    return floats[~np.isnan(floats)]


def near_float16(draw: Draw) -> Array:
    """Halfway between two numbers of float16 and beside that, and beyond their range."""
    low = draw.integers(0, 2**15 - 1, 100).astype(np.uint16)
    pair = np.stack([low, low + np.uint16(1)]).view(np.float16).astype(np.float32)
    halfway = pair[:, np.isfinite(pair).all(axis=0)].mean(axis=0, dtype=np.float32)
    ends = np.array([65504, 65519.996, 65520, 2**-24, 2**-25, 2**-26], np.float32)
    ties = np.concatenate([ends, halfway])
    beside = [np.nextafter(ties, np.float32(side)) for side in (-np.inf, np.inf)]
    return np.concatenate([ties, -ties, *beside])


def rounded_floats(draw: Draw) -> Array:
    """For conversions: of every magnitude, and at ties of each type and beside them.

    NaN has no bit but those that every type keeps: which of the others a conversion looks
    at is nowhere said.
    """
    return in_warps(
        hard_numbers(np.float32),
        near_float16(draw),
        around_ties(draw.bits(50), 16),
        around_ties(draw.bits(50), 13),
        draw.magnitudes(-149, 128, 100),
        dtype=np.float32,
    )


def sixteen_bits(draw: Draw, *shape: int) -> Array:
    """Pairs of 16-bit elements of any kind."""
    hard = np.array([0, 1, 0x3FF, 0x400, 0x3C00, 0x7BFF, 0x7C00, 0x7E00], np.uint16)
    hard = np.concatenate([hard, hard | 0x8000, [0x7F, 0x80, 0x3F80, 0x7F7F, 0x7F80]])
    elements = draw.bits(*shape, 2, width=16)
    elements.reshape(-1)[: 7 * hard.size : 7] = hard
    return np.ascontiguousarray(elements).view(np.uint32)[..., 0]


# --- All of them -------------------------------------------------------------------------


def places() -> Array:
    """The row whose address each lane gives: its own, in turn, in any order, a few."""
    order = np.argsort(Draw("places").bits(WARP), kind="stable")
    few = Draw("few places").integers(0, 5, WARP)
    lanes = np.arange(WARP)
    return np.concatenate([lanes, lanes[::-1], order, few]).astype(np.int32)


def lane_numbers() -> dict[str, Array]:
    """For exchanges: lanes in any order, and distances, one for each warp."""
    distances = np.repeat([0, 1, 2, 3, 4, 8, 16, 31], WARP)
    lanes = Draw("lanes").integers(0, WARP, distances.size)
    few = Draw("few numbers").integers(0, 6, distances.size)
    few[:WARP], few[-WARP:] = 5, np.arange(WARP)
    return {
        "distances": distances.astype(np.int32),
        "lanes": lanes.astype(np.int32),
        "few numbers": few.astype(np.int32),
        "votes": ((few == 3) | (lanes < distances)).astype(np.int32),
        "single words": Draw("single words").bits(distances.size),
        "double words": Draw("double words").bits(distances.size, width=64),
    }


def _of_reals(dtype: Any) -> dict[str, Array]:
    name = np.dtype(dtype).name
    left, right, added = factors(dtype)
    return {
        f"exponents.{name}": exponents(dtype, Draw(f"exponents.{name}")),
        f"positives.{name}": positives(dtype, Draw(f"positives.{name}")),
        f"above minus one.{name}": above_minus_one(dtype, Draw(f"above.{name}")),
        f"multiplied.{name}": left,
        f"multiplied by.{name}": right,
        f"added.{name}": added,
    }


def _of_copies() -> dict[str, Array]:
    threads = 2 * WARP
    copied = {
        f"{which} copied.{size}": Draw(f"{which}.{size}").bits(threads, size // 4)
        for which in ("first", "second")
        for size in (4, 8, 16)
    }
    wanted = Draw("wanted").integers(0, 4, threads)
    return {**copied, "wanted": wanted.astype(np.int32)}


def make_operands() -> dict[str, Array]:
    """Every operand by its name, a row for each thread."""
    operands = {
        name: array for each in FACTORS.values() for name, array in matrices(each).items()
    }
    for dtype in (np.float32, np.float64):
        operands.update(_of_reals(dtype))
    rounded = rounded_floats(Draw("rounded"))
    return {
        **operands,
        **_of_copies(),
        **lane_numbers(),
        "rows": Draw("rows").bits(4 * WARP, 4),
        "places": places(),
        "rounded": rounded,
        "rounded, other order": rounded[::-1].copy(),
        "halves": sixteen_bits(Draw("halves"), 4 * WARP) & np.uint32(0xFFFF),
        "pairs": sixteen_bits(Draw("pairs"), 6 * WARP),
        "packets": sixteen_bits(Draw("packets"), 2 * WARP, 4),
        "powers": powers(Draw("powers")),
    }
