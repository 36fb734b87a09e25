"""The CUDA kernels as machine code: what the compiler was meant to make of them.

A kernel that spills, waits for each load in turn or adds with atomics gives the right
numbers all the same; only its code shows it.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import machine_code, tile_code
from benchmarks.machine_code import Kernel

ARCHITECTURES = ("sm_80", "sm_90")
# Rows of each way to hold them in registers, and two that stream them.
LAYOUTS = {"float16": 7, "bfloat16": 7, "float32": 8, "float64": 8}

LIBRARY = machine_code.find_library()
pytestmark = pytest.mark.skipif(
    LIBRARY is None, reason="the package was built without nvcc, so without CUDA kernels"
)


@functools.cache
def kernels(architecture: str) -> list[Kernel]:
    assert LIBRARY is not None
    return machine_code.read_kernels(LIBRARY, architecture)


def row_kernels(architecture: str) -> list[Kernel]:
    return [kernel for kernel in kernels(architecture) if kernel.pass_name]


def tile_kernels(architecture: str) -> list[Kernel]:
    return [kernel for kernel in kernels(architecture) if kernel.is_tiled]


def names(found: list[Kernel]) -> list[str]:
    return [f"{kernel.pass_name} {kernel.dtype} {kernel.rows}" for kernel in found]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("pass_name", ["forward", "gradient"])
@pytest.mark.parametrize("dtype", LAYOUTS)
def test_every_way_to_hold_a_row_is_there(
    dtype: str, pass_name: str, architecture: str
) -> None:
    found = {
        kernel.rows
        for kernel in row_kernels(architecture)
        if (kernel.pass_name, kernel.dtype) == (pass_name, dtype)
    }
    assert len(found) == LAYOUTS[dtype] + 2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_kernel_spills_or_uses_local_memory(architecture: str) -> None:
    local = [
        kernel
        for kernel in [*row_kernels(architecture), *tile_kernels(architecture)]
        if kernel.stack > 0 or kernel.count(machine_code.LOCAL_ACCESS) > 0
    ]
    assert not names(local)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_kernel_has_an_atomic(architecture: str) -> None:
    atomic = [
        kernel for kernel in kernels(architecture) if kernel.count(machine_code.ATOMIC) > 0
    ]
    assert not names(atomic)


# The compiler may begin with the first packet before it asks for the last.
LEAST_IN_FLIGHT = machine_code.PACKETS_OF_A_TILE - 2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_tile_of_rows_is_loaded_by_packets_that_are_in_flight_together(
    architecture: str,
) -> None:
    too_few = [
        kernel
        for kernel in row_kernels(architecture)
        if kernel.in_registers
        and machine_code.packets_in_flight(machine_code.gather_loop(kernel))
        < LEAST_IN_FLIGHT
    ]
    assert not names(too_few)


def chosen_warps(kernel: Kernel) -> int:
    """Warps a multiprocessor, as csrc/cuda/rows.cuh chooses them."""
    packets = int(kernel.rows.split()[3])
    floats = {"float16": 8, "bfloat16": 8, "float32": 4, "float64": 4}[kernel.dtype]
    bytes_of_lane = 4 * packets * floats
    if bytes_of_lane > 64:
        return 8
    return 12 if bytes_of_lane > 32 or kernel.dtype != "float32" else 16


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_registers_leave_room_for_the_chosen_warps(architecture: str) -> None:
    too_large = [
        kernel
        for kernel in row_kernels(architecture)
        if kernel.in_registers and kernel.warps_of_a_multiprocessor < chosen_warps(kernel)
    ]
    assert not names(too_large)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_no_kernel_of_float32_arithmetic_has_float64_in_its_gather_loop(
    dtype: str, architecture: str
) -> None:
    double = [
        kernel
        for kernel in row_kernels(architecture)
        if kernel.dtype == dtype
        and any(
            text.split()[0].startswith(("DADD", "DMUL", "DFMA", "F2F.F32.F64"))
            for _, text in machine_code.gather_loop(kernel)
        )
    ]
    assert not names(double)


# Both passes; rows padded to 128, 256, 512, 1024 and 2048 bytes (tile_kernels.cuh), two of
# them for devices with less shared memory as well.
TILES = {"float64": 10}
TILES_OF_OTHERS = 14

MULTIPLIED_AS = [*LAYOUTS, "tf32"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", MULTIPLIED_AS)
def test_every_padded_row_has_its_tile_kernels(dtype: str, architecture: str) -> None:
    found = [kernel for kernel in tile_kernels(architecture) if kernel.dtype == dtype]
    assert len(found) == TILES.get(dtype, TILES_OF_OTHERS)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", machine_code.TENSOR_CORES)
def test_the_loop_over_tiles_uses_the_tensor_cores(dtype: str, architecture: str) -> None:
    without = [
        kernel
        for kernel in tile_kernels(architecture)
        if kernel.dtype == dtype
        and not machine_code.has_loop_with(kernel, machine_code.TENSOR_CORES[dtype])
    ]
    assert not names(without)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_exact_products_do_not_come_from_the_tensor_cores(architecture: str) -> None:
    rounded = [
        kernel
        for kernel in tile_kernels(architecture)
        if kernel.dtype in ("float32", "float64") and kernel.count("HMMA") > 0
    ]
    assert not names(rounded)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("size", machine_code.ASYNCHRONOUS_COPIES)
def test_tiles_are_copied_asynchronously_by_the_largest_pieces_that_fit(
    size: int, architecture: str
) -> None:
    without = [
        kernel
        for kernel in tile_kernels(architecture)
        if not machine_code.has_loop_with(kernel, [machine_code.ASYNCHRONOUS_COPIES[size]])
    ]
    assert not names(without)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_pass_over_a_block_waits_for_a_load(architecture: str) -> None:
    waiting = {
        kernel.symbol: loads
        for kernel in tile_kernels(architecture)
        if (loads := tile_code.unexpected_loads(tile_code.block_loop(kernel)))
    }
    assert not waiting


# A lane's instructions for a pair, products apart. A float16 weight is counted in units;
# the tf32 products load and round each element of the met rows.
MOST_OF_A_PAIR = {"float16": 80, "bfloat16": 70, "tf32": 130}


def instructions_of_a_pair(kernel: Kernel) -> float:
    row = tile_code.describe(kernel)
    row_bytes = row["elements"] * (4 if row["dtype"] == "tf32" else 2)
    columns = 16 if row["tight"] or row_bytes > 1024 else 32  # csrc/cuda/tile_shape.cuh
    pairs = 16 * columns / 32
    return float((row["way"] - row["products"]) / pairs)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", MOST_OF_A_PAIR)
def test_the_softmax_of_a_pair_takes_few_instructions(
    dtype: str, architecture: str
) -> None:
    found = [kernel for kernel in tile_kernels(architecture) if kernel.dtype == dtype]
    assert max(map(instructions_of_a_pair, found)) <= MOST_OF_A_PAIR[dtype]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "tf32"])
def test_three_blocks_of_short_rows_fit_a_multiprocessor(
    dtype: str, architecture: str
) -> None:
    size = 2 if dtype.endswith("float16") else 4
    too_large = [
        kernel
        for kernel in tile_kernels(architecture)
        if kernel.dtype == dtype
        and kernel.elements_of_tile * size <= 256
        and 3 * 128 * kernel.registers > machine_code.REGISTERS_OF_A_MULTIPROCESSOR
    ]
    assert not names(too_large)


# --- The checks see what they are for. -------------------------------------------------


def test_the_shortest_way_jumps_over_what_is_rare_and_passes_every_stop() -> None:
    code = [
        (0x00, "ISETP P0"),
        (0x10, "@P0 BRA 0x50"),
        (0x20, "FADD rare"),
        (0x30, "HMMA"),
        (0x40, "BRA 0x60"),
        (0x50, "FADD usual"),
        (0x60, "@P1 BRA 0x0"),
    ]
    assert tile_code.shortest_way(code, []) == 4
    assert tile_code.shortest_way(code, [3]) == 6


FAULTY = """
#include <cstdint>
extern "C" __global__ void atomic_sum(float* sum, const float* values) {
  atomicAdd(sum, values[threadIdx.x]);
}
extern "C" __global__ void spills(float* values, const int* order) {
  float local[64];
  for (int i = 0; i < 64; ++i) local[i] = values[i * 32 + threadIdx.x];
  for (int i = 0; i < 64; ++i) values[threadIdx.x] += local[order[i] & 63];
}
extern "C" __global__ void waits(float* sums, const uint4* packets, const int* next) {
  uint32_t sum = 0;
  int at = threadIdx.x;
  for (int tile = 0; tile < next[1]; ++tile) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const uint4 packet = __ldg(packets + at);
      at = packet.x;  // the next address needs this packet
      sum += packet.y + packet.z + packet.w;
    }
  }
  sums[threadIdx.x] = sum;
}
"""


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kernel]:
    """Kernels with one fault each."""
    folder = tmp_path_factory.mktemp("faulty")
    source, library = folder / "faulty.cu", folder / "faulty.cubin"
    source.write_text(FAULTY)
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    if not Path(nvcc).is_file():
        pytest.skip("nvcc is not on PATH")
    subprocess.run([nvcc, "-cubin", "-arch=sm_90", "-o", library, source], check=True)
    return {k.symbol: k for k in machine_code.read_kernels(library, "sm_90")}


def test_an_atomic_sum_is_seen(faulty: dict[str, Kernel]) -> None:
    assert faulty["atomic_sum"].count(machine_code.ATOMIC) > 0


def test_code_without_tensor_cores_or_asynchronous_copies_is_seen(
    faulty: dict[str, Kernel],
) -> None:
    copies = machine_code.ASYNCHRONOUS_COPIES.values()
    for pattern in (*machine_code.TENSOR_CORES["tf32"], *copies):
        assert not machine_code.has_loop_with(faulty["waits"], [pattern])


def test_a_loop_that_waits_for_its_loads_is_seen(faulty: dict[str, Kernel]) -> None:
    loop = machine_code.gather_loop(faulty["waits"])
    assert len(tile_code.unexpected_loads(loop)) >= 8


def test_local_memory_is_seen(faulty: dict[str, Kernel]) -> None:
    assert faulty["spills"].stack > 0
    assert faulty["spills"].count(machine_code.LOCAL_ACCESS) > 0


def test_loads_that_wait_for_each_other_are_seen(faulty: dict[str, Kernel]) -> None:
    loop = machine_code.gather_loop(faulty["waits"])
    assert machine_code.count_packet_loads(loop) >= 8
    assert machine_code.packets_in_flight(loop) == 1
