"""Which devices a build compiles its CUDA kernels for, and what its line says of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.checkout import ROOT

NVCC = """#!/bin/sh
printf 'compute_75\\ncompute_80\\ncompute_86\\ncompute_87\\ncompute_90\\ncompute_120\\n'
"""
ALL = "75-real;80-real;86-real;89-real;90-real;100-real;120"
NO_GPU = " (all there are, since no GPU was found here that the toolkit knows)"


def of_this_machine(names: str) -> str:
    others = "unless NEGATIVE_COSINE_CUDA_ARCHITECTURES names others"
    return f" (of this machine's {names}, {others})"


def program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def driver_that_prints(*lines: str) -> str:
    """A stand-in for nvidia-smi, which sees that it is asked what it answers."""
    answer = "".join(f"{line}\\n" for line in lines)
    question = "--query-gpu=compute_cap,name --format=csv,noheader"
    return f"#!/bin/sh\n[ \"$*\" = '{question}' ] || exit 7\nprintf '{answer}'\n"


def configured(
    folder: Path, driver: str | None, named: str = "", cuda: str = "13.0"
) -> list[str]:
    """The same two, and the shared memory of a block at the least and at the most."""
    tools = folder / "bin"
    tools.mkdir()
    nvcc = program(tools / "nvcc", NVCC)
    if driver is not None:
        program(tools / "nvidia-smi", driver)
    script = folder / "choose.cmake"
    script.write_text(
        f"""
        set(CUDAToolkit_VERSION {cuda})
        set(CMAKE_CUDA_COMPILER {nvcc})
        set(NEGATIVE_COSINE_CUDA_ARCHITECTURES "{named}")
        include({ROOT}/cmake/cuda_architectures.cmake)
        choose_architectures(architectures because)
        find_shared_memory("${{architectures}}" least most)
        file(WRITE {folder}/choice "${{architectures}}|${{because}}|${{least}}|${{most}}")
        """
    )
    # Nothing of the machine's own: its driver might see a GPU.
    environment = {**os.environ, "PATH": f"{tools}:/usr/bin:/bin"}
    cmake = Path(os.environ.get("VIRTUAL_ENV", "/usr")) / "bin" / "cmake"
    command = [str(cmake) if cmake.exists() else "cmake", "-P", str(script)]
    subprocess.run(command, check=True, env=environment)
    return (folder / "choice").read_text().split("|")


def choice(
    folder: Path, driver: str | None, named: str = "", cuda: str = "13.0"
) -> list[str]:
    """What is compiled for, and the words behind it in the build's line."""
    return configured(folder, driver, named, cuda)[:2]


def test_named_architectures_are_those_that_are_compiled(tmp_path: Path) -> None:
    driver = driver_that_prints("9.0, NVIDIA H100 80GB HBM3")
    assert choice(tmp_path, driver, named="80-real;90") == ["80-real;90", ""]


def test_the_gpu_of_this_machine_is_what_is_compiled_for(tmp_path: Path) -> None:
    found = choice(tmp_path, driver_that_prints("9.0, NVIDIA H100 80GB HBM3"))
    assert found == ["90-real", of_this_machine("NVIDIA H100 80GB HBM3")]


def test_several_gpus_are_compiled_for_once_a_kind(tmp_path: Path) -> None:
    lines = ("8.6, NVIDIA RTX A6000", "8.6, NVIDIA RTX A6000", "7.5, Tesla T4")
    found = choice(tmp_path, driver_that_prints(*lines))
    assert found == ["86-real;75-real", of_this_machine("NVIDIA RTX A6000 and Tesla T4")]


@pytest.mark.parametrize(
    "driver",
    [
        None,
        "#!/bin/sh\necho 'NVIDIA-SMI has failed' >&2\nexit 9\n",
        "#!/bin/sh\nkill -SEGV $$\n",
        driver_that_prints("No devices were found"),
        driver_that_prints("[N/A], NVIDIA something"),
        driver_that_prints("7.0, Tesla V100"),
        driver_that_prints("13.9, NVIDIA of the future"),
    ],
    ids=["missing", "fails", "crashes", "no device", "nonsense", "too old", "too new"],
)
@pytest.mark.parametrize(
    ("cuda", "every"), [("13.0", ALL), ("12.6", "75-real;80-real;86-real;89-real;90")]
)
def test_without_a_gpu_that_the_toolkit_knows_all_kinds_are_compiled_for(
    tmp_path: Path, cuda: str, every: str, driver: str | None
) -> None:
    assert choice(tmp_path, driver, cuda=cuda) == [every, NO_GPU]


def test_a_gpu_that_the_toolkit_knows_is_taken_from_among_others(tmp_path: Path) -> None:
    found = choice(tmp_path, driver_that_prints("7.0, Tesla V100", "8.7, Orin (nvgpu)"))
    assert found == ["87-real", of_this_machine("Orin (nvgpu)")]


# What a block may have, as CUDA's programming guide says of each compute capability: KiB.
KIB = {"75": 64, "86": 99, "87": 163, "89": 99, "90": 227, "100": 227, "120": 99}


@pytest.mark.parametrize("architecture", KIB)
def test_a_build_for_one_device_knows_its_shared_memory(
    tmp_path: Path, architecture: str
) -> None:
    found = configured(tmp_path, None, named=f"{architecture}-real")[2:]
    assert found == [str(KIB[architecture] * 1024)] * 2


def test_a_build_for_several_devices_knows_the_least_and_the_most(tmp_path: Path) -> None:
    found = configured(tmp_path, None, named="87-real;89-real;90a-real")[2:]
    assert found == [str(99 * 1024), str(227 * 1024)]


def test_code_for_an_a100_also_runs_where_a_block_has_less(tmp_path: Path) -> None:
    found = configured(tmp_path, None, named="80-real")[2:]
    assert found == [str(99 * 1024), str(163 * 1024)]


@pytest.mark.parametrize("named", ["90", "80-real;90", "90-virtual", "native"])
def test_a_build_that_other_devices_may_run_counts_on_either_amount(
    tmp_path: Path, named: str
) -> None:
    assert configured(tmp_path, None, named=named)[2:] == [str(64 * 1024), str(227 * 1024)]
