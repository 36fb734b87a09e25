"""A package with libraries for several releases of TensorFlow: which of them is opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from negative_cosine import _loader, _releases

from tests.support.installed import LIBRARY, XLA_LIBRARY, installation, run_with

HERE = _releases.minor_release(tf.__version__)
OLDER, NEWER = "1.15.0", "9.1.0"


def named(name: str, release: str) -> str:
    return name.replace(".so", f".tf{_releases.minor_release(release)}.so")


def with_releases(folder: Path, *releases: str) -> Path:
    """A package as `make wheel` makes it; what is not for this TensorFlow is no library."""
    package = installation(folder)
    for name in (LIBRARY, XLA_LIBRARY):
        library = (package / name).read_bytes()
        (package / name).unlink()
        for release in releases:
            fits = _releases.minor_release(release) == HERE
            (package / named(name, release)).write_bytes(library if fits else b"foreign")
    info = json.loads((package / "_build_info.json").read_text())
    (package / "_build_info.json").write_text(
        json.dumps({**info, "tensorflow": [*releases]})
    )
    return package


@pytest.mark.parametrize(
    ("releases", "taken"),
    [
        (["2.21.0"], "2.21"),
        (["2.20.0", "2.21.0"], "2.21"),
        (["2.21.7", "2.22.0"], "2.21"),
        (["2.2.0", "2.21.0", "2.210.0"], "2.21"),
    ],
    ids=str,
)
@pytest.mark.parametrize("version", ["2.21.0", "2.21.9", "2.21.0-rc1"])
def test_of_several_libraries_that_of_the_minor_release_is_taken(
    releases: list[str], taken: str, version: str
) -> None:
    folder = Path("package")
    info = {"tensorflow": releases}
    ops = _releases.ops_path(folder, info, version)
    assert ops == folder / f"_negative_cosine_ops.tf{taken}.so"
    assert _releases.xla_path(ops) == folder / f"_negative_cosine_xla.tf{taken}.so"
    assert _releases.release_problem(info, version) == ""


def test_the_library_of_one_release_has_no_release_in_its_name() -> None:
    ops = _releases.ops_path(Path("package"), {"tensorflow": "2.21.0"}, "2.21.0")
    assert ops == Path("package") / LIBRARY
    assert _releases.xla_path(ops) == Path("package") / XLA_LIBRARY


def test_where_none_fits_the_error_names_what_is_there_and_what_would_help(
    tmp_path: Path,
) -> None:
    package = with_releases(tmp_path, OLDER, NEWER)
    library = _loader.open_library(package, tf.__version__)
    assert library.ops is None
    assert library.problem == (
        "the package has native libraries for TensorFlow 1.15.0 and 9.1.0 and this is "
        f"TensorFlow {tf.__version__}"
    )
    assert library.fix.startswith("install TensorFlow 1.15 or 9.1, or reinstall negative-")


def test_a_library_that_is_missing_is_named_with_its_release(tmp_path: Path) -> None:
    package = with_releases(tmp_path, OLDER, tf.__version__)
    (package / named(LIBRARY, tf.__version__)).unlink()
    library = _loader.open_library(package, tf.__version__)
    assert f"and no _negative_cosine_ops.tf{HERE}.so" in library.problem
    assert "reinstall negative-cosine" in library.fix


def test_half_a_wheel_has_no_build_info_and_is_not_taken_for_the_python_part(
    tmp_path: Path,
) -> None:
    package = with_releases(tmp_path, OLDER, tf.__version__)
    (package / "_build_info.json").unlink()
    library = _loader.open_library(package, tf.__version__)
    assert (
        f"there is _negative_cosine_ops.tf{HERE}.so and no _build_info" in library.problem
    )


@pytest.mark.parametrize("info", [{}, {"tensorflow": "unknown"}, {"tensorflow": []}])
def test_a_build_info_without_a_release_fits_none(
    info: dict[str, Any], tmp_path: Path
) -> None:
    package = installation(tmp_path)
    (package / "_build_info.json").write_text(json.dumps(info))
    library = _loader.open_library(package, tf.__version__)
    assert library.ops is None
    assert "reinstall negative-cosine" in library.fix


USE = """
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss
loss = tf.function(fused_negative_cosine_loss, jit_compile=True)
assert float(loss(tf.eye(4, 6), tf.eye(4, 6), 2, implementation="native")) < 1e-6
from negative_cosine import __main__ as report
report.main()
"""


def test_both_libraries_of_the_running_release_are_opened_and_no_other(
    tmp_path: Path,
) -> None:
    # In a process of its own: an op is registered once.
    package = with_releases(tmp_path, OLDER, tf.__version__, NEWER)
    output = run_with(package, "-c", USE)
    assert "native library:                      loaded" in output
    assert "library for compiled functions:      loaded" in output
    assert f"tensorflow ['1.15.0', '{tf.__version__}', '9.1.0']" in output


WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
try:
    import negative_cosine
except ImportError as error:
    print(error.name, error)
"""


def test_without_a_tensorflow_the_error_says_which_to_install(tmp_path: Path) -> None:
    package = with_releases(tmp_path, "2.20.0", "2.21.0")
    assert run_with(package, "-c", WITHOUT_TENSORFLOW).strip() == (
        "tensorflow negative_cosine needs TensorFlow and finds none: install 2.20 or 2.21, "
        'with pip install "tensorflow==2.21.*" or another distribution of it, such as '
        "tensorflow-cpu"
    )
