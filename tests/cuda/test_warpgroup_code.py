"""The kernels of warpgroups as machine code: what the compiler was meant to make of them.

Products that the compiler has to wait for one by one ("serialized", its remarks C7510 and
the like) give the right numbers all the same; only their code shows it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

import pytest

from benchmarks.gpu import machine_code
from benchmarks.gpu.machine_code import Kernel
from benchmarks.gpu.warpgroup_code import (
    LOCAL_ACCESS,
    PRODUCT,
    WAIT_FOR_PRODUCTS,
    count,
    key_of,
    loop_over_panels,
)

LIBRARY = machine_code.find_library()
BUILT = machine_code.built_architectures() if LIBRARY else []
pytestmark = [
    pytest.mark.skipif(
        "sm_90" not in BUILT,
        reason="this build has no machine code for compute capability 9.0",
    ),
    # One process reads the machine code, which takes long.
    pytest.mark.xdist_group("machine code"),
]

PASSES = ("forward", "gradient")
DTYPES = ("float16", "bfloat16")
DIMS = (64, 128, 256)  # what rows are padded to
ROWS = (64, 128)  # of a tile
DEPTH = 16  # of a row or a column, by one instruction
REGISTERS_OF_COPIES, REGISTERS_OF_PRODUCTS = 88, 208


@functools.cache
def kernels() -> dict[tuple[str, str, int, int], Kernel]:
    """By pass, dtype, padded row and rows of a tile."""
    assert LIBRARY is not None
    found = {}
    for kernel in machine_code.read_kernels(LIBRARY, "sm_90a"):
        if key := key_of(kernel):
            found[key] = kernel
    return found


def of_each_kernel() -> Iterator[tuple[str, str, int, int]]:
    for name in PASSES:
        for dtype in DTYPES:
            for dim in DIMS:
                for rows in ROWS:
                    yield name, dtype, dim, rows


EACH_KERNEL = pytest.mark.parametrize(
    "which", list(of_each_kernel()), ids=lambda which: "-".join(map(str, which))
)


def test_every_padded_row_has_its_kernels() -> None:
    assert sorted(kernels()) == sorted(of_each_kernel())


@EACH_KERNEL
def test_a_panel_takes_one_product_for_each_sixteen_elements_and_columns(
    which: tuple[str, str, int, int],
) -> None:
    _, dtype, dim, _ = which
    columns = 128 if dim <= 128 else 64
    of_logits = dim // DEPTH
    of_sums = columns // DEPTH * -(-dim // 128)
    kernel = kernels()[which]
    assert kernel.count(PRODUCT) == of_logits + of_sums
    assert count(loop_over_panels(kernel), PRODUCT) == of_logits + of_sums
    assert kernel.count(
        "HGMMA.*" + ("BF16" if dtype == "bfloat16" else r"F32(?!\.BF16)")
    ) == (kernel.count(PRODUCT))


@EACH_KERNEL
def test_a_panel_waits_for_products_once(which: tuple[str, str, int, int]) -> None:
    assert count(loop_over_panels(kernels()[which]), WAIT_FOR_PRODUCTS) == 1


@EACH_KERNEL
def test_registers_go_from_those_that_copy_to_those_that_multiply(
    which: tuple[str, str, int, int],
) -> None:
    texts = " ".join(text for _, text in kernels()[which].instructions)
    found = re.findall(r"USETMAXREG\.(DEALLOC|TRY_ALLOC)\S* (?:UP\d, )?(0x\w+)", texts)
    assert {(way, int(registers, 16)) for way, registers in found} == {
        ("DEALLOC", REGISTERS_OF_COPIES),
        ("TRY_ALLOC", REGISTERS_OF_PRODUCTS),
    }


@EACH_KERNEL
def test_rows_are_copied_by_16_bytes_without_registers(
    which: tuple[str, str, int, int],
) -> None:
    kernel = kernels()[which]
    assert kernel.count(r"LDGSTS\.E\.BYPASS\.128") > 0
    assert kernel.count(r"\bHMMA\b") == 0


# Of longer rows an address that the end of a tile needs is spilled, or one of a stage. A
# panel takes a thousand instructions and more.
MOST_LOCAL_ACCESSES = {64: 0, 128: 12, 256: 36}


@EACH_KERNEL
def test_the_loop_over_panels_hardly_uses_local_memory(
    which: tuple[str, str, int, int],
) -> None:
    found = count(loop_over_panels(kernels()[which]), LOCAL_ACCESS)
    assert found <= MOST_LOCAL_ACCESSES[which[2]]
