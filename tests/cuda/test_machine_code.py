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

from benchmarks.gpu import code_ways, machine_code, tile_code
from benchmarks.gpu.machine_code import Kernel
from benchmarks.gpu.tile_shape import (
    FACTOR_BYTES,
    LONGEST_ROW_OF_GROUPS,
    ROWS_OF_TILES,
    ROWS_OF_WARP,
    WARP_SIZE,
    TileShape,
    kinds_of,
)
from tests.support.cases import Batch
from tests.support.emulated import launches_of_a_step

# Rows of each way to hold them in registers, of whole packets. Five more hold them in
# pieces, and two stream them.
LAYOUTS = {"float16": 7, "bfloat16": 7, "float32": 8, "float64": 8}

LIBRARY = machine_code.find_library()
BUILT = machine_code.built_architectures() if LIBRARY else []
ARCHITECTURES = [
    pytest.param(
        architecture,
        marks=pytest.mark.skipif(
            architecture not in BUILT,
            reason=f"this build is for {', '.join(BUILT)}: for both set "
            "NEGATIVE_COSINE_CUDA_ARCHITECTURES='80-real;90'",
        ),
    )
    for architecture in ("sm_80", "sm_90")
]
pytestmark = [
    pytest.mark.skipif(
        LIBRARY is None,
        reason="the package was built without nvcc, so without CUDA kernels",
    ),
    # One process reads the machine code, which takes long.
    pytest.mark.xdist_group("machine code"),
]


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
    assert len(found) == LAYOUTS[dtype] + 5 + 2


# Bytes that a lane keeps in local memory, in tiles of 128 elements of which sixteen warps
# share a multiprocessor. With as many columns as fit without, `all` was slower on an H100.
MOST_STACK = 80


def may_spill(kernel: Kernel) -> bool:
    if not kernel.is_tiled or kernel.elements_of_tile != 128:
        return False
    return kernel.kind_of_tile in ("tall", "twin")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_kernel_uses_local_memory_but_tiles_of_many_warps(architecture: str) -> None:
    local = [
        kernel
        for kernel in [*row_kernels(architecture), *tile_kernels(architecture)]
        if kernel.stack > (MOST_STACK if may_spill(kernel) else 0)
        or (kernel.stack == 0 and kernel.count(machine_code.LOCAL_ACCESS) > 0)
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
        if kernel.in_registers and machine_code.packets_in_flight(kernel) < LEAST_IN_FLIGHT
    ]
    assert not names(too_few)


def chosen_warps(kernel: Kernel) -> int:
    """Warps a multiprocessor, as csrc/cuda/rows/register.cuh chooses."""
    packets = int(kernel.rows.split()[3])
    floats = {"float16": 8, "bfloat16": 8, "float32": 4, "float64": 4}[kernel.dtype]
    bytes_of_lane = 4 * packets * floats
    has_whole_halves = kernel.dtype.endswith("float16") and not kernel.in_pieces
    if bytes_of_lane > 64 and not has_whole_halves:
        return 8
    return 12 if bytes_of_lane > 32 or kernel.dtype == "float64" else 16


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


def built_kinds_of(dtype: str, row_bytes: int) -> list[str]:
    has_tight = machine_code.has_tight_tiles()
    return [kind for kind in kinds_of(dtype, row_bytes) if kind != "tight" or has_tight]


# Both passes of each kind of tile for each padded row.
def tile_kernels_of(dtype: str) -> int:
    return 2 * sum(len(built_kinds_of(dtype, row_bytes)) for row_bytes in ROWS_OF_TILES)


MULTIPLIED_AS = [*LAYOUTS, "tf32"]


def gaps_kernels(architecture: str, dtype: str) -> list[Kernel]:
    found = [kernel for kernel in kernels(architecture) if kernel.has_gaps]
    return [kernel for kernel in found if kernel.dtype == dtype]


# Both passes of the kinds of short rows that a device takes where not all tiles run at
# once.
def gaps_kernels_of(dtype: str) -> int:
    shapes = [
        TileShape(dtype, row_bytes, kind)
        for row_bytes in ROWS_OF_TILES
        for kind in built_kinds_of(dtype, row_bytes)
        if row_bytes <= LONGEST_ROW_OF_GROUPS
    ]
    return 2 * sum(
        shape.kind == "twin"
        or (shape.kind in ("tall", "tight") and not shape.has_sixteen_warps)
        for shape in shapes
    )


# Local memory of the loop over turns, which keeps what does not change from turn to turn.
MOST_STACK_WITH_GAPS = 192


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", MULTIPLIED_AS)
def test_short_rows_have_kernels_for_gaps(dtype: str, architecture: str) -> None:
    found = gaps_kernels(architecture, dtype)
    assert len(found) == gaps_kernels_of(dtype)
    product = machine_code.TENSOR_CORES.get(dtype)
    for kernel in found:
        assert kernel.stack <= MOST_STACK_WITH_GAPS, kernel.symbol
        assert product is None or machine_code.has_loop_with(kernel, product)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", MULTIPLIED_AS)
def test_every_padded_row_has_its_tile_kernels(dtype: str, architecture: str) -> None:
    found = [kernel for kernel in tile_kernels(architecture) if kernel.dtype == dtype]
    assert len(found) == tile_kernels_of(dtype)


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


# Copies of 16 bytes of what belongs to a row, for each block of rows: the gradient's four
# facts. The pieces that rows come by are counted in tests/kernels/test_tile_traffic.py.
def copies_of_facts(kernel: Kernel) -> int:
    if kernel.pass_of_tiles == "forward":
        return 0
    return 2 if kernel.dtype == "float64" else 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_are_copied_asynchronously_by_16_bytes(architecture: str) -> None:
    pattern = machine_code.ASYNCHRONOUS_COPY
    without = [
        kernel
        for kernel in tile_kernels(architecture)
        if len(code_ways.places_of(tile_code.block_loop(kernel), pattern))
        <= copies_of_facts(kernel)
    ]
    assert not names(without)


def waits_for_loads(kernel: Kernel) -> bool:
    loop = tile_code.block_loop(kernel)
    return not loop or bool(tile_code.unexpected_loads(loop))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_pass_over_a_block_waits_for_a_load(architecture: str) -> None:
    assert not names([*filter(waits_for_loads, tile_kernels(architecture))])


def shape_of(kernel: Kernel) -> TileShape:
    size = FACTOR_BYTES[kernel.dtype]
    return TileShape(kernel.dtype, kernel.elements_of_tile * size, kernel.kind_of_tile)


def pairs_of_lane(kernel: Kernel) -> float:
    """In a pass of the loop."""
    return ROWS_OF_WARP * shape_of(kernel).columns_of_warp / WARP_SIZE


# A lane's instructions for a pair, products apart, by the pairs that it has in a pass of
# the loop: what is done once a pass weighs more where they are few. tf32 products load
# each element of the met rows.
MOST_OF_A_PAIR = {16: 60, 8: 130}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "tf32"])
def test_the_softmax_of_a_pair_takes_few_instructions(
    dtype: str, architecture: str
) -> None:
    too_many = []
    for kernel in tile_kernels(architecture):
        if kernel.dtype != dtype:
            continue
        row = tile_code.describe(kernel)
        pairs = pairs_of_lane(kernel)
        if row["way"] - row["products"] > MOST_OF_A_PAIR[int(pairs)] * pairs:
            too_many.append(kernel)
    assert not names(too_many)


# Clocks that the compiler lets pass between a warp's instructions, for 64 x 32 pairs, of
# which a block's warps take their part side by side. A warp of 16 rows took 1850 of them
# forward and 1395 in the gradient pass.
@pytest.mark.parametrize(("pass_name", "most"), [("forward", 1200), ("gradient", 1000)])
def test_the_stalls_of_a_warp_leave_room_for_the_others(pass_name: str, most: int) -> None:
    (kernel,) = [
        kernel
        for kernel in tile_kernels("sm_90")
        if (kernel.dtype, kernel.elements_of_tile) == ("bfloat16", 128)
        and (kernel.pass_of_tiles, kernel.kind_of_tile) == (pass_name, "tall")
    ]
    shape = shape_of(kernel)
    clocks = tile_code.describe(kernel)["stalls"] * 64 * 32 / (shape.rows * shape.columns)
    assert clocks <= most


# Of shared memory, in KiB: of a multiprocessor, and of that for each block by the system.
SHARED_MEMORY = {"sm_90": 228}
SHARED_MEMORY_OF_THE_SYSTEM = 1


# Of devices that take 75 rows by tiles of a kind.
MULTIPROCESSORS = {"twin": 1, "tall": 2, "middle": 3, "flat": 132}


def shared_bytes_of_passes(kernel: Kernel) -> dict[str, int]:
    """What the launches of both passes of its tiles ask for, by the emulator's count."""
    storage = "float32" if kernel.dtype == "tf32" else kernel.dtype
    batch = Batch((70, 75, kernel.elements_of_tile, 20), storage)
    launches = launches_of_a_step(
        batch,
        "ring",
        allow_tf32=kernel.dtype == "tf32",
        multiprocessors=MULTIPROCESSORS[kernel.kind_of_tile],
    )
    return {
        "forward": launches[0]["shared_bytes"],
        "gradient": launches[-1]["shared_bytes"],
    }


@pytest.mark.parametrize(
    ("kind", "row_bytes", "blocks"),
    [("flat", 256, 1), ("middle", 256, 1), ("tall", 256, 1), ("twin", 256, 2)],
)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "tf32"])
def test_the_blocks_of_short_rows_fit_a_multiprocessor(
    dtype: str, kind: str, row_bytes: int, blocks: int
) -> None:
    found = [
        kernel
        for kernel in tile_kernels("sm_90")
        if shape_of(kernel) == TileShape(dtype, row_bytes, kind)
    ]
    assert {kernel.pass_of_tiles for kernel in found} == {"forward", "gradient"}
    for kernel in found:
        threads = shape_of(kernel).warps * WARP_SIZE
        registers = -(-kernel.registers // 8) * 8 * threads
        static = 1024 * SHARED_MEMORY_OF_THE_SYSTEM + kernel.shared_bytes
        shared = shared_bytes_of_passes(kernel)[kernel.pass_of_tiles] + static
        assert blocks * registers <= machine_code.REGISTERS_OF_A_MULTIPROCESSOR
        assert blocks * shared <= 1024 * SHARED_MEMORY["sm_90"]


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
    assert len(code_ways.shortest_way(code, [])) == 4
    assert len(code_ways.shortest_way(code, [3])) == 6


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
extern "C" __global__ void waits_beside_a_copy(float* sums, const char* rows,
                                               const float* facts, int blocks) {
  __shared__ __align__(16) char copied[2048];
  const char* own = copied + 16 * threadIdx.x;
  float sum = 0;
  for (int block = 0; block < blocks; ++block) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                     static_cast<uint32_t>(__cvta_generic_to_shared(own))),
                 "l"(rows + block * 2048 + 16 * threadIdx.x)
                 : "memory");
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();
    sum += copied[2047 - threadIdx.x] * __ldg(facts + block);
    __syncthreads();
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
    copy = machine_code.ASYNCHRONOUS_COPY
    for pattern in (*machine_code.TENSOR_CORES["tf32"], copy):
        assert not machine_code.has_loop_with(faulty["waits"], [pattern])


def test_a_loop_that_waits_for_its_loads_is_seen(faulty: dict[str, Kernel]) -> None:
    loop = machine_code.gather_loop(faulty["waits"])
    assert len(tile_code.unexpected_loads(loop)) >= 8
    beside_a_copy = tile_code.block_loop(faulty["waits_beside_a_copy"])
    assert beside_a_copy
    assert tile_code.unexpected_loads(beside_a_copy)


def test_a_kernel_without_a_loop_over_blocks_counts_as_waiting(
    faulty: dict[str, Kernel],
) -> None:
    assert waits_for_loads(faulty["atomic_sum"])


def test_local_memory_is_seen(faulty: dict[str, Kernel]) -> None:
    assert faulty["spills"].stack > 0
    assert faulty["spills"].count(machine_code.LOCAL_ACCESS) > 0


def test_loads_that_wait_for_each_other_are_seen(faulty: dict[str, Kernel]) -> None:
    loop = machine_code.gather_loop(faulty["waits"])
    assert machine_code.count_packet_loads(loop) >= 8
    assert machine_code.loads_in_flight(loop) == 1
