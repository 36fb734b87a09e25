"""The machine code of the recorded instructions: each kernel runs what it is named for."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.gpu import machine_code
from benchmarks.gpu.machine_code import Kernel
from tests.kernels.vectors import INSTRUCTIONS
from tests.support.checkout import ROOT
from tests.support.cores import ON_EMULATOR

pytestmark = ON_EMULATOR  # compiled from the sources, on whatever machine has them

# How the compiler spells the template arguments of vectors.cu.
SPELLED = {
    "float16": r"I\w*7Float16E",
    "bfloat16": r"I\w*8BFloat16E",
    "tf32": r"I\w*4Tf32E",
    "float32": "IfE",
    "float64": "IdE",
    "int64": "IxE",
    "4": "ILi4E",
    "8": "ILi8E",
    "16": "ILi16E",
    "": "E",
}
# Of sm_90. A root is MUFU.RSQ and steps that round it; of an inverse norm the compiler
# makes a root and a quotient, both rounded, and not MUFU.RSQ alone.
MACHINE_CODE = {
    "multiply_matrices.float16": [r"HMMA\.16816\.F32 "],
    "multiply_matrices.bfloat16": [r"HMMA\.16816\.F32\.BF16 "],
    "multiply_matrices.tf32": [r"HMMA\.1688\.F32\.TF32 "],
    "load_matrices.float16": [r"LDSM\.16\.M88\.4 "],
    "load_matrices.bfloat16": [r"LDSM\.16\.M88\.4 "],
    "load_matrices.float32": [r"LDSM\.16\.M88\.4 "],
    "load_transposed.float16": [r"LDSM\.16\.MT88\.4 "],
    "load_transposed.bfloat16": [r"LDSM\.16\.MT88\.4 "],
    "copy_async.4": [r"LDGSTS\.E \[.*P\d", r"LDGDEPBAR", r"DEPBAR\.LE SB0, 0x1"],
    "copy_async.8": [r"LDGSTS\.E\.64 .*P\d", r"LDGDEPBAR", r"DEPBAR\.LE SB0, 0x1"],
    "copy_async.16": [
        r"LDGSTS\.E\.BYPASS\.128 .*P\d",
        r"LDGDEPBAR",
        r"DEPBAR\.LE SB0, 0x1",
    ],
    "round_to_tf32": [r"LOP3\.LUT .*0xffffe000"],
    "round_pair.float16": [r"F2FP\.F16\.F32\.PACK_AB"],
    "round_pair.bfloat16": [r"F2FP\.BF16\.F32\.PACK_AB"],
    "half_to_float": [r"HADD2\.F32"],
    "unpack.float16": [r"HADD2\.F32"],
    "unpack_pair.float16": [r"HADD2\.F32"],
    "approximate_exp2": [r"MUFU\.EX2"],
    "exp_of.float32": [r"MUFU\.EX2"],
    "expm1_of.float32": [r"MUFU\.EX2"],
    "sqrt_of.float32": [r"MUFU\.RSQ "],
    "sqrt_of.float64": [r"MUFU\.RSQ64H"],
    "inverse_norm_of.float32": [r"MUFU\.RSQ ", r"MUFU\.RCP "],
    "inverse_norm_of.float64": [r"MUFU\.RSQ64H", r"MUFU\.RCP64H"],
    "quotient.float32": [r"MUFU\.RCP "],
    "quotient.float64": [r"MUFU\.RCP64H"],
    "multiply_add.float32": [r"FFMA "],
    "multiply_add.float64": [r"DFMA "],
    "shuffle.float32": [r"SHFL\.IDX"],
    "shuffle_xor.float64": [r"SHFL\.BFLY"],
    "shuffle_up.int64": [r"SHFL\.UP"],
    "ballot": [r"VOTE\.ANY"],
    "any": [r"VOTE\.ANY"],
    "match_any": [r"MATCH\.ANY"],
}


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> list[Kernel]:
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    if not Path(nvcc).is_file():
        pytest.skip("nvcc is not on PATH")
    sources = ROOT / "tests" / "cuda" / "vectors"
    compiled = tmp_path_factory.mktemp("vectors") / "vectors.cubin"
    include = f"-I{ROOT / 'csrc'}"
    options = ["-cubin", "-std=c++17", "-arch=sm_90", "--fmad=false", include]
    subprocess.run([nvcc, *options, "-o", compiled, sources / "vectors.cu"], check=True)
    return machine_code.read_kernels(compiled, "sm_90")


def kernel_of(kernels: list[Kernel], name: str) -> Kernel:
    stem, _, spelled = name.partition(".")
    kind = "".join(word.capitalize() for word in stem.split("_"))
    pattern = rf"3run\w*?{len(kind)}{kind}{SPELLED[spelled]}"
    (found,) = (kernel for kernel in kernels if re.search(pattern, kernel.symbol))
    return found


def test_each_instruction_has_a_kernel_of_its_own(kernels: list[Kernel]) -> None:
    found = {kernel_of(kernels, name).symbol for name in INSTRUCTIONS}
    one_does_nothing = 1
    assert len(found) == len(INSTRUCTIONS) == len(kernels) - one_does_nothing


@pytest.mark.parametrize("name", MACHINE_CODE)
def test_the_machine_code_has_the_instruction(kernels: list[Kernel], name: str) -> None:
    kernel = kernel_of(kernels, name)
    assert not [pattern for pattern in MACHINE_CODE[name] if kernel.count(pattern) == 0]
