"""What the CUDA compiler made of the kernels: registers, loads in flight, loops.

Reads the built library with cuobjdump, so it needs no GPU. A kernel's gather loop is the
loop that meets a tile of rows: the shortest one that loads as many packets of 16 bytes as
a tile has.

    python -m benchmarks.gpu.machine_code --output benchmarks/results/machine_code.csv
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.gpu.tile_shape import KINDS
from benchmarks.tables import print_table

ROOT = Path(__file__).parents[2]
PACKETS_OF_A_TILE = 8  # a lane's, see csrc/cuda/rows/register.cuh
THREADS_OF_A_BLOCK = 128
REGISTERS_OF_A_MULTIPROCESSOR = 65536

LOCAL_ACCESS = r"^(@!?U?P\d+ )?(LDL|STL)\b"
# Of each type that the tensor cores multiply: products of matrices, and loads of these.
_HALVES = (r"HMMA\.16816\.F32", r"LDSM\.16\.M88\.4", r"LDSM\.16\.MT88\.4")
TENSOR_CORES = {
    "float16": _HALVES,
    "bfloat16": _HALVES,
    "tf32": (r"HMMA\.1688\.F32\.TF32", r"LDSM\.16\.M88\.4"),
}
# Of 16 bytes.
ASYNCHRONOUS_COPY = r"LDGSTS\.E\.BYPASS\S*\.128"
ATOMIC = r"^(@!?U?P\d+ )?(ATOM[GS]?|RED[GS]?)\b"

Instructions = Sequence[tuple[int, str]]  # address, text
# An instruction in a listing: address, text, and the second word of its encoding.
LISTED = re.compile(
    r"/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;\s*/\* 0x[0-9a-f]{16} \*/\s*/\* 0x([0-9a-f]{16}) \*/"
)


@dataclass(frozen=True)
class Kernel:
    """One compiled kernel."""

    symbol: str
    architecture: str
    registers: int
    stack: int
    shared_bytes: int  # that it declares, without what a launch asks for
    instructions: Instructions
    stalls: Mapping[int, int] = field(default_factory=dict)  # by address, in clocks

    @property
    def pass_name(self) -> str:
        """``forward`` or ``gradient``; "" for a kernel that works on no rows."""
        found = re.search(r"(forward|gradient)_rows_kernel", self.symbol)
        return found[1] if found else ""

    @property
    def is_tiled(self) -> bool:
        """Whether it works on tiles of rows, see csrc/cuda/tiles/products.cuh."""
        return "_tiles_kernel" in self.symbol

    @property
    def has_gaps(self) -> bool:
        """Whether it is for tiles of the queries at some places alone."""
        return "_gaps_kernel" in self.symbol

    @property
    def pass_of_tiles(self) -> str:
        """``forward`` or ``gradient`` of a tile kernel."""
        return "forward" if "forward_tiles_kernel" in self.symbol else "gradient"

    @property
    def elements_of_tile(self) -> int:
        """The length that a tile kernel pads rows to."""
        return int(self._shape_of_tile[1])

    @property
    def kind_of_tile(self) -> str:
        """One of ``KINDS``, see csrc/cuda/tiles/shape.cuh."""
        return KINDS[int(self._shape_of_tile[2])]

    @property
    def _shape_of_tile(self) -> re.Match[str]:
        found = re.search(r"TileShapeI\w+?Li(\d+)ELNS0_8TileKindE(\d)E", self.symbol)
        if found is None:
            raise ValueError(f"not a tile kernel: {self.symbol}")
        return found

    @property
    def dtype(self) -> str:
        """The embeddings' element type; ``tf32`` where float32 ones are rounded."""
        kinds = "VectorPacket|PiecePacket|ScalarPacket|TileShape"
        types = r"f|d|NS\d*_\d+(?:B?Float16|Tf32)E"
        found = re.search(rf"(?:{kinds})I({types})(?:E|Li)", self.symbol)
        names = {"f": "float32", "d": "float64"}
        word = re.sub(r"NS\d*_\d+|E$", "", found[1]) if found else ""
        return names.get(word, word.lower())

    @property
    def rows(self) -> str:
        """How it holds a row, see csrc/cuda/rows/rows.cuh."""
        layout = re.search(r"ELi(\d+)ELi(\d+)ELi(\d+)EE", self.symbol)
        if "RegisterRows" in self.symbol and layout:
            held = "{} lanes x {} packets x {} warps".format(*layout.groups())
            return f"{held} in pieces" if self.in_pieces else held
        return "streamed packets" if "VectorPacket" in self.symbol else "streamed elements"

    @property
    def in_registers(self) -> bool:
        """Whether it holds rows in registers."""
        return "RegisterRows" in self.symbol

    @property
    def in_pieces(self) -> bool:
        """Whether their packets are made of pieces, see csrc/cuda/rows/columns.cuh."""
        return "PiecePacket" in self.symbol

    @property
    def warps_of_a_multiprocessor(self) -> int:
        """Resident warps that the registers leave room for."""
        of_a_block = -(-self.registers // 8) * 8 * THREADS_OF_A_BLOCK
        blocks = min(REGISTERS_OF_A_MULTIPROCESSOR // of_a_block, 16)
        return blocks * THREADS_OF_A_BLOCK // 32

    def count(self, pattern: str) -> int:
        """Instructions whose operation matches."""
        return sum(bool(re.search(pattern, text)) for _, text in self.instructions)


def find_library() -> Path | None:
    """The package's library of CUDA kernels, if it was built with them."""
    package = ROOT / "python" / "negative_cosine"
    with_kernels = any(package.glob("_cuda_core*.so"))  # the binding that only CUDA brings
    return package / "libnegative_cosine_core.so" if with_kernels else None


def built_architectures() -> list[str]:
    """Those that the library has machine code for, such as ``sm_90``."""
    return [f"sm_{name.removesuffix('-real')}" for name in _named_architectures()]


def has_tight_tiles() -> bool:
    """Whether the library has tiles for devices with little shared memory.

    A build that no such device runs leaves them out, see cmake/cuda_architectures.cmake.
    """
    only = {"87-real", "90-real", "90a-real", "100-real", "103-real"}
    return not set(_named_architectures()) <= only


def _named_architectures() -> list[str]:
    info = ROOT / "python" / "negative_cosine" / "_build_info.json"
    names: list[str] = json.loads(info.read_text())["cuda_architectures"]
    return names


def cuobjdump(*arguments: str) -> str:
    """The output of NVIDIA's disassembler, from its Python package."""
    folders = Path(sysconfig.get_paths()["purelib"], "nvidia").glob("*/bin")
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", "")])
    return subprocess.run(
        ["cuobjdump", *arguments],
        env={**os.environ, "PATH": path},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def read_kernels(library: Path, architecture: str) -> list[Kernel]:
    """The library's kernels for an architecture, such as ``sm_90``."""
    usage = cuobjdump("-res-usage", "-arch", architecture, str(library))
    resources = {
        symbol: (int(registers), int(stack), int(shared))
        for symbol, registers, stack, shared in re.findall(
            r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+)", usage
        )
    }
    code = cuobjdump("-sass", "-arch", architecture, str(library))
    return [
        Kernel(symbol, architecture, *resources[symbol], instructions, stalls)
        for symbol, instructions, stalls in read_functions(code)
    ]


def read_functions(code: str) -> Iterator[tuple[str, Instructions, dict[int, int]]]:
    """Symbols, instructions and stall counts of a disassembly."""
    for function in re.split(r"\n\s*Function : ", code)[1:]:
        symbol, _, body = function.partition("\n")
        listed = [
            (int(address, 16), text, stall_count(int(word, 16)))
            for address, text, word in LISTED.findall(body)
        ]
        instructions = [(address, text) for address, text, _ in listed]
        yield symbol.strip(), instructions, {address: stall for address, _, stall in listed}


def stall_count(word: int) -> int:
    """Clocks before a warp's next instruction, of an encoding's second word.

    From Volta on an instruction is two words of 64 bits, and the second one's bits 41 to 44
    are this count (Jia et al., 2018, arXiv 1804.06826, section 2.1).
    """
    return word >> 41 & 15


def count_packet_loads(code: Instructions, width: int = 128) -> int:
    """Instructions that load so many bits of global memory."""
    return sum(f"LDG.E.{width}" in text for _, text in code)


def main_part(instructions: Instructions) -> Instructions:
    """The code without the handlers of diverged warps, which stand behind it.

    Their jumps back into the code are no loops.
    """
    handlers = [target_of(text) for _, text in instructions if "BRA.DIV" in text]
    end = min(handlers, default=instructions[-1][0] + 1)
    return [item for item in instructions if item[0] < end]


def loops(kernel: Kernel) -> Iterator[Instructions]:
    """Every stretch of code that a jump repeats."""
    code = main_part(kernel.instructions)
    for address, text in code:
        target = target_of(text)
        if 0 <= target < address:
            yield [item for item in code if target <= item[0] <= address]


def gather_loop(kernel: Kernel) -> Instructions:
    """The loop over tiles, [] if there is none.

    Of rows in pieces it has a branch for each size; the widest pieces, of 8 bytes, are two
    a packet. It hands out indices by shuffles, other loops with as many such loads do not.
    """
    pieces = 2 if kernel.in_pieces else 1
    found = [
        loop
        for loop in loops(kernel)
        if count_packet_loads(loop, 128 // pieces) >= pieces * PACKETS_OF_A_TILE
        and (pieces == 1 or any("SHFL" in text for _, text in loop))
    ]
    return min(found, key=len, default=[])


def has_loop_with(kernel: Kernel, patterns: Sequence[str]) -> bool:
    """Whether a loop holds an instruction of each of these kinds."""
    return any(
        all(any(re.search(pattern, text) for _, text in loop) for pattern in patterns)
        for loop in loops(kernel)
    )


def target_of(text: str) -> int:
    """Where an instruction jumps to, -1 if it is no jump."""
    jump = re.search(r"\bBRA\b.*?0x([0-9a-f]+)", text)
    return int(jump[1], 16) if jump else -1


def packets_in_flight(kernel: Kernel) -> int:
    """The packets of the gather loop that are asked for before one of them is used."""
    loop = gather_loop(kernel)
    return loads_in_flight(loop, 64) // 2 if kernel.in_pieces else loads_in_flight(loop)


def loads_in_flight(loop: Instructions, width: int = 128) -> int:
    """The most loads of so many bits that are issued before one's result is used."""
    most = 0
    pending: list[set[str]] = []
    for _, text in loop:
        load = re.search(rf"LDG\.E\.{width}\S*\s+R(\d+)", text)
        operands = set(re.findall(r"\bR\d+\b", text))
        if load:
            first = int(load[1])
            pending.append({f"R{first + word}" for word in range(width // 32)})
            most = max(most, len(pending))
        elif any(operands & results for results in pending):
            pending = []
    return most


def describe(kernel: Kernel) -> dict[str, Any]:
    """A row of the table."""
    loop = gather_loop(kernel)
    return {
        "pass": kernel.pass_name,
        "rows": kernel.rows,
        "dtype": kernel.dtype,
        "architecture": kernel.architecture,
        "registers": kernel.registers,
        "warps": kernel.warps_of_a_multiprocessor,
        "stack_bytes": kernel.stack,
        "local_accesses": kernel.count(LOCAL_ACCESS),
        "atomics": kernel.count(ATOMIC),
        "packets_in_flight": packets_in_flight(kernel),
        "loop_instructions": len(loop),
    }


def table_of_kernels(
    library: Path,
    architectures: Sequence[str],
    is_wanted: Callable[[Kernel], bool],
    describe: Callable[[Kernel], dict[str, Any]],
    order: Sequence[str],
) -> pd.DataFrame:
    """A row for each kernel that is wanted, in the order of these columns."""
    rows = [
        describe(kernel)
        for architecture in architectures
        for kernel in read_kernels(library, architecture)
        if is_wanted(kernel)
    ]
    return pd.DataFrame(rows).sort_values(list(order), ignore_index=True)


ORDER_OF_ROWS = ("architecture", "pass", "dtype", "rows")


def table(library: Path, architectures: Sequence[str]) -> pd.DataFrame:
    """Every kernel that works on rows."""
    return table_of_kernels(
        library,
        architectures,
        lambda kernel: bool(kernel.pass_name),
        describe,
        ORDER_OF_ROWS,
    )


COLUMNS = ("kernel", "registers", "warps", "packets in flight", "stack, bytes")


def cells(row: Mapping[Any, Any]) -> list[str]:
    """A row of the table in words."""
    return [
        f"{row['pass']}, {row['dtype']}, {row['rows']}",
        str(row["registers"]),
        str(row["warps"]),
        str(row["packets_in_flight"]),
        str(row["stack_bytes"]),
    ]


def is_documented(row: Mapping[Any, Any]) -> bool:
    """Whether docs/cuda_kernels.md shows a row: the newest architecture, two dtypes.

    Of rows of whole packets that one warp holds, which are those of most embeddings.
    """
    is_newest = row["architecture"] == "sm_90" and row["dtype"] in ("float32", "bfloat16")
    return is_newest and str(row["rows"]).endswith(" x 1 warps")


def run_command(
    description: str,
    table: Callable[[Path, Sequence[str]], pd.DataFrame],
    columns: Sequence[str],
    cells: Callable[[Mapping[Any, Any]], list[str]],
) -> None:
    """Prints what a table says of the library's kernels and, with --output, writes it."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--architectures", nargs="+", help="default: all in the library")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    library = find_library()
    if library is None:
        parser.error("the package was built without CUDA kernels: install it where nvcc is")
    results = table(library, arguments.architectures or built_architectures())
    for architecture, group in results.groupby("architecture"):
        print_table(str(architecture), columns, map(cells, group.to_dict("records")))
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        results.to_csv(arguments.output, index=False)


if __name__ == "__main__":
    run_command(__doc__ or "", table, COLUMNS, cells)
