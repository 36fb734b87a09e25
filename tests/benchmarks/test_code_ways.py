"""Ways through compiled code: their instructions, and the clocks that these take."""

from __future__ import annotations

import pytest

from benchmarks.gpu import code_ways, machine_code, tile_code
from benchmarks.gpu.machine_code import Kernel


def listing(*lines: tuple[str, int]) -> str:
    """A disassembly of instructions with these stall counts, as cuobjdump prints it."""
    text = "\n\t\tFunction : forward_tiles_kernel\n"
    for place, (instruction, stall) in enumerate(lines):
        # Other bits of the control word are set too: none of them counts.
        word = stall << 41 | 0x1F << 45 | 0x1FFFF
        text += f"        /*{16 * place:04x}*/  {instruction} ;  /* 0x{7:016x} */\n"
        text += f"              /* 0x{word:016x} */\n"
    return text


def kernel_of(*lines: tuple[str, int]) -> Kernel:
    ((symbol, instructions, stalls),) = machine_code.read_functions(listing(*lines))
    return Kernel(symbol, "sm_90", 255, 0, 0, instructions, stalls)


@pytest.mark.parametrize("stall", [0, 1, 6, 15])
def test_the_stall_count_is_four_bits_of_the_second_word(stall: int) -> None:
    assert machine_code.stall_count(stall << 41) == stall
    others = 0xFFFFFFFFFFFFFFFF & ~(15 << 41)
    assert machine_code.stall_count(others | stall << 41) == stall


# A loop from 0x10 to 0xa0: norms that it may jump over, a copy, a product.
LOOP = (
    ("MOV R0, RZ", 9),
    ("ISETP.NE.AND P0, PT, R1, RZ, PT", 13),
    ("@P0 BRA 0x50", 5),
    ("MUFU.RSQ R2, R3", 0),
    ("FADD R2, R2, R2", 4),
    ("@P1 BRA 0x80", 5),
    ("FADD R9, R9, R9", 15),
    ("LDGSTS.E.BYPASS.128 [R4], desc[UR4][R6.64]", 2),
    ("BAR.SYNC.DEFER_BLOCKING 0x0", 5),
    ("HMMA.16816.F32.BF16 R8, R12, R16, R8", 6),
    ("@P2 BRA 0x10", 5),
    ("EXIT", 5),
)


def test_the_clocks_of_a_way_are_the_stall_counts_on_it() -> None:
    # The copy is on the way, so that nothing jumps from 0x50 to 0x80.
    without, with_norms = tile_code.ways_of_loop(kernel_of(*LOOP))
    assert without == (8, 13 + 5 + 5 + 15 + 2 + 5 + 6 + 5)
    # No instruction takes less than a clock, as the norm's own count would have it.
    assert with_norms == (10, without.stalls + 1 + 4)


def test_the_instructions_outside_of_the_loop_are_counted_too() -> None:
    kernel = kernel_of(*LOOP)
    assert len(tile_code.block_loop(kernel)) == 10
    assert len(machine_code.main_part(kernel.instructions)) - 10 == 2


def test_a_call_that_does_not_return_is_a_way_out_of_a_loop() -> None:
    code = [
        (0x00, "LDGSTS"),
        (0x10, "@P0 CALL.REL.NOINC 0x30"),
        (0x20, "BRA 0x0"),
        (0x30, "HMMA"),
    ]
    assert code_ways.shortest_way(code, [3]) == [0, 1, 3]


def test_an_index_is_hashed_by_the_rest_of_the_unrolled_rounds() -> None:
    first = ("IMAD R1, R1, -0x7a143595, RZ", 1)
    kernel = kernel_of(
        ("BAR.SYNC.DEFER_BLOCKING 0x0", 1),
        ("LDGSTS.E.BYPASS.128 [R4], desc[UR4][R6.64]", 1),
        first,
        ("@P0 BRA 0x60", 1),
        first,  # four times two rounds, which few documents need
        ("@P1 BRA 0x40", 1),
        ("LOP3.LUT R1, R1, R2, RZ, 0x3c, !PT", 1),
        first,
        ("HMMA.16816.F32.BF16 R8, R12, R16, R8", 6),
        ("@P2 BRA 0x0", 5),
    )
    assert tile_code.hash_instructions(kernel) == 4


def test_without_a_loop_there_is_no_way() -> None:
    kernel = kernel_of(("EXIT", 5))
    assert code_ways.measure(kernel, tile_code.block_loop(kernel), []) == (0, 0)


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("LDSM.16.M88.4 R12, [R28+0xc500]", 4),
        ("LDSM.16.MT88.4 R12, [R28]", 4),
        ("LDS.128 R4, [UR8+0x18800]", 4),
        ("LDGSTS.E.BYPASS.128 [R37+0x2c00], [R38.64], P1", 4),
        ("LDS.64 R74, [R77.X8+0xa80]", 2),
        ("@P2 LDGSTS.E [R49+0xd500], [R32.64], P1", 1),
        ("STS [R5+0x17f00], R60", 1),
        ("@!PT LDS RZ, [RZ]", 0),
        ("LDG.E.128 R4, [R2.64]", 0),
    ],
)
def test_an_access_to_shared_memory_takes_a_turn_for_each_128_bytes(
    text: str, turns: int
) -> None:
    assert tile_code.wavefronts(text) == turns
