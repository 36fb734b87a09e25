"""The CUDA emulator itself: it finds planted faults, and nothing else.

Every kernel of ``planted_faults.cu`` and ``planted_tile_faults.cu`` comes in a right and a
wrong variant; those for Hopper are in ``test_warpgroups.py``.
The launches have two blocks of four warps, unless a test says otherwise.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from tools.cuda_emulator.tests.conftest import MODULES

Floats = NDArray[np.float32]

BLOCKS, THREADS = 2, 128
COUNT = BLOCKS * THREADS
INPUT = np.arange(COUNT, dtype=np.float32)
SHARED_BYTES = 2048
SEEDS = range(5)  # 0: everything in its order


def reversed_in_blocks(numbers: Floats) -> Floats:
    return numbers.reshape(BLOCKS, THREADS)[:, ::-1].ravel()


def neighbours_swapped(numbers: Floats) -> Floats:
    return numbers.reshape(-1, 2)[:, ::-1].ravel()


def next_in_warp(numbers: Floats) -> Floats:
    warps = numbers.reshape(-1, 32)
    return np.concatenate([warps[:, 1:], warps[:, -1:]], axis=1).ravel()


def half_of_each_warp_swapped(numbers: Floats) -> Floats:
    swapped = neighbours_swapped(numbers).reshape(-1, 32)
    return np.concatenate(
        [swapped[:, :16], numbers.reshape(-1, 32)[:, 16:]], axis=1
    ).ravel()


# The second block's numbers, last first, and zeros: nothing lies behind the second.
OF_THE_NEXT_BLOCK = np.append(INPUT[THREADS:][::-1], np.zeros(THREADS, np.float32))
# What lanes get of an 8 x 8 matrix whose places hold their own numbers.
LANES = np.arange(COUNT) % 32
FROM_ROWS = INPUT + 2 * LANES
FROM_COLUMNS = INPUT + 16 * (LANES % 4) + LANES // 4

# The sum over a block's warps, twice.
OVER_WARPS = 2 * np.repeat(INPUT.reshape(BLOCKS, -1, 32).sum(1), THREADS // 32, 0).ravel()

UNDER_WAY = "shared memory to which a copy by thread "
SHUFFLE = "__shfl_xor_sync with mask "
# Kernel, what the wrong variant is told, what the right one computes.
FAULTS: dict[str, tuple[str, Floats]] = {
    "read_out_of_bounds": (
        "cudaErrorIllegalAddress: out-of-bounds read of 4 bytes at offset 1024 of a buffer "
        "of 1024 bytes; in block (1, 0, 0), thread (127, 0, 0)",
        np.append(INPUT[1:], INPUT[-1]),
    ),
    "read_before_the_start": (
        "cudaErrorIllegalAddress: out-of-bounds read of 4 bytes at offset -4 of a buffer "
        "of 1024 bytes; in block (0, 0, 0), thread (0, 0, 0)",
        np.append(INPUT[:1], INPUT[:-1]),
    ),
    "load_a_misaligned_vector": (
        "cudaErrorMisalignedAddress: misaligned read of 16 bytes at offset ",
        np.repeat(INPUT.reshape(-1, 4).sum(1), 4),
    ),
    "read_uninitialised_memory": ("read of uninitialised memory: read of 4 bytes", INPUT),
    "read_own_writes_through_the_constant_cache": (
        "read through __ldg of what the same launch wrote: read of 4 bytes",
        INPUT,
    ),
    "read_host_memory": ("which is not a device address", INPUT),
    "shuffle_from_an_inactive_lane": (
        "which is inactive: __shfl_xor_sync with mask 0xffff; in block ",
        half_of_each_warp_swapped(INPUT),
    ),
    "shuffle_with_a_lane_missing_from_the_mask": (
        SHUFFLE + "0xfffffffe is called by lane 0, which is not in the mask",
        neighbours_swapped(INPUT),
    ),
    "shuffle_with_a_lane_that_has_exited": (
        SHUFFLE + "0xffffffff waits for ever for lane 31, which has exited",
        neighbours_swapped(INPUT),
    ),
    "wait_at_different_collectives": (
        "__ballot_sync with mask 0xffffffff waits for ever for lane 16, which waits at "
        "__shfl_down_sync with mask 0xffffffff",
        next_in_warp(INPUT),
    ),
    "read_unwritten_shared_memory": (
        "read of shared memory that nothing wrote; in block ",
        reversed_in_blocks(INPUT),
    ),
    "read_without_a_barrier": ("missing barrier: ", reversed_in_blocks(INPUT + 1)),
    "overwrite_without_a_barrier": ("missing barrier: ", reversed_in_blocks(2 * INPUT)),
    "exchange_without_a_warp_barrier": (
        "missing barrier: ",
        neighbours_swapped(INPUT + 1),
    ),
    "take_a_warp_barrier_for_the_blocks": (
        "missing barrier: ",
        reversed_in_blocks(INPUT + 1),
    ),
    "return_before_the_barrier": (
        "__syncthreads waits for ever for a thread that has exited",
        INPUT,
    ),
    "wait_at_barrier_and_shuffle": (
        SHUFFLE + "0xffffffff waits for ever for lane 7, which waits at __syncthreads",
        neighbours_swapped(INPUT),
    ),
    "read_before_the_wait": (
        "missing wait_for_copies: read of " + UNDER_WAY,
        reversed_in_blocks(INPUT),
    ),
    "write_before_the_wait": (
        "missing wait_for_copies: write to " + UNDER_WAY,
        reversed_in_blocks(INPUT),
    ),
    "copy_twice_to_one_place": (
        "missing wait_for_copies: write to " + UNDER_WAY,
        reversed_in_blocks(INPUT),
    ),
    "wait_for_the_wrong_group": (
        "missing wait_for_copies: read of " + UNDER_WAY,
        reversed_in_blocks(INPUT),
    ),
    "wait_without_a_group": (
        "missing wait_for_copies: read of " + UNDER_WAY,
        reversed_in_blocks(INPUT),
    ),
    "wait_without_a_barrier": ("missing barrier: ", reversed_in_blocks(INPUT)),
    "copy_over_what_is_read": ("missing barrier: ", reversed_in_blocks(INPUT)),
    "never_wait_for_a_copy": (
        "copy_async without a wait_for_copies before the block ends; in block (0, 0, 0), "
        "thread (0, 0, 0)",
        INPUT,
    ),
    "copy_to_a_misaligned_place": (
        "of shared memory, which is no multiple of 16",
        reversed_in_blocks(INPUT),
    ),
    "copy_from_a_misaligned_address": (
        "cudaErrorMisalignedAddress: copy_async from an address that is no multiple of 16",
        reversed_in_blocks(INPUT),
    ),
    "copy_beyond_an_array": (
        "copy_async to 16 bytes of shared memory from element 128 of an array of 128 "
        "elements of 4 bytes",
        reversed_in_blocks(INPUT),
    ),
    "copy_what_the_launch_wrote": (
        "copy_async of what the same launch wrote: read of 16 bytes",
        reversed_in_blocks(INPUT),
    ),
    "copy_what_is_not_there": (
        "cudaErrorIllegalAddress: out-of-bounds copy of 16 bytes at offset ",
        OF_THE_NEXT_BLOCK,
    ),
    "take_arrays_in_another_order": (
        "SharedArrays: another thread of the block took ",
        reversed_in_blocks(INPUT),
    ),
    "take_more_than_the_launch_asked_for": (
        "SharedArrays: 481 elements of 4 bytes at byte 128 of the 2048 bytes of shared "
        "memory that the launch asked for",
        reversed_in_blocks(INPUT),
    ),
    "read_beyond_an_array": (
        "read of shared memory beyond the ends of an array",
        reversed_in_blocks(INPUT),
    ),
    "write_before_an_array": (
        "write to shared memory beyond the ends of an array",
        reversed_in_blocks(INPUT),
    ),
    "add_up_before_all_have_given": (
        "read of shared memory that nothing wrote; in block ",
        OVER_WARPS,
    ),
    "give_before_all_have_added_up": ("missing barrier: ", OVER_WARPS),
    "read_a_misaligned_pair": (
        "of shared memory, which is no multiple of 8",
        INPUT,
    ),
    "load_unwritten_matrices": (
        "read of shared memory that nothing wrote; in block ",
        FROM_ROWS,
    ),
    "load_matrices_without_a_barrier": ("missing barrier: ", FROM_COLUMNS),
    "load_a_misaligned_row": (
        "cudaErrorMisalignedAddress: load_matrices from byte 152 of shared memory, which "
        "is no multiple of 16",
        FROM_ROWS,
    ),
    "load_a_row_beyond_an_array": (
        "load_matrices from 16 bytes of shared memory from element 1024 of an array of "
        "1024 elements of 2 bytes",
        FROM_ROWS,
    ),
    "load_matrices_from_a_declared_array": (
        "load_matrices from what is in no array of SharedArrays",
        FROM_ROWS,
    ),
    "multiply_without_a_lane": (
        "multiply_matrices of Float16 with mask 0xffffffff waits for ever for lane 31, "
        "which has exited",
        INPUT + 16,
    ),
    "multiply_two_types_at_once": (
        "multiply_matrices of Float16 with mask 0xffffffff waits for ever for lane 16, "
        "which waits at multiply_matrices of BFloat16",
        INPUT + 16,
    ),
}


def run(planted: Any, kernel: str, wrong: bool = False) -> Floats:
    output: Floats = planted.run(
        kernel,
        INPUT,
        wrong=wrong,
        blocks=BLOCKS,
        threads=THREADS,
        shared_bytes=SHARED_BYTES,
    )
    return output


@pytest.mark.parametrize("kernel", FAULTS)
def test_a_planted_fault_is_caught_in_any_order_of_lanes_warps_and_blocks(
    planted: Any, kernel: str
) -> None:
    message, _ = FAULTS[kernel]
    # The first to run off the end is the last thread only in order.
    told = message.split(";")[0]
    for seed in SEEDS:
        planted.set_schedule(seed)
        with pytest.raises(RuntimeError) as caught:
            run(planted, kernel, wrong=True)
        assert told in str(caught.value)
        if seed == 0:
            assert message in str(caught.value)


@pytest.mark.parametrize("kernel", FAULTS)
def test_the_same_kernel_without_its_fault_gives_the_same_bits_in_any_order(
    planted: Any, kernel: str
) -> None:
    _, expected = FAULTS[kernel]
    for seed in SEEDS:
        planted.set_schedule(seed)
        np.testing.assert_array_equal(run(planted, kernel), expected)


def test_a_write_out_of_bounds_is_caught(planted: Any) -> None:
    numbers = INPUT[:100]
    output = planted.run("write_out_of_bounds", numbers, threads=128)
    np.testing.assert_array_equal(output, numbers)
    with pytest.raises(
        RuntimeError,
        match=r"out-of-bounds write of 4 bytes at offset 400 of a buffer of 400 bytes; "
        r"in block \(0, 0, 0\), thread \(100, 0, 0\)",
    ):
        planted.run("write_out_of_bounds", numbers, threads=128, wrong=True)


def test_a_device_address_is_none_that_the_processor_can_follow(planted: Any) -> None:
    """A kernel that goes around the checks does not get away with it."""
    program = "import _planted_faults; _planted_faults.run('dereference', [1.0] * 32)"
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(MODULES)},
    )
    assert result.returncode == -signal.SIGSEGV


def test_the_emulator_works_on_after_a_fault(planted: Any) -> None:
    for _ in range(3):
        with pytest.raises(RuntimeError, match="waits for ever"):
            run(planted, "wait_at_barrier_and_shuffle", wrong=True)
        output = run(planted, "overwrite_without_a_barrier")
        np.testing.assert_array_equal(output, reversed_in_blocks(2 * INPUT))


def test_a_warp_with_absent_lanes_cannot_use_a_full_mask(planted: Any) -> None:
    with pytest.raises(RuntimeError, match="for lane 20, which does not exist"):
        planted.run(
            "shuffle_with_a_lane_missing_from_the_mask", INPUT[:20], blocks=1, threads=20
        )


@pytest.mark.parametrize(
    ("kernel", "blocks"),
    [("add_in_the_order_of_arrival", 1), ("number_blocks_in_the_order_of_arrival", 16)],
)
def test_a_result_that_depends_on_the_order_shows_in_its_bits(
    planted: Any, kernel: str, blocks: int
) -> None:
    random = np.random.default_rng(1)
    numbers = random.normal(size=blocks * 512).astype(np.float32)
    results: dict[bool, set[bytes]] = {False: set(), True: set()}
    for seed in range(8):
        planted.set_schedule(seed)
        for wrong in (False, True):
            output = planted.run(kernel, numbers, blocks=blocks, threads=512, wrong=wrong)
            results[wrong].add(output.tobytes())
    assert len(results[False]) == 1
    assert len(results[True]) > 1


def test_a_schedule_is_the_same_for_the_same_seed(planted: Any) -> None:
    def arrivals() -> list[float]:
        planted.set_schedule(3)
        output = planted.run(
            "number_blocks_in_the_order_of_arrival",
            np.zeros(1024, np.float32),
            blocks=32,
            wrong=True,
        )
        return list(output[::32])

    first = arrivals()
    assert first != sorted(first)
    assert arrivals() == first


def test_collectives_give_what_cuda_documents(planted: Any) -> None:
    numbers = np.arange(32)
    lanes = np.arange(32)
    expected = [
        np.full(32, 3),
        lanes // 8 * 8 + (lanes + 1) % 8,
        lanes ^ 5,
        # Later groups of 8 may read earlier ones; a lane past its group reads itself.
        np.where((lanes ^ 12) > (lanes | 7), lanes, lanes ^ 12),
        np.where(lanes + 2 > 31, lanes, lanes + 2),
        np.where(lanes % 16 + 3 > 15, lanes, lanes + 3),
        np.where(lanes < 2, lanes, lanes - 2),
        np.where(lanes % 4 < 3, lanes, lanes - 3),
        np.full(32, 11),  # multiples of three below 32
        np.zeros(32),  # any of them 40?
        np.zeros(32),  # all of them at least 32?
        numbers % 7 + 1,  # the first lane with this remainder, counted from one
    ]
    numbers_of_all = np.zeros(12 * 32, np.float32)
    numbers_of_all[:32] = numbers
    for seed in SEEDS:
        planted.set_schedule(seed)
        output = planted.run("use_every_collective", numbers_of_all).reshape(12, 32)
        np.testing.assert_array_equal(output, np.stack(expected))
    numbers_of_all[:32] = numbers + 32
    output = planted.run("use_every_collective", numbers_of_all).reshape(12, 32)
    np.testing.assert_array_equal(output[9:11], np.ones((2, 32)))


FIGURES = (
    *("threads", "bytes_read", "bytes_written", "sectors_read", "sectors_written"),
    *("reads_of_16_bytes", "atomics"),
)


def traffic(
    planted: Any, kernel: str, count: int, threads: int, wrong: bool = False
) -> dict[str, int]:
    planted.count_traffic(True)
    numbers = np.arange(count, dtype=np.float32)
    output = planted.run(
        kernel, numbers, threads=threads, wrong=wrong, shared_bytes=SHARED_BYTES
    )
    np.testing.assert_array_equal(output, numbers)
    figures: dict[str, int] = planted.statistics()[-1]
    return figures


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("kernel", "count", "threads", "wrong", "expected"),
    [
        # 32 warps; 32 numbers of 4 bytes are 4 sectors.
        ("copy_with_a_stride", 1024, 1024, False, (1024, 4096, 4096, 128, 128, 0, 0)),
        # Each lane in a sector of its own.
        ("copy_with_a_stride", 1024, 1024, True, (1024, 4096, 4096, 1024, 1024, 0, 0)),
        ("copy_and_read_twice", 1024, 1024, False, (1024, 4096, 4096, 128, 128, 0, 0)),
        ("copy_and_read_twice", 1024, 1024, True, (1024, 8192, 4096, 256, 128, 0, 0)),
        # A quarter of the threads, 8 warps, 16 sectors each.
        ("copy_vectors", 1024, 1024, False, (1024, 4096, 4096, 128, 128, 256, 0)),
        # Ten rounds of three warps, then one warp and a quarter of the next.
        ("copy_in_a_loop", 1000, 96, False, (96, 4000, 4000, 125, 125, 0, 96)),
        # One warp's copies of 16 bytes, beside every thread's read of its number.
        ("never_wait_for_a_copy", 128, 128, False, (128, 1024, 512, 32, 16, 32, 0)),
    ],
)
def test_the_counters_say_what_the_hand_counts(
    planted: Any,
    kernel: str,
    count: int,
    threads: int,
    wrong: bool,
    expected: tuple[int, ...],
    seed: int,
) -> None:
    planted.set_schedule(seed)
    figures = traffic(planted, kernel, count, threads, wrong)
    assert tuple(figures[name] for name in FIGURES) == expected


def test_a_copy_of_what_is_not_wanted_reads_nothing(planted: Any) -> None:
    planted.count_traffic(True)
    run(planted, "copy_what_is_not_there")  # of two blocks, one has something to copy
    assert planted.statistics()[-1]["bytes_read"] == 4 * THREADS


@pytest.mark.parametrize(
    ("kernel", "same_banks", "wavefronts", "conflicts"),
    [
        # A warp loads two tiles of 16 x 16 elements, as four matrices each.
        ("load_rows_from_the_same_banks", False, 8, 0),
        ("load_rows_from_the_same_banks", True, 64, 56),
        ("load_one_row_for_all", False, 4, 0),
    ],
)
def test_rows_in_the_same_banks_are_read_one_after_another(
    planted: Any, kernel: str, same_banks: bool, wavefronts: int, conflicts: int
) -> None:
    planted.count_traffic(True)
    planted.run(kernel, INPUT, wrong=same_banks, shared_bytes=4096)
    figures = planted.statistics()[-1]
    assert figures["shared_wavefronts"] == wavefronts
    assert figures["bank_conflicts"] == conflicts


@pytest.mark.parametrize(("same_banks", "turns"), [(False, 4), (True, 32)])
def test_packets_in_the_same_banks_move_one_after_another(
    planted: Any, same_banks: bool, turns: int
) -> None:
    planted.count_traffic(True)
    planted.run(
        "write_packets_to_the_same_banks", INPUT, wrong=same_banks, shared_bytes=4096
    )
    figures = planted.statistics()[-1]
    assert figures["packet_wavefronts"] == turns  # four times eight lanes
    assert figures["bank_conflicts"] == turns - 4


def test_traffic_is_counted_only_where_asked(planted: Any) -> None:
    run(planted, "read_host_memory")
    assert planted.statistics()[-1]["bytes_read"] == 0
    planted.count_traffic(True)
    run(planted, "read_host_memory")
    assert planted.statistics()[-1]["bytes_read"] == 4 * COUNT
    assert len(planted.statistics()) == 2
    planted.reset_statistics()
    assert planted.statistics() == []
    planted.count_traffic(False)
    planted.run("load_rows_from_the_same_banks", INPUT, shared_bytes=SHARED_BYTES)
    assert planted.statistics()[-1]["shared_wavefronts"] == 0


@pytest.mark.parametrize(("blocks", "threads"), [(0, 32), (1, 0), (1, 1025)])
def test_an_impossible_launch_is_refused(planted: Any, blocks: int, threads: int) -> None:
    with pytest.raises(RuntimeError, match="cudaErrorInvalidConfiguration"):
        planted.run("copy_vectors", INPUT, blocks=blocks, threads=threads)


def test_memory_runs_out_at_the_limit(planted: Any) -> None:
    planted.set_memory_limit(1000)
    planted.allocate(1000)
    with pytest.raises(RuntimeError, match="cudaErrorMemoryAllocation: out of memory"):
        planted.allocate(1001)


def test_the_device_has_the_capability_that_a_test_gives_it(planted: Any) -> None:
    major, minor = 75, 76  # cudaDevAttrComputeCapabilityMajor, Minor
    assert planted.device_attribute(major) == 9
    planted.set_capability(7, 5)
    assert planted.device_attribute(major) == 7
    assert planted.device_attribute(minor) == 5


def test_the_device_has_the_multiprocessors_that_a_test_gives_it(planted: Any) -> None:
    count = 16  # cudaDevAttrMultiProcessorCount
    usual = planted.device_attribute(count)
    planted.set_multiprocessors(132)
    assert planted.device_attribute(count) == 132
    planted.set_multiprocessors()
    assert planted.device_attribute(count) == usual
    with pytest.raises(ValueError, match="at least one multiprocessor"):
        planted.set_multiprocessors(0)


def test_calls_of_the_api_are_counted_by_name(planted: Any) -> None:
    run(planted, "read_out_of_bounds")
    planted.device_attribute(16)
    calls = planted.api_calls()
    assert calls["cudaLaunchKernelEx"] == 1
    assert calls["cudaDeviceGetAttribute"] == 1
    assert calls["cudaMalloc"] == calls["cudaFree"] > 0
    planted.reset_statistics()
    assert planted.api_calls() == {}


@pytest.mark.parametrize(
    ("kernel", "instruction"),
    [
        ("read_before_the_wait", "copy_async"),
        ("load_unwritten_matrices", "load_matrices"),
        ("load_matrices_without_a_barrier", "load_transposed"),
        ("multiply_without_a_lane", "multiply_matrices of Float16"),
        ("multiply_two_types_at_once", "multiply_matrices of BFloat16"),
    ],
)
def test_an_older_device_lacks_the_instructions_of_tiles(
    planted: Any, kernel: str, instruction: str
) -> None:
    planted.set_capability(8, 0)
    run(planted, kernel)
    planted.set_capability(7, 5)
    with pytest.raises(RuntimeError, match=f"{instruction} needs compute capability 8.0"):
        run(planted, kernel)


# The programming guide's maximum amount of shared memory per thread block.
@pytest.mark.parametrize(
    ("capability", "kibibytes"),
    [((7, 5), 64), ((8, 0), 163), ((8, 6), 99), ((8, 9), 99), ((9, 0), 227)],
)
def test_a_launch_has_the_shared_memory_that_its_kernel_is_allowed(
    planted: Any, capability: tuple[int, int], kibibytes: int
) -> None:
    kernel, usual, most = "take_much_shared_memory", 48 * 1024, kibibytes * 1024

    def take(numbers: int) -> None:
        output = planted.run(kernel, INPUT[:32], repeats=numbers, shared_bytes=4 * numbers)
        np.testing.assert_array_equal(output, INPUT[:32])

    planted.set_capability(*capability)
    assert planted.device_attribute(97) == most  # MaxSharedMemoryPerBlockOptin
    planted.allow_shared_bytes(kernel, usual)
    take(usual // 4)
    with pytest.raises(RuntimeError, match=r"cudaErrorInvalidValue.*cudaFuncSetAttribute"):
        take(usual // 4 + 1)
    planted.allow_shared_bytes(kernel, most)
    take(most // 4)
    with pytest.raises(RuntimeError, match="cudaErrorInvalidValue"):
        take(most // 4 + 1)
    with pytest.raises(RuntimeError, match="cudaErrorInvalidValue: a kernel cannot have"):
        planted.allow_shared_bytes(kernel, most + 1)


@pytest.mark.parametrize("replays", [0, 1, 3])
def test_a_recorded_launch_happens_when_its_graph_is_launched(
    planted: Any, replays: int
) -> None:
    planted.count_traffic(True)
    output = planted.replay("copy_vectors", INPUT, replays=replays)
    assert len(planted.statistics()) == replays
    if replays > 0:
        np.testing.assert_array_equal(output, INPUT)


def test_to_wait_for_the_device_while_a_stream_is_recorded_is_an_error(
    planted: Any,
) -> None:
    message = "cudaDeviceSynchronize while a stream is recorded into a graph"
    with pytest.raises(RuntimeError, match=message):
        planted.replay("copy_vectors", INPUT, wait=True)
    # Nothing of it is left: the next recording is a right one.
    np.testing.assert_array_equal(planted.replay("copy_vectors", INPUT), INPUT)


def test_the_launches_of_a_long_session_are_told_apart(planted: Any) -> None:
    """What a launch wrote is stamped with one of 254 stamps, which come round."""
    for _ in range(600):
        planted.run("read_own_writes_through_the_constant_cache", INPUT[:32])
    with pytest.raises(RuntimeError, match="through __ldg of what the same launch wrote"):
        planted.run("read_own_writes_through_the_constant_cache", INPUT[:32], wrong=True)


SMALL_FLOATS = [("half", np.float16), ("bfloat16", ml_dtypes.bfloat16)]


@pytest.mark.parametrize(("name", "dtype"), SMALL_FLOATS)
def test_every_16_bit_pattern_converts_to_float_as_in_numpy(
    planted: Any, name: str, dtype: Any
) -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    converted = getattr(planted, f"{name}_to_float")(bits)
    expected = bits.view(dtype).astype(np.float32)
    np.testing.assert_array_equal(np.isnan(converted), np.isnan(expected))
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(
        converted[number].view(np.uint32), expected[number].view(np.uint32)
    )
    back = getattr(planted, f"float_to_{name}")(converted)
    np.testing.assert_array_equal(back[number], bits[number])


@pytest.mark.parametrize(("name", "dtype"), SMALL_FLOATS)
def test_floats_round_to_16_bits_as_in_numpy(planted: Any, name: str, dtype: Any) -> None:
    random = np.random.default_rng(2)
    any_bits = random.integers(2**32, size=300_000, dtype=np.uint32).view(np.float32)
    # Around every small float: itself, halfway to the next, and a little to each side.
    small = np.arange(2**15 - 1, dtype=np.uint16).view(dtype).astype(np.float32)
    small = small[np.isfinite(small)]
    halfway = ((small[1:].astype(np.float64) + small[:-1]) / 2).astype(np.float32)
    ends = np.array([65519.996, 65520.0], np.float32)  # of what rounds to a finite half
    exact = np.concatenate([small, halfway, -halfway, ends])
    neighbours = [np.nextafter(exact, np.float32(side)) for side in (-np.inf, np.inf)]
    floats = np.concatenate([any_bits, exact, *neighbours])
    rounded = getattr(planted, f"float_to_{name}")(floats)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = floats.astype(dtype)
    number = ~np.isnan(floats)
    np.testing.assert_array_equal(rounded[number], expected.view(np.uint16)[number])
    assert np.isnan(rounded.view(dtype)[~number].astype(np.float32)).all()


def product_in_order(left: Any, right: Any) -> Floats:
    """In float32, product by product onto sums that start from their places."""
    sums = np.arange(256, dtype=np.float32).reshape(16, 16)
    columns, rows = left.T.astype(np.float32), right.astype(np.float32)
    for column, row in zip(columns, rows, strict=True):
        sums += column[:, None] * row
    return sums


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("name", "dtype"), [("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)]
)
def test_a_warp_multiplies_matrices_as_numpy_does(
    planted: Any, name: str, dtype: Any, transposed: bool, seed: int
) -> None:
    """Through asynchronous copies and loads of the right factor as it is or transposed."""
    planted.set_schedule(seed)
    left, right = np.random.default_rng(seed).normal(size=(2, 16, 16)).astype(dtype)
    kernel = f"multiply_{name}" + ("_transposed" if transposed else "")
    tiles = np.stack([left, right.T if transposed else right])
    numbers = tiles.view(np.float32).ravel()
    output = planted.run(kernel, numbers, shared_bytes=SHARED_BYTES).reshape(16, 16)
    np.testing.assert_array_equal(output, product_in_order(left, right))
    exact = left.astype(np.float64) @ right.astype(np.float64)
    np.testing.assert_allclose(output - np.arange(256).reshape(16, 16), exact, atol=1e-3)


def test_a_matrix_product_keeps_subnormal_numbers(planted: Any) -> None:
    left = np.zeros((16, 16), ml_dtypes.bfloat16)
    left[0, 0] = 2.0**-133  # the smallest number above zero
    right = np.eye(16, dtype=ml_dtypes.bfloat16)
    numbers = np.stack([left, right]).view(np.float32).ravel()
    output = planted.run("multiply_bfloat16", numbers, shared_bytes=SHARED_BYTES)
    assert output[0] == 2.0**-133
