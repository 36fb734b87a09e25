"""An installation of the NumPy modules alone, where TensorFlow cannot be imported.

``make bare-test`` builds a real one and runs the tests of the kernels there.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import negative_cosine
import numpy as np
import pytest
from negative_cosine import _build_info, _loader

from tests.support.checkout import copy_sources
from tests.support.installed import LIBRARY, XLA_LIBRARY, installation, run_with, start_with

NOT_INSTALLED = "raise ImportError('no TensorFlow on this machine')"


def built_without(folder: Path, cuda: str | None = "13.0.88") -> Path:
    """A copy of the package as NEGATIVE_COSINE_TENSORFLOW=0 builds it."""
    package = installation(folder)
    for library in (LIBRARY, XLA_LIBRARY):
        (package / library).unlink()
    info = json.loads((package / "_build_info.json").read_text())
    info |= {"tensorflow": None, "cuda": cuda, "xla": "NEGATIVE_COSINE_TENSORFLOW=0"}
    (package / "_build_info.json").write_text(json.dumps(info))
    return package


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Such a copy, with a TensorFlow beside it whose import fails."""
    (tmp_path / "tensorflow.py").write_text(NOT_INSTALLED)
    return built_without(tmp_path)


def test_an_import_says_in_one_line_what_is_there_and_what_is_not(package: Path) -> None:
    result = start_with(package, "-c", "import negative_cosine")
    assert result.returncode == 0
    (line,) = result.stderr.strip().splitlines()
    assert line.endswith(
        "UserWarning: negative_cosine was built with NEGATIVE_COSINE_TENSORFLOW=0 and "
        "TensorFlow cannot be imported: negative_cosine._core (the CPU) and "
        "negative_cosine._cuda_core (CUDA 13.0.88) can be imported by name; the "
        "TensorFlow op, its reference and the Keras layers are missing"
    )


def test_without_cuda_kernels_only_the_cpu_module_is_named(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text(NOT_INSTALLED)
    package = built_without(tmp_path, cuda=None)
    warning = start_with(package, "-c", "import negative_cosine").stderr
    assert "negative_cosine._core (the CPU) can be imported by name" in warning


def test_the_numpy_module_works(package: Path) -> None:
    code = """
import numpy as np
from negative_cosine import _core
rows = np.eye(4, dtype=np.float32)
print(_core.negative_cosine_loss(rows, rows, sampler="all")["loss"])
"""
    loss = np.log(1 + 3 * np.exp(-20))
    np.testing.assert_allclose(float(run_with(package, "-c", code)), loss, rtol=1e-5)


@pytest.mark.parametrize("name", negative_cosine.__all__)
def test_what_needs_tensorflow_is_refused_with_the_reason(package: Path, name: str) -> None:
    result = start_with(package, "-c", f"from negative_cosine import {name}")
    assert result.returncode != 0
    error = result.stderr.strip().splitlines()[-1]
    assert error.startswith("ImportError: negative_cosine was built with NEGATIVE_COSINE_")


def test_a_name_that_nobody_has_is_none_of_the_package(package: Path) -> None:
    result = start_with(package, "-c", "import negative_cosine as n; n.no_such_name")
    assert "AttributeError: module 'negative_cosine' has no attribute" in result.stderr


def test_the_report_describes_it(package: Path) -> None:
    report = run_with(package, "-m", "negative_cosine")
    lines = dict(re.findall(r"^(.*?): +(.*)$", report, re.MULTILINE))
    assert lines["TensorFlow"].startswith("none: negative_cosine was built with")
    assert "tensorflow None" in lines["built for"]
    assert lines["CPU kernels in use"] in ("portable", "avx2", "avx512")
    assert lines["GPU"].startswith(("none: no NVIDIA driver", "name ", "not known"))


def test_where_tensorflow_is_installed_all_of_it_in_python_works(tmp_path: Path) -> None:
    package = built_without(tmp_path)
    code = """
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss
print(float(fused_negative_cosine_loss(tf.eye(4), tf.eye(4), sampler="all")))
"""
    result = start_with(package, "-W", "ignore::FutureWarning", "-c", code)
    loss = np.log(1 + 3 * np.exp(-20))
    np.testing.assert_allclose(float(result.stdout), loss, rtol=1e-5)
    assert "the package was built with NEGATIVE_COSINE_TENSORFLOW=0" in result.stderr


def test_the_loader_says_that_it_was_built_so(tmp_path: Path) -> None:
    library = _loader.open_library(built_without(tmp_path), "2.21.0")
    assert library.ops is None
    assert library.problem == "the package was built with NEGATIVE_COSINE_TENSORFLOW=0"


@pytest.mark.parametrize("info", [None, {}, {"tensorflow": "2.21.0"}])
def test_other_builds_are_not_taken_for_one_without_tensorflow(info: Any) -> None:
    assert not _build_info.is_built_without_tensorflow(info)


def test_this_installation_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not _build_info.has_numpy_modules_alone()


# --- The build --------------------------------------------------------------------------


def setup(
    checkout: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "setup.py", *arguments],
        cwd=checkout,
        env={"PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
    )


def test_such_a_build_requires_numpy_alone(tmp_path: Path) -> None:
    checkout = copy_sources(tmp_path / "checkout")
    result = setup(checkout, "--quiet", "egg_info", NEGATIVE_COSINE_TENSORFLOW="0")
    assert result.returncode == 0, result.stderr
    (requires,) = checkout.glob("**/*.egg-info/requires.txt")
    unconditional = requires.read_text().partition("\n[")[0].split()
    assert unconditional == ["numpy>=1.26"]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"NEGATIVE_COSINE_TENSORFLOW": "no"}, "TENSORFLOW must be 0, 1 or unset"),
        (
            {"NEGATIVE_COSINE_TENSORFLOW": "0", "NEGATIVE_COSINE_PYTHON_ONLY": "1"},
            "NEGATIVE_COSINE_PYTHON_ONLY=1 leaves out the NumPy modules and "
            "NEGATIVE_COSINE_TENSORFLOW=0 all else: set one of them",
        ),
    ],
)
def test_options_that_leave_nothing_are_refused(
    tmp_path: Path, variables: dict[str, str], message: str
) -> None:
    checkout = copy_sources(tmp_path / "checkout")
    result = setup(checkout, "--quiet", "egg_info", **variables)
    assert result.returncode != 0
    assert message in result.stderr
