"""The emulator's warpgroups: it finds planted faults of barriers and products.

Every kernel of ``planted_barrier_faults.cu`` and ``planted_warpgroup_faults.cu`` comes in a
right and a wrong variant, and runs in two blocks.
"""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BLOCKS = 2
SHARED_BYTES = 32 * 1024
SEEDS = range(5)  # 0: everything in its order

NEVER_WRITTEN = r"read of shared memory that nothing wrote"
READ = r"missing barrier: read of shared memory that thread \d+ of the block wrote"
OVERWRITE = r"missing barrier: write to shared memory that thread \d+ of the block read"
UNREADABLE = f"{NEVER_WRITTEN}|{READ}"
RACE = f"{READ}|{OVERWRITE}"
ARRIVAL_BARRIER = r"the arrival barrier at byte \d+"
STUCK_AT_PHASE = rf"wait_for_phase of {ARRIVAL_BARRIER} with parity [01] waits for ever"
TOO_MANY_ARRIVALS = (
    rf"arrive at {ARRIVAL_BARRIER}: more than the 128 arrivals of a phase, for nothing "
    "tells this one that the phase before has ended"
)
NOT_SET_UP = rf"of {ARRIVAL_BARRIER}, which nothing has set up"
NO_SUCH_BARRIER = "barriers are 1 to 15, for whole warps"
STUCK_AT_BARRIER = r"synchronise of barrier \d+ for 256 threads waits for ever"

# What the right variants compute: the second half of a block gets the first one's numbers,
# last first, in rounds or once; or all of them the first number twice. Or numbers are
# reversed in each half twice, or in the block, or stay what they are.
PASSED_ON = "rounds"
PASSED_ONCE = "once"
PASSED_TO_ALL = "to all"
REVERSED = "halves"
REVERSED_IN_BLOCK = "block"
NOTHING = "nothing"

# Kernel, what the wrong variant is told, what the right one computes.
BARRIER_FAULTS: dict[str, tuple[str, str]] = {
    "use_a_barrier_that_nothing_set_up": (NOT_SET_UP, PASSED_ON),
    "use_a_barrier_too_early": (
        rf"of {ARRIVAL_BARRIER}, which thread 0 of the block set up without a "
        rf"__syncthreads since|{NOT_SET_UP}",
        PASSED_ON,
    ),
    "set_up_a_barrier_twice": (
        rf"set_up of {ARRIVAL_BARRIER}, which is in use",
        PASSED_ON,
    ),
    "set_up_a_barrier_for_nobody": (
        rf"set_up of {ARRIVAL_BARRIER} for 0 arrivals",
        PASSED_ON,
    ),
    "never_arrive": (STUCK_AT_PHASE, PASSED_ON),
    "arrive_too_often": (TOO_MANY_ARRIVALS, PASSED_ON),
    "read_before_a_phase_has_ended": (UNREADABLE, PASSED_ON),
    "produce_without_waiting": (TOO_MANY_ARRIVALS, PASSED_ON),
    "arrive_before_writing": (READ, PASSED_ON),
    "arrive_before_reading": (OVERWRITE, PASSED_ON),
    "overwrite_what_a_warp_has_not_released": (OVERWRITE, PASSED_ON),
    "overwrite_what_one_of_many_reads": (RACE, PASSED_TO_ALL),
    "wait_for_the_wrong_parity": (f"{UNREADABLE}|{STUCK_AT_PHASE}", PASSED_ON),
    "wait_for_a_parity_of_two": (
        rf"wait_for_phase of {ARRIVAL_BARRIER} with parity [23];",
        PASSED_ON,
    ),
    "read_a_barriers_word": (
        "read of shared memory that is an arrival barrier",
        PASSED_ON,
    ),
    "write_a_barriers_word": (
        "write to shared memory that is an arrival barrier",
        PASSED_ON,
    ),
    "arrive_before_the_other_lanes": (READ, PASSED_ONCE),
    "read_before_the_lane_that_waits": (UNREADABLE, PASSED_ONCE),
    "wait_alone_for_a_phase": (
        r"wait_for_phase of the arrival barrier at byte 0 with parity 0 waits for ever; in "
        r"block \(\d, 0, 0\), thread \(224, 0, 0\)",
        NOTHING,
    ),
    "wait_at_a_phase_and_a_barrier": (STUCK_AT_PHASE, NOTHING),
    "read_without_a_named_barrier": (UNREADABLE, REVERSED),
    "overwrite_without_a_named_barrier": (RACE, REVERSED),
    "take_a_named_barrier_for_the_blocks": (RACE, REVERSED_IN_BLOCK),
    "leave_out_a_warp": (STUCK_AT_BARRIER, NOTHING),
    "leave_out_a_lane": (STUCK_AT_BARRIER, NOTHING),
    "name_different_numbers_of_threads": (
        r"synchronise of barrier 3 for (128|256) threads, at which others wait for "
        rf"(128|256)|{STUCK_AT_BARRIER}",
        NOTHING,
    ),
    "name_part_of_a_warp": (rf"for 240 threads: {NO_SUCH_BARRIER}", NOTHING),
    "name_the_barrier_of_the_block": (rf"of barrier 0 .*: {NO_SUCH_BARRIER}", NOTHING),
    "name_a_barrier_too_many": (rf"of barrier 16 .*: {NO_SUCH_BARRIER}", NOTHING),
    "ask_for_too_many_registers": (
        "take_registers waits for ever: the block's warps ask for 65536 registers of 64512",
        NOTHING,
    ),
    "ask_for_registers_in_part_of_a_warpgroup": (
        "warp 2 has asked for 0 registers a thread, another of its warpgroup for 40",
        NOTHING,
    ),
    "give_more_registers_than_there_are": (
        "give_registers_back of 48 where there are 40",
        NOTHING,
    ),
    "take_less_registers_than_there_are": (
        "take_registers of 64 where there are 255",
        NOTHING,
    ),
}

NOT_SHOWN = (
    r"missing show_writes_to_products: product of shared memory that thread \d+ of the "
    "block wrote"
)
READ_UNDER_WAY = (
    r"missing wait_for_products: write to shared memory that a product of warp \d reads"
)
READ_BY_PRODUCT = r"missing barrier: write to shared memory that a product of warp \d read;"
DISTURBED = f"{READ_UNDER_WAY}|{READ_BY_PRODUCT}"
NO_BEGIN = "missing begin_products: multiply_shared"
UNEVEN = (
    "with the base offset 0, eights of rows start at multiples of 1024 bytes; this one "
    "starts at byte "
)
# Kernel, threads, what the wrong variant is told, what the right one adds to its numbers.
PRODUCT_FAULTS: dict[str, tuple[int, str, int]] = {
    "multiply_what_nothing_wrote": (128, NEVER_WRITTEN, 64),
    "multiply_without_a_barrier": (128, UNREADABLE, 64),
    "multiply_what_is_not_shown": (128, NOT_SHOWN, 64),
    "show_before_writing": (128, NOT_SHOWN, 64),
    "show_after_the_barrier": (128, NOT_SHOWN, 64),
    "multiply_without_begin": (128, NO_BEGIN, 64),
    "multiply_without_begin_after_a_wait": (128, NO_BEGIN, 64),
    "never_commit_products": (128, "product without a commit_products", 64),
    "never_wait_for_products": (
        128,
        "product without a wait_for_products before the block ends",
        64,
    ),
    "write_sums_before_the_wait": (
        128,
        "sums of lane 8 were written before wait_for_products",
        64,
    ),
    "write_what_a_product_reads": (128, DISTURBED, 64),
    "write_what_a_product_reads_after_a_barrier": (128, READ_UNDER_WAY, 64),
    "copy_to_what_a_product_reads": (128, DISTURBED, 64),
    "multiply_without_a_lane_of_the_group": (
        128,
        "multiply_shared with mask 0xffffffff waits for ever for lane 1",
        64,
    ),
    "multiply_two_matrices_at_once": (
        128,
        "multiply_shared of which lane 1 asks for another product than lane 0",
        64,
    ),
    "multiply_less_in_one_warp": (
        128,
        "warp 2 has issued 4 products, another of its warpgroup 8",
        64,
    ),
    "multiply_to_overlapping_sums": (
        128,
        "product whose sums are in part those of another that is under way",
        64,
    ),
    "multiply_copies_that_are_not_shown": (128, NOT_SHOWN, 0),
    "show_copies_before_their_wait": (128, NOT_SHOWN, 0),
    "multiply_what_a_copy_is_under_way_to": (
        128,
        "missing wait_for_copies: read of shared memory to which a copy by thread 3 ",
        64,
    ),
    "release_before_the_wait": (256, DISTURBED, 192),
    "show_after_arriving": (256, NOT_SHOWN, 192),
    "multiply_before_a_phase_has_ended": (256, UNREADABLE, 192),
    "write_what_a_warp_has_not_released": (
        256,
        "missing barrier: write to shared memory that a product of warp 6 read;",
        192,
    ),
    "multiply_with_no_swizzle": (
        128,
        "multiply_shared with the descriptor 0x4000000000: only the swizzle of 128 bytes",
        16,
    ),
    "multiply_with_a_base_offset": (128, "only the base offset 0 is emulated", 16),
    "multiply_with_unused_bits": (
        128,
        "multiply_registers with .*: bits are set that belong to no field",
        16,
    ),
    "multiply_from_within_eight_rows": (128, UNEVEN + "128, the next 1024 bytes ", 16),
    "multiply_from_the_middle_of_a_step": (128, "misaligned start at byte 16", 16),
    "multiply_from_the_middle_of_a_row": (128, "misaligned start at byte 32", 16),
    "multiply_with_an_uneven_stride": (128, UNEVEN + "0, the next 1152 bytes ", 16),
    "multiply_beyond_an_array": (
        128,
        r"cudaErrorIllegalAddress: multiply_shared of byte \d+ of shared memory, which is "
        "not in the array where its matrix starts",
        16,
    ),
    "multiply_beyond_all_arrays": (
        128,
        "multiply_registers of byte 16384 of shared memory, which is in no array",
        16,
    ),
    "multiply_numbers_of_another_size": (
        128,
        "multiply_registers of an array of 16 elements of 4 bytes: factors are of 2 bytes",
        16,
    ),
    "multiply_what_may_be_misaligned": (
        128,
        "of SharedArrays, which need not start at a multiple of 1024 bytes",
        64,
    ),
}


def threads_of(kernel: str) -> int:
    if kernel == "ask_for_too_many_registers":
        return 384
    return PRODUCT_FAULTS[kernel][0] if kernel in PRODUCT_FAULTS else 256


def told_by(kernel: str) -> str:
    if kernel in PRODUCT_FAULTS:
        return PRODUCT_FAULTS[kernel][1]
    return BARRIER_FAULTS[kernel][0]


def numbers_of(threads: int) -> Floats:
    return np.arange(BLOCKS * threads, dtype=np.float32)


def expected_of_barriers(kind: str, numbers: Floats) -> Floats:
    halves = numbers.reshape(BLOCKS, 2, -1)
    if kind == PASSED_ON:
        rounds = range(5)
        passed = sum(halves[:, 0, ::-1] + r for r in rounds)
        return np.stack([halves[:, 0], passed], 1).ravel()
    if kind == PASSED_ONCE:
        return np.stack([halves[:, 0], halves[:, 0, ::-1]], 1).ravel()
    if kind == PASSED_TO_ALL:
        first = np.broadcast_to(halves[:, 0, :1], halves[:, 0].shape)
        return np.stack([halves[:, 0], 2 * first], 1).ravel()
    if kind == REVERSED:
        return 2 * halves[:, :, ::-1].ravel()
    if kind == REVERSED_IN_BLOCK:
        return numbers.reshape(BLOCKS, -1)[:, ::-1].ravel()
    return numbers


def expected_of(kernel: str, numbers: Floats) -> Floats:
    if kernel in BARRIER_FAULTS:
        return expected_of_barriers(BARRIER_FAULTS[kernel][1], numbers)
    threads, _, added = PRODUCT_FAULTS[kernel]
    sums = np.full_like(numbers, added).reshape(BLOCKS, -1, 128)
    sums[:, : threads // 128 - 1] = 0  # what the warpgroup adds that produces
    return numbers + sums.ravel()


def run(planted: Any, kernel: str, threads: int, wrong: bool = False) -> Floats:
    output: Floats = planted.run(
        kernel,
        numbers_of(threads),
        wrong=wrong,
        blocks=BLOCKS,
        threads=threads,
        shared_bytes=SHARED_BYTES,
    )
    return output


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kernel", [*BARRIER_FAULTS, *PRODUCT_FAULTS])
def test_a_fault_of_a_warpgroup_is_caught_in_any_order(
    planted: Any, kernel: str, seed: int
) -> None:
    planted.set_schedule(seed)
    with pytest.raises(RuntimeError, match=told_by(kernel)):
        run(planted, kernel, threads_of(kernel), wrong=True)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kernel", [*BARRIER_FAULTS, *PRODUCT_FAULTS])
def test_the_same_warpgroups_without_the_fault_compute_the_same_in_any_order(
    planted: Any, kernel: str, seed: int
) -> None:
    planted.set_schedule(seed)
    threads = threads_of(kernel)
    expected = expected_of(kernel, numbers_of(threads))
    np.testing.assert_array_equal(run(planted, kernel, threads), expected)


@pytest.mark.parametrize(
    "kernel", ["read_the_sums_of_the_wrong_group", "read_sums_that_a_product_adds_to"]
)
def test_sums_that_are_read_before_the_wait_spoil_what_is_computed(
    planted: Any, kernel: str
) -> None:
    np.testing.assert_array_equal(run(planted, kernel, 128), numbers_of(128) + 64)
    assert np.isnan(run(planted, kernel, 128, wrong=True)).all()


def test_a_warp_without_three_others_is_no_warpgroup(planted: Any) -> None:
    with pytest.raises(RuntimeError, match="by a warp whose warpgroup has less than four"):
        run(planted, "multiply_with_no_swizzle", 96)


@pytest.mark.parametrize("capability", [(8, 0), (10, 0), (12, 0)])
@pytest.mark.parametrize(
    ("kernel", "instruction"),
    [
        ("never_arrive", "set_up"),
        ("leave_out_a_warp", "synchronise"),
        ("give_more_registers_than_there_are", "give_registers_back"),
        ("take_less_registers_than_there_are", "take_registers"),
        ("multiply_what_is_not_shown", "show_writes_to_products"),
        ("multiply_without_a_barrier", "show_writes_to_products"),
    ],
)
def test_only_hopper_has_the_instructions_of_warpgroups(
    planted: Any, kernel: str, instruction: str, capability: tuple[int, int]
) -> None:
    """Code for sm_90a runs on no later device either."""
    wrong = kernel == "take_less_registers_than_there_are"
    planted.set_capability(*capability)
    message = f"{instruction} needs compute capability 9.0 itself"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        run(planted, kernel, threads_of(kernel), wrong)


@pytest.mark.parametrize("kernel", ["write_what_a_product_reads", "arrive_too_often"])
def test_the_emulator_works_on_after_a_fault_of_a_warpgroup(
    planted: Any, kernel: str
) -> None:
    threads = threads_of(kernel)
    for _ in range(3):
        with pytest.raises(RuntimeError):
            run(planted, kernel, threads, wrong=True)
        expected = expected_of(kernel, numbers_of(threads))
        np.testing.assert_array_equal(run(planted, kernel, threads), expected)


def test_the_traffic_of_warpgroups_is_that_of_their_threads(planted: Any) -> None:
    planted.count_traffic(True)
    run(planted, "release_before_the_wait", 256)
    figures = planted.statistics()[-1]
    assert figures["bytes_read"] == figures["bytes_written"] == 4 * BLOCKS * 256
    assert figures["shared_wavefronts"] == 0


DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def multiply(planted: Any, name: str, place: str, left: Any, right: Any) -> Floats:
    """By a warpgroup, onto sums that start from their places."""
    depth, columns = right.shape
    factors = np.concatenate(
        [left.ravel(), (right.T if place == "shared" else right).ravel()]
    )
    # The output is as long as the input.
    numbers = np.zeros(max(64 * columns, factors.size // 2), np.float32)
    numbers.view(left.dtype)[: factors.size] = factors
    kernel = f"multiply_{name}_{columns}_{place}"
    output = planted.run(
        kernel, numbers, threads=128, repeats=depth, shared_bytes=48 * 1024
    )
    return output[: 64 * columns].reshape(64, columns)


@pytest.mark.parametrize("seed", SEEDS[:2])
@pytest.mark.parametrize("depth", [64, 128])
@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("place", ["shared", "registers"])
@pytest.mark.parametrize("name", DTYPES)
def test_a_warpgroup_multiplies_matrices_as_numpy_does(
    planted: Any, name: str, place: str, columns: int, depth: int, seed: int
) -> None:
    """All steps along rows of 64 elements or of two times 64."""
    planted.set_schedule(seed)
    random = np.random.default_rng(seed)
    left = random.normal(size=(64, depth)).astype(DTYPES[name])
    right = random.normal(size=(depth, columns)).astype(DTYPES[name])
    output = multiply(planted, name, place, left, right)
    sums = np.arange(64 * columns, dtype=np.float32).reshape(64, columns)
    for step in range(depth):
        sums += left[:, [step]].astype(np.float32) * right[[step]].astype(np.float32)
    np.testing.assert_array_equal(output, sums)


def test_a_warpgroups_products_are_cut_off_where_they_are_truncated(
    planted: Any,
) -> None:
    """All 16 at once: the last one, which is the largest, says what is left of others."""
    left, right = np.zeros((2, 64, 64), np.float16)
    left[0, :8] = right[:8, 0] = 2.0**-13
    left[0, 15] = right[15, 0] = 1
    assert multiply(planted, "float16", "shared", left, right)[0, 0] == 1 + 2.0**-23
    planted.truncate_products(True)
    assert multiply(planted, "float16", "shared", left, right)[0, 0] == 1
