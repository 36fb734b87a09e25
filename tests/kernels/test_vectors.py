"""A recording of a device's instructions: kept, and held against the emulator."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.kernels import vectors
from tests.kernels.vector_distances import Sums, bits_of
from tests.kernels.vector_matrices import FACTORS, SUMS, Factor, matrices
from tests.kernels.vectors import INSTRUCTIONS, Recorded, result_key, results_of
from tests.support import emulated
from tests.support.cores import ON_EMULATOR

Array = NDArray[Any]

pytestmark = ON_EMULATOR

WARP = 32
MOST_BYTES = 300_000


@pytest.fixture(scope="module")
def module() -> Any:
    return emulated.load("_emulated_vectors")


@pytest.fixture(scope="module")
def recorded(module: Any) -> Recorded:
    """As the emulator does it."""
    return vectors.record(module)


# --- The recording ---------------------------------------------------------------------


def test_every_kernel_is_recorded(module: Any) -> None:
    assert set(module.names()) == set(INSTRUCTIONS)


def test_the_emulator_does_what_a_device_did(module: Any) -> None:
    if not vectors.RECORDED.exists():
        pytest.skip(
            "no device has recorded benchmarks/results/vectors.npz yet: python -m "
            "benchmarks.gpu_evidence --only vectors, on a machine with a GPU, writes it"
        )
    recorded = vectors.load()
    assert vectors.device_of(recorded)["name"] != module.device_info()["name"]
    assert not vectors.differences(recorded, module)


def test_a_recording_comes_back_from_its_file(
    module: Any, recorded: Recorded, tmp_path: Path
) -> None:
    path = tmp_path / "recorded.npz"
    vectors.save(recorded, path)
    loaded = vectors.load(path)
    assert path.stat().st_size < MOST_BYTES
    assert vectors.differences(loaded, module) == []
    assert vectors.device_of(loaded) == module.device_info()


def unchanged(run: int, results: Array) -> Array:
    return results


def device(
    change: Callable[[int, Array], Array] = unchanged, capability: str = "9.0"
) -> Any:
    """A stand-in for a device: the emulator, with the results of each run changed."""
    emulator = emulated.load("_emulated_vectors")
    runs = itertools.count()

    def run(name: str, operands: list[Array]) -> Array:
        return change(next(runs), emulator.run(name, operands))

    info = {"name": "a device", "compute_capability": capability}
    return SimpleNamespace(__name__="package._vectors", run=run, device_info=lambda: info)


def test_a_device_is_recorded(module: Any, tmp_path: Path) -> None:
    path = tmp_path / "recorded.npz"
    assert vectors.record_on_device(device(), path)["name"] == "a device"
    assert vectors.differences(vectors.load(path), module) == []


def test_what_a_device_does_not_repeat_is_named_and_the_rest_is_recorded(
    module: Any, tmp_path: Path
) -> None:
    path, last_run = tmp_path / "recorded.npz", 2 * len(INSTRUCTIONS) - 1
    unsteady = device(lambda run, results: results ^ np.uint8(run == last_run))
    with pytest.raises(RuntimeError, match=r"^copy_async\.16: two runs differ$"):
        vectors.record_on_device(unsteady, path)
    missing = vectors.differences(vectors.load(path), module)
    assert missing == ["result: copy_async.16 is missing"]


def test_what_ends_a_devices_work_is_named_and_what_it_did_is_recorded(
    module: Any, tmp_path: Path
) -> None:
    def stop(run: int, results: Array) -> Array:
        if run >= 2 * len(INSTRUCTIONS) - 3:
            raise RuntimeError("an illegal memory access")
        return results

    path = tmp_path / "recorded.npz"
    stopped = r"copy_async\.8: an illegal memory access; copy_async\.16: an illegal"
    with pytest.raises(RuntimeError, match=stopped):
        vectors.record_on_device(device(stop), path)
    assert vectors.differences(vectors.load(path), module) == [
        "result: copy_async.16 is missing",
        "result: copy_async.8 is missing",
    ]


def test_a_device_without_the_instructions_is_not_recorded(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"capability 8\.0 or later, got 7\.5"):
        vectors.record_on_device(device(capability="7.5"), tmp_path / "recorded.npz")


def test_the_emulator_is_not_recorded_as_a_device(module: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"give _vectors, got _emulated_vectors"):
        vectors.record_on_device(module, tmp_path / "recorded.npz")


# --- Planted differences are found, and named --------------------------------------------

Change = Callable[[Array], None]  # of results, in place


def flip_last_bit(results: Array, where: Array | None = None) -> None:
    bits = bits_of(results)
    index = np.argwhere(where if where is not None else np.isfinite(results))[7]
    bits[tuple(index)] ^= 1


def lose_nan(results: Array) -> None:
    results[tuple(np.argwhere(np.isnan(results))[0])] = 0


def invent_nan(results: Array) -> None:
    results[tuple(np.argwhere(np.isfinite(results))[0])] = np.nan


def lose_infinity(results: Array) -> None:
    place = tuple(np.argwhere(results == np.inf)[0])
    results[place] = np.finfo(results.dtype).max


def turn_sign(results: Array) -> None:
    place = tuple(np.argwhere(np.isfinite(results) & (np.abs(results) > 1e-3))[0])
    results[place] = -results[place]


def swap_lanes(results: Array) -> None:
    results[[3, 7]] = results[[7, 3]]


def swap_matrices(results: Array) -> None:
    results[:, [1, 2]] = results[:, [2, 1]]


def move_by(ulps: int, results: Array) -> None:
    is_usual = (np.abs(results) > 1e-3) & (np.abs(results) < 1e3)
    bits, place = bits_of(results), tuple(np.argwhere(is_usual)[0])
    bits[place] = int(bits[place]) + ulps


def terms_of(factor: Factor) -> Array:
    """The matrices' part of the operands, which are the same in every recording."""
    operands = matrices(factor)
    return factor.terms(*operands.values())


def of_usual_size(factor: Factor, is_exact: bool) -> Array:
    """The sums that are exact in any order, or the others."""
    terms = terms_of(factor)
    with np.errstate(invalid="ignore"):
        total = np.abs(terms).sum(axis=-1)
        chosen = (Sums(factor).unit(terms) == 0) == is_exact
        chosen &= (total > 1e-3) & (total < 1e3)
    return SUMS.pack(chosen)


def flip_exact_sum(name: str, results: Array) -> None:
    flip_last_bit(results, of_usual_size(FACTORS[name], is_exact=True) & (results != 0))


def move_sum(name: str, part: float, results: Array) -> None:
    """By a part of what is allowed, as the sum of absolute terms says it."""
    factor = FACTORS[name]
    total = SUMS.pack(np.abs(terms_of(factor)).sum(axis=-1))
    place = tuple(np.argwhere(of_usual_size(factor, is_exact=False))[0])
    results[place] += part * 3 * factor.depth * 2.0**-24 * total[place]


def read_unwanted(results: Array) -> None:
    results[tuple(np.argwhere(results == 0)[0])] = 0xFFFFFFFF


FOUND: list[tuple[str, Change]] = [
    ("multiply_matrices.float16", functools.partial(flip_exact_sum, "float16")),
    ("multiply_matrices.bfloat16", functools.partial(flip_exact_sum, "bfloat16")),
    ("multiply_matrices.tf32", functools.partial(flip_exact_sum, "tf32")),
    ("multiply_matrices.float16", functools.partial(move_sum, "float16", 1.1)),
    ("multiply_matrices.bfloat16", functools.partial(move_sum, "bfloat16", -1.1)),
    ("multiply_matrices.tf32", functools.partial(move_sum, "tf32", 1.1)),
    ("multiply_matrices.float16", swap_lanes),
    ("multiply_matrices.float16", lose_nan),
    ("multiply_matrices.bfloat16", invent_nan),
    ("multiply_matrices.tf32", lose_infinity),
    ("load_matrices.float16", swap_lanes),
    ("load_transposed.bfloat16", swap_lanes),
    ("load_matrices.float32", swap_matrices),
    ("copy_async.16", read_unwanted),
    ("copy_async.4", swap_lanes),
    ("round_pair.bfloat16", flip_last_bit),
    ("round_pair.float16", lose_nan),
    ("round_to.float16", flip_last_bit),
    ("round_to_tf32", turn_sign),
    ("half_to_float", lose_nan),
    ("unpack.float64", swap_lanes),
    ("approximate_exp2", functools.partial(move_by, 8)),
    ("approximate_exp2", lose_infinity),
    ("exp_of.float32", functools.partial(move_by, 4)),
    ("exp_of.float64", lose_infinity),
    ("log1p_of.float64", functools.partial(move_by, 3)),
    ("log_of.float32", turn_sign),
    ("log_of.float64", lose_nan),
    ("sqrt_of.float32", flip_last_bit),
    ("quotient.float64", flip_last_bit),
    ("multiply_add.float32", flip_last_bit),
    ("shuffle_up.int64", swap_lanes),
    ("match_any", flip_last_bit),
]


def changed(recorded: Recorded, name: str, change: Change) -> Recorded:
    results = results_of(recorded, name).copy()
    before = results.copy()
    change(results)
    assert (bits_of(results) != bits_of(before)).any()
    bits = results.view(recorded[result_key(name)].dtype)
    return {**recorded, result_key(name): bits}


@pytest.mark.parametrize(("name", "change"), FOUND)
def test_a_planted_difference_is_found_and_named(
    module: Any, recorded: Recorded, name: str, change: Change
) -> None:
    (sentence,) = vectors.differences(changed(recorded, name, change), module)
    assert re.match(rf"{name}: \d+ of \d+ results differ, first in thread ", sentence)
    assert f"Allowed: {INSTRUCTIONS[name].distance.allowed}." in sentence


def flush_smallest_power(results: Array) -> None:
    results[(results > 0) & (results < 1.000001 * np.finfo(np.float32).tiny)] = 0


PASSED: list[tuple[str, Change]] = [
    ("multiply_matrices.float16", functools.partial(move_sum, "float16", 0.6)),
    ("multiply_matrices.tf32", functools.partial(move_sum, "tf32", -0.6)),
    ("approximate_exp2", functools.partial(move_by, -7)),
    ("approximate_exp2", flush_smallest_power),
    ("exp_of.float32", functools.partial(move_by, 3)),
    ("expm1_of.float64", functools.partial(move_by, -2)),
]


@pytest.mark.parametrize(("name", "change"), PASSED)
def test_what_a_device_may_do_otherwise_is_no_difference(
    module: Any, recorded: Recorded, name: str, change: Change
) -> None:
    assert vectors.differences(changed(recorded, name, change), module) == []


def cut(numbers: Array, spacing: Array) -> Array:
    return np.trunc(numbers / spacing) * spacing


def cut_sums(terms: Array, extra_bits: int) -> Array:
    """Each term is cut off where the largest has its last bit, or some bits behind it.

    Then they are added exactly, and the sum is cut off to a float32.
    """
    _, exponents = np.frexp(np.abs(terms).max(axis=-1, keepdims=True))
    sums = cut(terms, np.ldexp(1.0, exponents - 24 - extra_bits)).sum(axis=-1)
    _, exponents = np.frexp(sums)
    return cut(sums, np.ldexp(1.0, np.maximum(exponents - 24, -149)))


def published_sums(terms: Array, at_once: int, extra_bits: int) -> Array:
    """So many products at once are added to what the ones before have given."""
    *products, sums = np.moveaxis(terms, -1, 0)
    for first in range(0, len(products), at_once):
        group = [sums, *products[first : first + at_once]]
        sums = cut_sums(np.stack(group, axis=-1), extra_bits)
    return np.asarray(sums)


# Khattak and Mikaitis, "Accurate Models of NVIDIA Tensor Cores" (2025): products of a
# multiplication that are added at once, bits behind the largest term's last.
@pytest.mark.parametrize(("parts", "extra_bits"), [(2, 1), (1, 2)], ids=["A100", "H100"])
@pytest.mark.parametrize("name", FACTORS)
def test_tensor_cores_that_cut_off_are_within_the_distance(
    module: Any, recorded: Recorded, name: str, parts: int, extra_bits: int
) -> None:
    factor = FACTORS[name]
    terms = terms_of(factor)
    finite = np.isfinite(terms).all(axis=-1) & (np.abs(terms).sum(axis=-1) < 2.0**128)
    sums = published_sums(
        np.where(finite[..., None], terms, 0), factor.depth // parts, extra_bits
    )

    def change(results: Array) -> None:
        results[:] = np.where(SUMS.pack(finite), SUMS.pack(sums), results)

    other = changed(recorded, f"multiply_matrices.{name}", change)
    unlike = (
        other[f"result: multiply_matrices.{name}"]
        != recorded[f"result: multiply_matrices.{name}"]
    )
    assert unlike.sum() > 500
    assert vectors.differences(other, module) == []


# --- The emulator that cuts off as well -------------------------------------------------


@pytest.fixture(name="truncating")
def truncating_module(module: Any) -> Iterator[Any]:
    module.truncate_products(True)
    yield module
    module.truncate_products(False)
    module.set_capability(9, 0)


@pytest.mark.parametrize("name", FACTORS)
def test_truncated_sums_are_bit_for_bit_those_that_an_h100_recorded(
    truncating: Any, name: str
) -> None:
    recorded = vectors.load()
    assert "H100" in vectors.device_of(recorded)["name"]
    instruction = f"multiply_matrices.{name}"
    found = vectors.run(truncating, instruction, vectors.operands_of(recorded, instruction))
    expected = recorded[result_key(instruction)]
    undefined = np.isnan(expected.view(np.float32))
    np.testing.assert_array_equal(np.isnan(found.view(np.float32)), undefined)
    np.testing.assert_array_equal(found[~undefined], expected[~undefined])


def sum_of(module: Any, start: float, product: float, count: int) -> float:
    """What bfloat16 tensor cores make of a sum and some equal products behind it."""
    factor = FACTORS["bfloat16"]
    left = np.zeros((1, 16, 16))
    left[..., :count] = product
    operands = [
        factor.left.pack(left).astype(factor.dtype).view(factor.stored),
        factor.right.pack(np.ones((1, 16, 8))).astype(factor.dtype).view(factor.stored),
        SUMS.pack(np.full((1, 16, 8), start, np.float32)),
    ]
    (found,) = np.unique(vectors.run(module, "multiply_matrices.bfloat16", operands))
    return float(found.view(np.float32))


ULP = 2.0**-23  # above one


# What sixteen products, or one of three quarters of a unit, add to a sum of one.
@pytest.mark.parametrize(
    ("count", "product", "rounded", "on_a100", "on_h100"),
    [(1, 0.75 * ULP, ULP, 0, 0), (16, ULP / 4, 0, 0, 4 * ULP), (16, ULP / 8, 0, 0, 0)],
)
def test_rounded_sums_differ_from_truncated_ones_and_these_by_the_device(
    truncating: Any,
    count: int,
    product: float,
    rounded: float,
    on_a100: float,
    on_h100: float,
) -> None:
    for capability, added in [((8, 0), on_a100), ((9, 0), on_h100)]:
        truncating.set_capability(*capability)
        assert sum_of(truncating, 1, product, count) == 1 + added
    truncating.truncate_products(False)
    assert sum_of(truncating, 1, product, count) == 1 + rounded


def test_a_difference_is_shown_with_its_numbers_and_bits(
    module: Any, recorded: Recorded
) -> None:
    def change(results: Array) -> None:
        results[5, 1] = 1.5

    (sentence,) = vectors.differences(
        changed(recorded, "round_pair.bfloat16", change), module
    )
    assert ": 1 of 1920 results differ, first in thread 5 number 1: " in sentence
    assert "recorded 1.5 (0x3fc0), computed " in sentence


def without(recorded: Recorded, key: str) -> Recorded:
    return {name: array for name, array in recorded.items() if name != key}


@pytest.mark.parametrize("key", ["device", "operand: rows", "result: ballot"])
def test_what_a_recording_lacks_is_named(module: Any, recorded: Recorded, key: str) -> None:
    assert vectors.differences(without(recorded, key), module) == [f"{key} is missing"]


def test_what_nothing_needs_is_named(module: Any, recorded: Recorded) -> None:
    more = {**recorded, "result: of yore": recorded["result: ballot"]}
    assert vectors.differences(more, module) == [
        "result: of yore is of no use: nothing here has that name"
    ]


@pytest.mark.parametrize("change", ["a bit", "fewer", "another type"])
def test_operands_of_another_version_are_named(
    module: Any, recorded: Recorded, change: str
) -> None:
    operand = recorded["operand: few numbers"]
    others = {
        "a bit": operand ^ np.int32(1),
        "fewer": operand[:WARP],
        "another type": operand.view(np.uint32),
    }[change]
    assert vectors.differences({**recorded, "operand: few numbers": others}, module) == [
        "operand: few numbers is of another version: record on a device again"
    ]


def test_results_of_another_shape_are_named(module: Any, recorded: Recorded) -> None:
    key = "result: ballot"
    other = {**recorded, key: recorded[key][:WARP]}
    assert vectors.differences(other, module) == [
        "ballot: recorded are uint32 numbers of shape (32, 1), computed uint32 of shape "
        "(256, 1)"
    ]


# --- Launches of nothing -----------------------------------------------------------------


@pytest.mark.parametrize("in_graph", [False, True])
def test_each_sample_of_launches_has_its_time(module: Any, in_graph: bool) -> None:
    times = module.launch_milliseconds(samples=3, launches=2, in_graph=in_graph)
    assert len(times) == 3
    assert min(times) > 0


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"launches": 0}])
@pytest.mark.parametrize("in_graph", [False, True])
def test_no_samples_or_launches_are_refused(
    module: Any, in_graph: bool, wrong: dict[str, int]
) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} .*must be at least 1"):
        module.launch_milliseconds(**wrong, in_graph=in_graph)


# --- What the module refuses -------------------------------------------------------------

ROWS = np.zeros((WARP, 4), np.uint32)
PLACES = np.zeros(WARP, np.int32)
REFUSED: list[tuple[str, list[Array], str]] = [
    ("divide", [PLACES], r"there is no instruction divide; names\(\) lists those"),
    ("ballot", [], r"ballot takes 1 operands, got 0"),
    ("ballot", [PLACES[:31]], r"whole warps of 32 threads, got operands for 31"),
    ("ballot", [PLACES[:0]], r"whole warps of 32 threads, got operands for 0"),
    (
        "load_matrices.float16",
        [ROWS, PLACES[:16]],
        r"operand 1 must have 128 bytes, for 32 threads, got 64",
    ),
    ("ballot", [np.zeros(64, np.int32)[::2]], r"operand 0 must be a C-contiguous array"),
]


@pytest.mark.parametrize(("name", "operands", "message"), REFUSED)
def test_wrong_operands_are_refused_by_name(
    module: Any, name: str, operands: list[Array], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        module.run(name, operands)
