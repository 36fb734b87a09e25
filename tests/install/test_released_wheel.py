"""The wheel of `make wheel`: what it holds and requires, and that it runs where it must."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tools import try_wheel, wheel
from tools.version_matrix import TENSORFLOWS

RELEASED = ("_negative_cosine_ops", "_negative_cosine_xla")


def a_wheel_of(folder: Path, *names: str) -> Path:
    path = folder / "a.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return path


def test_what_auditwheel_would_copy_into_a_wheel_is_found(tmp_path: Path) -> None:
    own = ("negative_cosine/_loader.py", "negative_cosine-0.1.0.dist-info/METADATA")
    copied = "negative_cosine.libs/libtensorflow_framework-1234.so.2"
    assert wheel.libraries_of_others(a_wheel_of(tmp_path, *own, copied)) == [copied]
    assert wheel.libraries_of_others(a_wheel_of(tmp_path, *own)) == []


def test_a_wheel_for_another_python_is_not_tried() -> None:
    name = f"negative_cosine-0.1.0-cp2{sys.version_info[1]}-none-any.whl"
    with pytest.raises(SystemExit, match="none of the wheels is for Python"):
        try_wheel.main([name])


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, for the CPU alone."""
    output = tmp_path_factory.mktemp("dist")
    variables = ("env", "NEGATIVE_COSINE_CUDA=0")
    command = (sys.executable, "-m", "tools.wheel", "--output", str(output))
    subprocess.run([*variables, *command], cwd=ROOT, check=True)
    (built,) = output.glob("*.whl")
    return built


@pytest.mark.nightly
def test_it_holds_the_libraries_of_every_release_and_none_of_others(released: Path) -> None:
    assert "-manylinux_2_" in released.name
    assert wheel.libraries_of_others(released) == []
    archive = zipfile.ZipFile(released)
    names = archive.namelist()
    libraries = {
        Path(name).name for name in names if name.startswith("negative_cosine/_neg")
    }
    assert libraries == {f"{name}.tf{one}.so" for name in RELEASED for one in TENSORFLOWS}
    assert "negative_cosine/libnegative_cosine_core.so" in names
    info = json.loads(archive.read("negative_cosine/_build_info.json"))
    assert [one.rpartition(".")[0] for one in info["tensorflow"]] == [*TENSORFLOWS]
    (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
    required = [
        line
        for line in archive.read(metadata).decode().splitlines()
        if line.startswith("Requires-Dist: ") and "extra ==" not in line
    ]
    assert required == ["Requires-Dist: keras>=3.10", "Requires-Dist: numpy>=1.26"]


@pytest.mark.nightly
@pytest.mark.parametrize("release", TENSORFLOWS)
def test_in_an_empty_environment_readmes_code_runs_with_each_release(
    release: str, released: Path, tmp_path: Path
) -> None:
    opened = try_wheel.try_release(released, release, tmp_path)
    assert opened == f"_negative_cosine_ops.tf{release}.so"
