"""What a device makes of its own instructions: recorded once, then held to the emulator.

``tests/cuda/vectors`` runs the instructions that the CUDA kernels use, on a device
(``_vectors``) or in the emulator (``_emulated_vectors``). ``record_on_device`` writes
``benchmarks/results/vectors.npz``, and ``differences`` says where a module gives something
else.

Left out is what no kernel meets and no document specifies: products of matrices that
leave float32's range and cancel, and the bits of NaN.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from tests.kernels.vector_distances import Bits, Distance, Numbers, Sums, Ulps, bits_of
from tests.kernels.vector_matrices import FACTORS
from tests.kernels.vector_operands import make_operands
from tests.support.checkout import ROOT

Array = NDArray[Any]
Recorded = dict[str, Array]

RECORDED = ROOT / "benchmarks" / "results" / "vectors.npz"


@dataclass(frozen=True)
class Instruction:
    """One of tests/cuda/vectors/vectors.cu."""

    operands: tuple[str, ...]  # names of make_operands()
    result: Any  # the type of its numbers
    distance: Distance


# --- What is allowed ---------------------------------------------------------------------

MOVED = Bits("they are moved as they are")
EXCHANGED = Bits("CUDA C++ Programming Guide, warp shuffle, vote and match functions")
OWN_CODE = Bits("operations of integers, and an exact addition")
IEEE = Numbers("IEEE 754, rounded to nearest, with nvcc's defaults -prec-div, -prec-sqrt")
GUIDE = "CUDA C++ Programming Guide, mathematical functions"
GLIBC = "glibc manual, known maximum errors"


def converted(instruction: str) -> Numbers:
    """By an instruction that PTX specifies."""
    return Numbers(f"PTX ISA, {instruction}")


def by_library(of_device: int) -> Ulps:
    """By functions of CUDA's and of glibc's."""
    return Ulps(of_device, GUIDE, 1, GLIBC)


# The emulator goes to the far end of what it takes to be a device's error: two units
# where they are largest, which are four where they are smallest, and glibc's one.
EXP2 = Ulps(
    2, "PTX ISA, ex2.approx", 5, "emulation/instructions.h: 2^-22 upwards", flushed=True
)

# --- The instructions --------------------------------------------------------------------

# Names of operands, units in the last place of a device's result.
FUNCTIONS = {
    "exp_of": (("exponents",), 2),
    "expm1_of": (("exponents",), 1),
    "log_of": (("positives",), 1),
    "log1p_of": (("above minus one",), 1),
    "sqrt_of": (("positives",), 0),
    "inverse_norm_of": (("positives",), 0),
    "quotient": (("multiplied", "multiplied by"), 0),
    "multiply_add": (("multiplied", "multiplied by", "added"), 0),
}


def _functions(dtype: Any) -> dict[str, Instruction]:
    name = np.dtype(dtype).name
    return {
        f"{function}.{name}": Instruction(
            tuple(f"{operand}.{name}" for operand in operands),
            dtype,
            by_library(ulps) if ulps else IEEE,
        )
        for function, (operands, ulps) in FUNCTIONS.items()
    }


def _products() -> dict[str, Instruction]:
    return {
        f"multiply_matrices.{name}": Instruction(
            tuple(f"{part}.{name}" for part in ("left", "right", "sums")),
            np.float32,
            Sums(factor),
        )
        for name, factor in FACTORS.items()
    }


def _conversions(name: str, dtype: Any, unpacked: Distance) -> dict[str, Instruction]:
    pair = ("rounded", "rounded, other order")
    rounded = converted(f"cvt.rn.{'bf16x2' if name == 'bfloat16' else 'f16x2'}.f32")
    return {
        f"load_matrices.{name}": Instruction(("rows", "places"), np.uint32, MOVED),
        f"load_transposed.{name}": Instruction(("rows", "places"), np.uint32, MOVED),
        f"round_pair.{name}": Instruction(pair, dtype, rounded),
        f"round_to.{name}": Instruction(("rounded",), np.uint32, OWN_CODE),
        f"unpack_pair.{name}": Instruction(("pairs",), np.float32, unpacked),
        f"unpack.{name}": Instruction(("packets",), np.float32, unpacked),
    }


def _exchanges() -> dict[str, Instruction]:
    single, double = ("single words", "distances"), ("double words", "distances")
    return {
        "shuffle.float32": Instruction(("single words", "lanes"), np.uint32, EXCHANGED),
        "shuffle.float64": Instruction(("double words", "lanes"), np.uint64, EXCHANGED),
        "shuffle_xor.float32": Instruction(single, np.uint32, EXCHANGED),
        "shuffle_xor.float64": Instruction(double, np.uint64, EXCHANGED),
        "shuffle_up.int64": Instruction(double, np.uint64, EXCHANGED),
        "ballot": Instruction(("votes",), np.uint32, EXCHANGED),
        "any": Instruction(("votes",), np.uint32, EXCHANGED),
        "match_any": Instruction(("few numbers",), np.uint32, EXCHANGED),
    }


def _copies() -> dict[str, Instruction]:
    return {
        f"copy_async.{size}": Instruction(
            (f"first copied.{size}", f"second copied.{size}", "wanted"), np.uint32, MOVED
        )
        for size in (4, 8, 16)
    }


HALF_TO_FLOAT = converted("cvt.f32.f16")

INSTRUCTIONS: dict[str, Instruction] = {
    **_products(),
    **_conversions("float16", np.float16, HALF_TO_FLOAT),
    **_conversions("bfloat16", ml_dtypes.bfloat16, MOVED),
    "load_matrices.float32": Instruction(("rows", "places"), np.uint32, MOVED),
    "unpack.float32": Instruction(("packets",), np.float32, MOVED),
    "unpack.float64": Instruction(("packets",), np.float64, MOVED),
    "half_to_float": Instruction(("halves",), np.float32, HALF_TO_FLOAT),
    "round_to_tf32": Instruction(("rounded",), np.float32, converted("cvt.rna.tf32.f32")),
    "approximate_exp2": Instruction(("powers",), np.float32, EXP2),
    **_functions(np.float32),
    **_functions(np.float64),
    **_exchanges(),
    **_copies(),
}

# --- Recording ---------------------------------------------------------------------------

DEVICE = "device"


def operand_key(name: str) -> str:
    """Where an operand stands in a recording."""
    return f"operand: {name}"


def result_key(name: str) -> str:
    """Where an instruction's results stand in a recording."""
    return f"result: {name}"


def run(module: Any, name: str, operands: Sequence[Array]) -> Array:
    """What each thread gets of an instruction, as the bits of its numbers."""
    size = np.dtype(INSTRUCTIONS[name].result).itemsize
    result: Array = module.run(name, list(operands)).view(f"u{size}")
    return result


def attempt(module: Any) -> tuple[Recorded, dict[str, str]]:
    """Operands and results by name, with the device; and why results are missing.

    An instruction that ends a device's work ends it for all that come after.
    """
    operands = make_operands()
    recorded = {operand_key(name): array for name, array in operands.items()}
    recorded[DEVICE] = np.array(json.dumps(module.device_info()))
    problems = {}
    for name, instruction in INSTRUCTIONS.items():
        of_instruction = [operands[operand] for operand in instruction.operands]
        try:
            first, second = (run(module, name, of_instruction) for _ in range(2))
        except RuntimeError as error:
            problems[name] = str(error)
            continue
        if first.tobytes() == second.tobytes():
            recorded[result_key(name)] = first
        else:
            problems[name] = "two runs differ"
    return recorded, problems


def record(module: Any) -> Recorded:
    """The same where nothing is missing.

    Raises:
        RuntimeError: something is.
    """
    recorded, problems = attempt(module)
    if problems:
        raise RuntimeError(described(problems))
    return recorded


def described(problems: Mapping[str, str]) -> str:
    """What failed, in a line."""
    return "; ".join(f"{name}: {problem}" for name, problem in problems.items())


def operands_of(recorded: Mapping[str, Array], name: str) -> list[Array]:
    """What an instruction was given."""
    return [recorded[operand_key(operand)] for operand in INSTRUCTIONS[name].operands]


def results_of(recorded: Mapping[str, Array], name: str) -> Array:
    """The numbers that each thread got of it."""
    return recorded[result_key(name)].view(INSTRUCTIONS[name].result)


def device_of(recorded: Mapping[str, Array]) -> dict[str, str]:
    """The device's name, compute capability and versions."""
    described: dict[str, str] = json.loads(str(recorded[DEVICE]))
    return described


def save(recorded: Mapping[str, Array], path: Path) -> None:
    """Writes a recording."""
    arrays: dict[str, Any] = dict(recorded)
    np.savez_compressed(path, **arrays)


def load(path: Path = RECORDED) -> Recorded:
    """Reads a recording."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def record_on_device(module: Any, path: Path = RECORDED) -> dict[str, str]:
    """Writes what a device does, and says which device it is.

    Raises:
        RuntimeError: there is no device, it has not these instructions, or some of them
            failed: the others are written.
        ValueError: the module is the emulator's.
    """
    name = module.__name__.rpartition(".")[-1]
    if name != "_vectors":
        raise ValueError(f"{path.name} holds what a device does: give _vectors, got {name}")
    capability = module.device_info()["compute_capability"]
    if int(capability.partition(".")[0]) < 8:
        raise RuntimeError(
            "the instructions need a device of compute capability 8.0 or later, got "
            f"{capability}"
        )
    recorded, problems = attempt(module)
    save(recorded, path)
    if problems:
        raise RuntimeError(described(problems))
    return device_of(recorded)


# --- Comparing ---------------------------------------------------------------------------


def differences(recorded: Mapping[str, Array], module: Any) -> list[str]:
    """A sentence for each instruction that the module does otherwise than recorded.

    Also for what a recording lacks, and for operands other than ``make_operands`` makes:
    what was made of those is not compared.
    """
    operands = make_operands()
    current = {
        name
        for name, array in operands.items()
        if operand_key(name) in recorded and are_alike(recorded[operand_key(name)], array)
    }
    sentences = _differing_keys(recorded, operands)
    sentences += [
        f"{operand_key(name)} is of another version: record on a device again"
        for name in operands
        if operand_key(name) in recorded and name not in current
    ]
    for name, instruction in INSTRUCTIONS.items():
        if result_key(name) in recorded and current.issuperset(instruction.operands):
            sentences += _differing_results(recorded, module, name)
    return sentences


def are_alike(left: Array, right: Array) -> bool:
    """Whether two arrays have the same bits."""
    return (left.dtype, left.shape) == (right.dtype, right.shape) and bool(
        (bits_of(left) == bits_of(right)).all()
    )


def _differing_keys(
    recorded: Mapping[str, Array], operands: Mapping[str, Array]
) -> list[str]:
    expected = {DEVICE, *map(operand_key, operands), *map(result_key, INSTRUCTIONS)}
    missing = [f"{key} is missing" for key in sorted(expected - recorded.keys())]
    unknown = sorted(recorded.keys() - expected)
    return missing + [f"{key} is of no use: nothing here has that name" for key in unknown]


def _differing_results(recorded: Mapping[str, Array], module: Any, name: str) -> list[str]:
    instruction = INSTRUCTIONS[name]
    operands = operands_of(recorded, name)
    expected, computed = recorded[result_key(name)], run(module, name, operands)
    if (expected.dtype, expected.shape) != (computed.dtype, computed.shape):
        return [
            f"{name}: recorded are {expected.dtype} numbers of shape {expected.shape}, "
            f"computed {computed.dtype} of shape {computed.shape}"
        ]
    differ = instruction.distance.differ(
        expected.view(instruction.result), computed.view(instruction.result), operands
    )
    return [_sentence(name, expected, computed, differ)] if differ.any() else []


def _sentence(name: str, expected: Array, computed: Array, differ: Array) -> str:
    thread, place = (int(index[0]) for index in np.nonzero(differ))
    instruction = INSTRUCTIONS[name]
    bits = [array[thread, place] for array in (expected, computed)]
    first, second = (
        f"{each.view(instruction.result)} (0x{int(each):0{2 * each.itemsize}x})"
        for each in bits
    )
    return (
        f"{name}: {differ.sum()} of {differ.size} results differ, first in thread {thread} "
        f"number {place}: recorded {first}, computed {second}. "
        f"Allowed: {instruction.distance.allowed}."
    )
