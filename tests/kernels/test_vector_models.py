"""What the emulator makes of a device's instructions, against NumPy's float64.

The models are written from the words of PTX and IEEE 754, apart from the emulator: it is
right before any device is there, and a recording finds a right one.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.kernels import vectors
from tests.kernels.vector_distances import are_both_nan, bits_of
from tests.kernels.vectors import INSTRUCTIONS, Recorded, operands_of, results_of
from tests.support import emulated
from tests.support.cores import ON_EMULATOR

Array = NDArray[Any]

pytestmark = ON_EMULATOR

WARP = 32


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    """As the emulator does it."""
    return vectors.record(emulated.load("_emulated_vectors"))


def assert_same(computed: Array, expected: Array) -> None:
    """Bit for bit, NaN as any NaN."""
    assert computed.dtype == expected.dtype
    expected = expected.reshape(computed.shape)
    unlike = (bits_of(computed) != bits_of(expected)) & ~are_both_nan(computed, expected)
    assert not unlike.any(), np.argwhere(unlike)[:5]


# --- Products of matrices --------------------------------------------------------------

# PTX ISA, "Matrix Fragments for mma.m16n8k16" and "mma.m16n8k8": the row and the column
# of element i of a lane, by its group, lane / 4, and its number in it, lane % 4.
Place = Callable[[int, int, int], tuple[int, int]]
PLACES_OF_16_BITS: tuple[Place, Place] = (
    lambda i, group, number: (
        group if i in (0, 1, 4, 5) else group + 8,
        number * 2 + (i & 1) + (8 if i >= 4 else 0),
    ),
    lambda i, group, number: (number * 2 + (i & 1) + (8 if i >= 2 else 0), group),
)
PLACES_OF_TF32: tuple[Place, Place] = (
    lambda i, group, number: (
        group if i in (0, 2) else group + 8,
        number if i in (0, 1) else number + 4,
    ),
    lambda i, group, number: (number if i == 0 else number + 4, group),
)


def place_of_sum(i: int, group: int, number: int) -> tuple[int, int]:
    return group if i < 2 else group + 8, number * 2 + (i & 1)


def matrices_of(elements: Array, place: Place, shape: tuple[int, int]) -> Array:
    of_warps = elements.reshape(-1, WARP, elements.shape[1]).astype(np.float64)
    matrices = np.zeros((len(of_warps), *shape))
    for lane in range(WARP):
        for i in range(elements.shape[1]):
            row, column = place(i, lane // 4, lane % 4)
            matrices[:, row, column] = of_warps[:, lane, i]
    return matrices


# Its numbers, the elements' places, and how many are added.
PRODUCTS: dict[str, tuple[Callable[[Array], Array], tuple[Place, Place], int]] = {
    "float16": (lambda bits: bits.view(np.float16), PLACES_OF_16_BITS, 16),
    "bfloat16": (lambda bits: bits.view(ml_dtypes.bfloat16), PLACES_OF_16_BITS, 16),
    "tf32": (
        lambda bits: (bits & np.uint32(0xFFFFE000)).view(np.float32),
        PLACES_OF_TF32,
        8,
    ),
}


def exact_product(recorded: Recorded, name: str) -> tuple[Array, Array]:
    """The sums in float64, and those of the absolute terms."""
    numbers, places, depth = PRODUCTS[name]
    left, right, sums = operands_of(recorded, f"multiply_matrices.{name}")
    lefts = matrices_of(numbers(left), places[0], (16, depth))
    rights = matrices_of(numbers(right), places[1], (depth, 8))
    start = matrices_of(sums, place_of_sum, (16, 8))
    with np.errstate(invalid="ignore"):
        exact = start + np.einsum("nik,nkj->nij", lefts, rights)
        return exact, np.abs(start) + np.abs(lefts) @ np.abs(rights)


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_emulator_multiplies_matrices_as_numpy_does(
    recorded: Recorded, name: str
) -> None:
    """Of each addition half a unit in the last place is lost, or of subnormal numbers."""
    depth = PRODUCTS[name][2]
    computed = matrices_of(
        results_of(recorded, f"multiply_matrices.{name}"), place_of_sum, (16, 8)
    )
    exact, total = exact_product(recorded, name)
    finite = np.isfinite(total) & (total < 2.0**128)
    error = np.abs(computed[finite] - exact[finite])
    assert (error <= depth * np.maximum(total[finite] * 2.0**-24, 2.0**-150)).all()
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(computed[~finite], exact[~finite].astype(np.float32))
    assert np.isnan(computed).any()
    assert np.isinf(computed).any()


@pytest.mark.parametrize("name", PRODUCTS)
def test_subnormal_elements_are_multiplied_as_they_are(
    recorded: Recorded, name: str
) -> None:
    numbers, places, depth = PRODUCTS[name]
    left, _, _ = operands_of(recorded, f"multiply_matrices.{name}")
    lefts = matrices_of(numbers(left), places[0], (16, depth))
    smallest = float(ml_dtypes.finfo(numbers(left).dtype).tiny)
    below = np.abs(lefts) < smallest
    is_subnormal = np.asarray(below.all(axis=(1, 2)) & lefts.any(axis=(1, 2)))
    exact, _ = exact_product(recorded, name)
    computed = matrices_of(
        results_of(recorded, f"multiply_matrices.{name}"), place_of_sum, (16, 8)
    )
    is_normal: Array = is_subnormal[:, None, None] & (np.abs(exact) > 2.0**-120)
    assert is_normal.sum() >= 60
    np.testing.assert_allclose(computed[is_normal], exact[is_normal], rtol=1e-4)


# --- What moves or rounds: bit for bit ---------------------------------------------------


def as_16_bits(words: Array) -> Array:
    return np.ascontiguousarray(words).view(np.uint16)


def exchanged_rows(rows: Array, places: Array) -> Array:
    """The matrices' rows, 8 words each, that the lanes give the addresses of."""
    of_warps = as_16_bits(rows).reshape(-1, WARP, 8)
    chosen = places.reshape(-1, WARP)
    warp = np.arange(len(of_warps))[:, None]
    return of_warps[warp, chosen].reshape(-1, 4, 8, 8)


def loaded(rows: Array, places: Array, transposed: bool) -> Array:
    """PTX ISA, ldmatrix: a lane gets two neighbours of a row, or of a column."""
    matrices = exchanged_rows(rows, places)
    if transposed:
        matrices = matrices.swapaxes(2, 3)
    pairs = matrices.reshape(-1, 4, WARP, 2).swapaxes(1, 2)
    return np.ascontiguousarray(pairs).view(np.uint32).reshape(-1, 4)


def rounded_to_tf32(floats: Array) -> Array:
    """To ten bits behind the point, or to multiples of 2^-136; ties away from zero."""
    numbers = floats.astype(np.float64)
    finite = np.where(np.isfinite(numbers), numbers, 0)
    _, exponents = np.frexp(finite)
    spacing = np.ldexp(1.0, np.maximum(exponents - 1, -126) - 10)
    rounded = np.copysign(np.floor(np.abs(finite) / spacing + 0.5) * spacing, numbers)
    with np.errstate(over="ignore"):
        return np.where(np.isfinite(numbers), rounded, numbers).astype(np.float32)


def rounded(floats: Array, dtype: Any) -> Array:
    with np.errstate(over="ignore"):
        return floats.astype(dtype)


def rounded_pair(low: Array, high: Array, dtype: Any) -> Array:
    return np.stack([rounded(low, dtype), rounded(high, dtype)], axis=1)


def rounded_bits(floats: Array, dtype: Any) -> Array:
    """As core/data_type.h says: NaN keeps its sign, of bfloat16 also its first bits."""
    bits = floats.view(np.uint32)
    of_nan = (
        (bits >> 16) | 0x40 if dtype == ml_dtypes.bfloat16 else bits >> 16 & 0x8000 | 0x7E00
    )
    return np.where(
        np.isnan(floats), of_nan, rounded(floats, dtype).view(np.uint16)
    ).astype(np.uint32)


def unpacked(packets: Array, dtype: Any, to: Any) -> Array:
    numbers = packets.reshape(len(packets), -1).view(dtype)
    return numbers.astype(to)


def unpacked_bfloat16(packets: Array) -> Array:
    """The first half of a float32 with the same bits."""
    elements = as_16_bits(packets.reshape(len(packets), -1)).astype(np.uint32)
    return (elements << 16).view(np.float32)


def in_warps(values: Array) -> Array:
    return values.reshape(-1, WARP)


def shuffled(values: Array, lanes: Array) -> Array:
    return np.take_along_axis(in_warps(values), in_warps(lanes), axis=1).ravel()


def shuffled_up(values: Array, distances: Array) -> Array:
    """The first lanes keep their own."""
    lane = np.arange(values.size) % WARP
    return shuffled(values, np.where(lane >= distances, lane - distances, lane))


def shuffled_xor(values: Array, distances: Array) -> Array:
    return shuffled(values, np.arange(values.size) % WARP ^ distances)


def ballots(votes: Array) -> Array:
    """A bit for each lane that votes; every lane gets them all."""
    bits = in_warps(votes != 0).astype(np.uint64) << np.arange(WARP, dtype=np.uint64)
    return bits.sum(axis=1).repeat(WARP).astype(np.uint32)


def votes_of_any(votes: Array) -> Array:
    return in_warps(votes != 0).any(axis=1).repeat(WARP).astype(np.uint32)


def matches(values: Array) -> Array:
    """A bit for each lane of the warp with the same value."""
    equal = in_warps(values)[:, :, None] == in_warps(values)[:, None, :]
    bits = equal.astype(np.uint64) << np.arange(WARP, dtype=np.uint64)
    return bits.sum(axis=2).ravel().astype(np.uint32)


def copied(first: Array, second: Array, wanted: Array) -> Array:
    """What the neighbour wanted of two pieces, zeros where it did not."""
    first = np.where(wanted[:, None] & 1, first, 0)
    second = np.where(wanted[:, None] & 2, second, 0)
    neighbour = np.arange(len(wanted)) ^ 1
    return np.concatenate([first, second], axis=1)[neighbour].astype(np.uint32)


def nearest(exact: Fraction, dtype: Any) -> Any:
    """The number nearest to a fraction that is not zero, of two the even one."""
    info = np.finfo(dtype)
    end = Fraction(2) ** info.maxexp
    if abs(exact) >= end - end / 2 ** (info.nmant + 2):
        return dtype(np.inf if exact > 0 else -np.inf)
    with np.errstate(over="ignore", under="ignore"):
        guess = dtype(float(exact))
    guess = np.clip(guess, -info.max, info.max)
    with np.errstate(over="ignore"):
        beside = [np.nextafter(guess, dtype(side)) for side in (-np.inf, np.inf)]

    def error(number: Any) -> tuple[Fraction, int]:
        return abs(Fraction(float(number)) - exact), int(bits_of(number)) & 1

    return min((each for each in (guess, *beside) if np.isfinite(each)), key=error)


def multiplied_and_added(left: Array, right: Array, added: Array) -> Array:
    """Rounded once, from fractions."""
    # Right of infinities, NaN and the sign of zero; finite products are less than infinity.
    with np.errstate(all="ignore"):
        finite = np.isfinite(left) & np.isfinite(right)
        results = np.where(finite & np.isinf(added), added, left * right + added)
    for i, numbers in enumerate(zip(left, right, added, strict=True)):
        if np.isfinite(numbers).all():
            x, y, z = (Fraction(float(number)) for number in numbers)
            if x * y + z != 0:
                results[i] = nearest(x * y + z, left.dtype.type)
    return results


def inverse_norms(squares: Array) -> Array:
    """The root and the quotient are rounded each; no direction up to 1e-24."""
    with np.errstate(all="ignore"):
        inverse = 1 / np.sqrt(squares)
    return np.where(squares <= squares.dtype.type(1e-24), 0, inverse).astype(squares.dtype)


def quotients(left: Array, right: Array) -> Array:
    with np.errstate(all="ignore"):
        return left / right


def roots(numbers: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return np.sqrt(numbers)


MODELS: dict[str, Callable[..., Array]] = {
    "load_matrices": lambda rows, places: loaded(rows, places, transposed=False),
    "load_transposed": lambda rows, places: loaded(rows, places, transposed=True),
    "copy_async": copied,
    "round_to_tf32": rounded_to_tf32,
    "round_pair.float16": lambda low, high: rounded_pair(low, high, np.float16),
    "round_pair.bfloat16": lambda low, high: rounded_pair(low, high, ml_dtypes.bfloat16),
    "round_to.float16": lambda floats: rounded_bits(floats, np.float16),
    "round_to.bfloat16": lambda floats: rounded_bits(floats, ml_dtypes.bfloat16),
    "half_to_float": lambda bits: (
        bits.astype(np.uint16).view(np.float16).astype(np.float32)
    ),
    "unpack_pair.float16": lambda pairs: unpacked(pairs, np.float16, np.float32),
    "unpack_pair.bfloat16": unpacked_bfloat16,
    "unpack.float16": lambda packets: unpacked(packets, np.float16, np.float32),
    "unpack.bfloat16": unpacked_bfloat16,
    "unpack.float32": lambda packets: unpacked(packets, np.float32, np.float32),
    "unpack.float64": lambda packets: unpacked(packets, np.float64, np.float64),
    "sqrt_of": roots,
    "inverse_norm_of": inverse_norms,
    "quotient": quotients,
    "multiply_add": multiplied_and_added,
    "shuffle": shuffled,
    "shuffle_xor": shuffled_xor,
    "shuffle_up": lambda values, distances: shuffled_up(values, distances),
    "ballot": ballots,
    "any": votes_of_any,
    "match_any": matches,
}


def model_of(name: str) -> Callable[..., Array] | None:
    return MODELS.get(name, MODELS.get(name.partition(".")[0]))


@pytest.mark.parametrize("name", [*filter(model_of, INSTRUCTIONS)])
def test_the_emulator_moves_and_rounds_as_numpy_does(recorded: Recorded, name: str) -> None:
    model = model_of(name)
    assert model is not None
    assert_same(results_of(recorded, name), model(*operands_of(recorded, name)))


# --- Functions of the library: within what glibc's manual says --------------------------

FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "exp_of": np.exp,
    "expm1_of": np.expm1,
    "log_of": np.log,
    "log1p_of": np.log1p,
}


def places_of(numbers: Array) -> list[int]:
    """Their places in the row of all numbers."""
    signed = numbers.view(f"i{numbers.dtype.itemsize}")
    most = int(np.iinfo(signed.dtype).max)
    return [int(bits) if bits >= 0 else -(int(bits) & most) for bits in signed]


def assert_within(computed: Array, expected: Array, ulps: int) -> None:
    np.testing.assert_array_equal(np.isnan(computed), np.isnan(expected))
    number = ~np.isnan(expected)
    pairs = zip(places_of(computed[number]), places_of(expected[number]), strict=True)
    assert max(abs(left - right) for left, right in pairs) <= ulps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_of_the_emulator_is_a_unit_off_at_most(
    recorded: Recorded, function: str, dtype: Any
) -> None:
    name = f"{function}.{np.dtype(dtype).name}"
    (numbers,) = operands_of(recorded, name)
    wider = np.float64 if dtype == np.float32 else np.longdouble
    with np.errstate(all="ignore"):
        expected = FUNCTIONS[function](numbers.astype(wider)).astype(dtype)
    assert_within(results_of(recorded, name).ravel(), expected, ulps=1)


def test_the_emulators_power_of_two_is_off_by_what_a_devices_may_be(
    recorded: Recorded,
) -> None:
    (powers,) = operands_of(recorded, "approximate_exp2")
    with np.errstate(all="ignore"):
        expected = np.exp2(powers.astype(np.float64)).astype(np.float32)
    expected[expected < np.finfo(np.float32).tiny] = 0
    computed = results_of(recorded, "approximate_exp2").ravel()
    assert_within(computed, expected, ulps=5)
    finite = np.isfinite(expected)
    assert (computed[finite] >= expected[finite]).all()


def test_each_instruction_has_a_model() -> None:
    stems = {name.partition(".")[0] for name in INSTRUCTIONS if not model_of(name)}
    assert stems == {"multiply_matrices", "approximate_exp2", *FUNCTIONS}
