"""The wheel of `make wheel`: what it holds and requires, and that it runs where it must."""

from __future__ import annotations

import json
import os
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


@pytest.mark.nightly
def test_the_wheel_fits_every_release_and_runs_readmes_code_in_empty_environments(
    tmp_path: Path,
) -> None:
    # In one test: two that build at once would write over each other's files.
    command = (sys.executable, "-m", "tools.wheel", "--output", str(tmp_path / "dist"))
    variables = {**os.environ, "NEGATIVE_COSINE_CUDA": "0"}
    subprocess.run(command, cwd=ROOT, env=variables, check=True)
    (built,) = tmp_path.glob("dist/*.whl")
    assert "-manylinux_2_" in built.name
    assert_holds_the_libraries_of_every_release(built)
    for release in TENSORFLOWS:
        folder = tmp_path / release
        folder.mkdir()
        opened = try_wheel.try_release(built, release, folder)
        assert opened == f"_negative_cosine_ops.tf{release}.so"


def assert_holds_the_libraries_of_every_release(built: Path) -> None:
    assert wheel.libraries_of_others(built) == []
    archive = zipfile.ZipFile(built)
    names = archive.namelist()
    found = {Path(name).name for name in names if name.startswith("negative_cosine/_neg")}
    assert found == {f"{name}.tf{one}.so" for name in RELEASED for one in TENSORFLOWS}
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
