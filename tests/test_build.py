"""The ways to install, each into a folder of its own, from a copy of the sources."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import tensorflow as tf
import tomli

ROOT = Path(__file__).parent.parent
SOURCES = (
    "CMakeLists.txt",
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "pyproject.toml",
    "setup.py",
    "cmake",
    "csrc",
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a build reads, without anything built."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    built = shutil.ignore_patterns("*.so", "_build_info.json", "__pycache__", "*.egg-info")
    for name in (*SOURCES, "python"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=built)
        else:
            shutil.copy(source, folder / name)
    return folder


def pip(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs pip as the README does, with the build's environment variables."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("NEGATIVE_COSINE")}
    return subprocess.run(
        [sys.executable, "-m", "pip", *arguments],
        env={**kept, **variables},
        capture_output=True,
        text=True,
    )


def report_of(folder: Path) -> str:
    """What ``python -m negative_cosine`` says of the package in ``folder``."""
    result = subprocess.run(
        [sys.executable, "-m", "negative_cosine"],
        env={**os.environ, "PYTHONPATH": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_wheel_holds_the_libraries_and_runs_from_where_it_is_installed(
    checkout: Path, tmp_path: Path
) -> None:
    arguments = ("--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(checkout))
    build = pip("wheel", "--verbose", *arguments, CUDACXX="no-such-compiler")
    assert build.returncode == 0, build.stderr
    output = build.stdout + build.stderr
    assert "building for the CPU only: no CUDA compiler was found" in output
    (wheel,) = tmp_path.glob("*.whl")
    names = {Path(name).name for name in zipfile.ZipFile(wheel).namelist()}
    assert {"_negative_cosine_ops.so", "_build_info.json", "py.typed", "_core.pyi"} <= names
    assert any(name.startswith("_core.") and name.endswith(".so") for name in names)
    assert not any(name.startswith("_cuda_core.c") for name in names)
    target = tmp_path / "installed"
    install = pip("install", "--no-deps", "--target", str(target), str(wheel))
    assert install.returncode == 0, install.stderr
    report = report_of(target)
    assert re.search("native library: +loaded", report)
    assert f"tensorflow {tf.__version__}, compiler" in report
    assert "cuda None" in report


def leave_an_earlier_build_in(checkout: Path) -> None:
    """Libraries where an editable install and setuptools put them."""
    for folder in ("python/negative_cosine", "build/lib/negative_cosine"):
        (checkout / folder).mkdir(parents=True, exist_ok=True)
        for name in ("_cuda_core.cpython-310-x86_64-linux-gnu.so", "_build_info.json"):
            (checkout / folder / name).write_text("{}")


def test_a_source_distribution_has_what_a_build_reads_and_nothing_built(
    checkout: Path, tmp_path: Path
) -> None:
    leave_an_earlier_build_in(checkout)
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "sdist", "--dist-dir", str(tmp_path)],
        cwd=checkout,
        check=True,
    )
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        names = [name.partition("/")[2] for name in files.getnames()]
    sources = {"CMakeLists.txt", "cmake/core.cmake", "csrc/cuda/rows.cuh"}
    assert sources | {"csrc/core/params.h"} <= set(names)
    assert not [name for name in names if name.endswith((".so", "_build_info.json"))]


def test_without_a_compiler_the_python_part_installs_when_asked_for(
    checkout: Path, tmp_path: Path
) -> None:
    leave_an_earlier_build_in(checkout)
    target = tmp_path / "installed"
    install = pip(
        "install",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(target),
        str(checkout),
        NEGATIVE_COSINE_PYTHON_ONLY="1",
        PATH=str(tmp_path / "nothing"),
        CXX="no-such-compiler",
    )
    assert install.returncode == 0, install.stderr
    assert not list(target.glob("negative_cosine/*.so"))
    report = report_of(target)
    assert "not loaded: the native library is missing" in report
    assert re.search("sampler=shuffle: +reference: the native library is missing", report)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"NEGATIVE_COSINE_CUDA": "1", "CUDACXX": "no-such-compiler"},
            "asks for CUDA kernels, and no CUDA compiler was found: put nvcc on PATH",
        ),
        ({"NEGATIVE_COSINE_CUDA": "yes"}, "NEGATIVE_COSINE_CUDA must be 0, 1 or unset"),
        ({"NEGATIVE_COSINE_PYTHON_ONLY": "2"}, "PYTHON_ONLY must be 0, 1 or unset"),
        ({"NEGATIVE_COSINE_JOBS": "many"}, "NEGATIVE_COSINE_JOBS must be"),
        ({"NEGATIVE_COSINE_SANITIZE": "memory"}, "must be address, thread or unset, got"),
        ({"CXX": "no-such-compiler"}, "no-such-compiler"),
    ],
    ids=lambda value: str(value),
)
def test_a_build_that_cannot_be_had_fails_and_says_why(
    checkout: Path, tmp_path: Path, variables: dict[str, str], message: str
) -> None:
    target = str(tmp_path / "installed")
    arguments = ("--no-deps", "--no-build-isolation", "--target", target, str(checkout))
    install = pip("install", *arguments, **variables)
    assert install.returncode != 0
    assert message in " ".join((install.stdout + install.stderr).split())


def test_an_nvcc_that_does_not_compile_is_named(checkout: Path, tmp_path: Path) -> None:
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\necho unsupported GNU version >&2\nexit 1\n")
    nvcc.chmod(0o755)
    target = str(tmp_path / "installed")
    arguments = ("--no-deps", "--no-build-isolation", "--target", target, str(checkout))
    path = f"{nvcc.parent}:{os.environ['PATH']}"
    install = pip("install", *arguments, NEGATIVE_COSINE_CUDA="1", PATH=path)
    assert install.returncode != 0
    message = " ".join((install.stdout + install.stderr).split())
    assert f"asks for CUDA kernels, and {nvcc} does not compile with" in message
    assert "CUDAHOSTCXX" in message


def test_what_the_makefile_installs_is_what_the_package_declares() -> None:
    project = tomli.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    assert groups["build"] == project["build-system"]["requires"]
    assert groups["requirements"] == project["project"]["dependencies"]
    assert groups["examples"] == project["project"]["optional-dependencies"]["examples"]
