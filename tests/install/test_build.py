"""The ways to install, each into a folder of its own, from a copy of the sources."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
import tensorflow as tf
import tomli
from negative_cosine import _core

from tests.support.checkout import ROOT, copy_sources
from tests.support.installed import run_with


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a build reads, without anything built."""
    return copy_sources(tmp_path / "checkout")


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
    return run_with(folder / "negative_cosine", "-m", "negative_cosine")


def metadata_of(wheel: zipfile.ZipFile) -> list[str]:
    """What a wheel declares, line by line."""
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return wheel.read(name).decode().splitlines()


# A stub's own alias, and what pybind11 puts into each module and class.
NOT_IN_BOTH = r"""
negative_cosine\..*\.Array
negative_cosine\..*\.PreparedStep(\.__.*)?
"""


@pytest.mark.parametrize("module", ["_core", "_cuda_core", "_probes"])
def test_a_modules_stub_names_all_that_the_module_has(module: str, tmp_path: Path) -> None:
    if module == "_cuda_core":
        pytest.importorskip(f"negative_cosine.{module}", reason="built without nvcc")
    allowed = tmp_path / "allowed.txt"
    allowed.write_text(NOT_IN_BOTH)
    command = ["-m", "mypy.stubtest", "--ignore-unused-allowlist", "--allowlist"]
    found = subprocess.run(
        [sys.executable, *command, str(allowed), f"negative_cosine.{module}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.nightly
def test_a_wheel_holds_the_libraries_and_runs_from_where_it_is_installed(
    checkout: Path, tmp_path: Path
) -> None:
    arguments = ("--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(checkout))
    build = pip("wheel", "--verbose", *arguments, CUDACXX="no-such-compiler")
    assert build.returncode == 0, build.stderr
    output = build.stdout + build.stderr
    assert "building for the CPU only: no CUDA compiler was found" in output
    (wheel,) = tmp_path.glob("*.whl")
    files = zipfile.ZipFile(wheel)
    names = {Path(name).name for name in files.namelist()}
    assert {"_negative_cosine_ops.so", "_build_info.json", "py.typed", "_core.pyi"} <= names
    assert any(name.startswith("_core.") and name.endswith(".so") for name in names)
    assert not any(name.startswith("_cuda_core.c") for name in names)
    assert not any(name.startswith("_probes") for name in names)
    minor = ".".join(tf.__version__.split(".")[:2])
    assert f"Requires-Dist: tensorflow=={minor}.*" in metadata_of(files)
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
    sources = {"CMakeLists.txt", "cmake/core.cmake", "csrc/cuda/rows/rows.cuh"}
    documents = {"CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md"}
    assert sources | documents | {"csrc/core/params.h"} <= set(names)
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
    (metadata,) = target.glob("*.dist-info/METADATA")
    assert "Requires-Dist: tensorflow<2.22,>=2.20" in metadata.read_text().splitlines()
    report = report_of(target)
    assert "not loaded: the native library is missing" in report
    assert re.search("auto on CPU: +reference: the native library is missing", report)


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
        (
            {"CXX": "no-such-compiler"},
            "the C++ compiler that CXX names does not work: no-such-compiler. Install GCC "
            "or Clang (Debian and Ubuntu: apt install g++; Fedora: dnf install gcc-c++)",
        ),
        (
            {"PATH": "/nowhere"},
            "the build needs cmake, ninja: pip install cmake ninja, or leave "
            "--no-build-isolation out",
        ),
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


def test_without_a_compiler_a_build_says_what_to_install(
    checkout: Path, tmp_path: Path
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("cmake", "ninja"):
        (tools / name).symlink_to(Path(sysconfig.get_path("scripts")) / name)
    target = str(tmp_path / "installed")
    arguments = ("--no-deps", "--no-build-isolation", "--target", target, str(checkout))
    install = pip("install", *arguments, PATH=str(tools))
    assert install.returncode != 0
    message = " ".join((install.stdout + install.stderr).split())
    assert "no C++ compiler was found. Install GCC or Clang (Debian and Ubuntu:" in message
    assert "Python part alone, which is slower: NEGATIVE_COSINE_PYTHON_ONLY=1" in message
    assert "Traceback" not in message


def test_half_a_build_has_no_build_info(checkout: Path) -> None:
    leave_an_earlier_build_in(checkout)
    source = checkout / "csrc" / "cpu" / "device" / "cpu_features.cc"
    source.write_text("#error the power failed")
    build = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=checkout,
        env={**os.environ, "NEGATIVE_COSINE_CUDA": "0", "NEGATIVE_COSINE_JOBS": "1"},
        capture_output=True,
        text=True,
    )
    assert build.returncode != 0
    assert "the power failed" in build.stdout
    assert "the native part was not built: the reason is above" in build.stderr
    assert "Traceback" not in build.stderr
    configured = [*checkout.glob("build/temp*/_build_info.json")]
    assert len(configured) == 1
    assert not [*checkout.glob("build/lib.*/negative_cosine/_build_info.json")]


def without(removed: str, original: Path, mirror: Path) -> Path:
    """A folder of links to all that is in ``original`` but for one file."""
    name, _, rest = removed.partition("/")
    mirror.mkdir()
    for path in original.iterdir():
        if path.name != name:
            (mirror / path.name).symlink_to(path)
    if rest:
        without(rest, original / name, mirror / name)
    return mirror


def xla_problem(include: Path, library: Path, folder: Path) -> str:
    """What the build finds missing for the library for compiled functions."""
    flags = tf.sysconfig.get_compile_flags()
    definitions = ";".join(flag[2:] for flag in flags if flag.startswith("-D"))
    script = folder / "probe.cmake"
    script.write_text(
        f"""
        set(CMAKE_CXX_COMPILER c++)
        set(CMAKE_CURRENT_SOURCE_DIR {ROOT})
        set(CMAKE_CURRENT_BINARY_DIR {folder})
        set(TENSORFLOW_VERSION {tf.__version__})
        set(TENSORFLOW_CXX_STANDARD 17)
        set(TENSORFLOW_DEFINITIONS "{definitions}")
        set(TENSORFLOW_INCLUDE_DIR {include})
        set(TENSORFLOW_LIBRARY_DIR {library})
        include({ROOT}/cmake/xla.cmake)
        find_xla_problem(problem)
        file(WRITE {folder}/problem "${{problem}}")
        """
    )
    subprocess.run(["cmake", "-P", str(script)], check=True)
    return (folder / "problem").read_text()


INCLUDE, LIBRARIES = Path(tf.sysconfig.get_include()), Path(tf.sysconfig.get_lib())


def test_xla_has_all_that_its_library_is_made_of(tmp_path: Path) -> None:
    assert xla_problem(INCLUDE, LIBRARIES, tmp_path) == ""


@pytest.mark.parametrize(
    "header",
    [
        "xla/ffi/api/ffi.h",
        "xla/hlo/builder/xla_builder.h",
        "tensorflow/compiler/tf2xla/xla_compiler.h",
        "tensorflow/compiler/tf2xla/xla_expression.h",  # which the one above includes
    ],
)
def test_a_header_of_xla_that_moved_is_named(header: str, tmp_path: Path) -> None:
    include = without(header, INCLUDE, tmp_path / "include")
    problem = xla_problem(include, LIBRARIES, tmp_path)
    assert problem.startswith(f"TensorFlow {tf.__version__} lacks what it is made of: ")
    assert f"fatal error: {header}: No such file" in problem


def test_a_library_of_xla_that_moved_is_named(tmp_path: Path) -> None:
    library = without("libtensorflow_cc.so.2", LIBRARIES, tmp_path / "library")
    problem = xla_problem(INCLUDE, library, tmp_path)
    assert "cannot find -l:libtensorflow_cc.so.2" in problem


def test_a_symbol_of_xla_that_moved_is_named(tmp_path: Path) -> None:
    for name in ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2"):
        (tmp_path / name).symlink_to(_core.__file__)  # a library without it
    problem = xla_problem(INCLUDE, tmp_path, tmp_path)
    assert "undefined reference to `xla::ffi::GetXlaFfiApi()'" in problem


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


# --- What is required of an environment ---------------------------------------------------


def install(
    folder: Path, name: str, version: str, module: str, declares: bool = True
) -> None:
    """A stand-in for a distribution: an empty module and what pip writes beside it."""
    (folder / module).mkdir(parents=True, exist_ok=True)
    (folder / module / "__init__.py").touch()
    written = f"{name.replace('-', '_')}-{version}.dist-info"
    (folder / written).mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (folder / written / "METADATA").write_text(metadata)
    (folder / written / "RECORD").write_text(f"{module}/__init__.py,,\n")
    if declares:
        (folder / written / "top_level.txt").write_text(f"{module}\n")


def setup(
    checkout: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs setup.py by hand."""
    return subprocess.run(
        [sys.executable, "setup.py", "--quiet", *arguments],
        cwd=checkout,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )


def required(checkout: Path, folder: Path, **variables: str) -> list[str]:
    """What the package requires where the modules in ``folder`` are installed."""
    result = setup(checkout, "egg_info", PYTHONPATH=str(folder), **variables)
    assert result.returncode == 0, result.stderr
    (requires,) = checkout.glob("python/*.egg-info/requires.txt")
    return requires.read_text().partition("\n\n[")[0].split()


TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tensorflow-rocm", "tf-nightly", "my-build")


@pytest.mark.parametrize("declares", [True, False], ids=["top_level", "files"])
@pytest.mark.parametrize("name", TENSORFLOWS)
def test_the_tensorflow_that_is_there_is_required_by_its_own_name(
    name: str, declares: bool, checkout: Path, tmp_path: Path
) -> None:
    install(tmp_path / "site", name, "2.20.0", "tensorflow", declares)
    assert f"{name}==2.20.*" in required(checkout, tmp_path / "site")


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("2.20.1", "==2.20.*"),
        ("2.21.0.post1", "==2.21.*"),
        ("2.20.0+nv25.9", "==2.20.*"),
        ("2.21.0rc1", "==2.21.0rc1"),
        ("2.22.0.dev20260901", "==2.22.0.dev20260901"),
    ],
)
def test_libraries_require_the_minor_release_and_of_one_in_the_making_that_very_one(
    version: str, release: str, checkout: Path, tmp_path: Path
) -> None:
    install(tmp_path / "site", "tf-nightly", version, "tensorflow")
    assert f"tf-nightly{release}" in required(checkout, tmp_path / "site")


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("2.20.0", "<2.22,>=2.20"),
        ("2.21.3", "<2.22,>=2.20"),
        ("2.19.1", "==2.19.*"),
        ("2.22.0.dev20260901", "==2.22.0.dev20260901"),
    ],
)
def test_the_python_part_requires_any_tried_release_by_the_name_that_is_there(
    version: str, release: str, checkout: Path, tmp_path: Path
) -> None:
    install(tmp_path / "site", "tensorflow_cpu", version, "tensorflow")
    found = required(checkout, tmp_path / "site", NEGATIVE_COSINE_PYTHON_ONLY="1")
    assert f"tensorflow-cpu{release}" in found


def test_a_keras_by_another_name_stays_too(checkout: Path, tmp_path: Path) -> None:
    install(tmp_path / "site", "keras-nightly", "3.16.0.dev1", "keras")
    found = required(checkout, tmp_path / "site")
    assert "keras-nightly>=3.10" in found
    assert "keras>=3.10" not in found


def test_a_module_without_a_name_is_required_by_none(
    checkout: Path, tmp_path: Path
) -> None:
    (tmp_path / "site" / "tensorflow").mkdir(parents=True)
    (tmp_path / "site" / "tensorflow" / "__init__.py").touch()
    assert required(checkout, tmp_path / "site") == ["keras>=3.10", "numpy>=1.26"]


def test_of_two_names_for_one_module_the_modules_own_is_required(
    checkout: Path, tmp_path: Path
) -> None:
    for name in ("tensorflow-cpu", "tensorflow"):
        install(tmp_path / "site", name, "2.20.0", "tensorflow")
    assert "tensorflow==2.20.*" in required(checkout, tmp_path / "site")


def test_a_tensorflow_mixed_of_two_releases_is_refused(
    checkout: Path, tmp_path: Path
) -> None:
    install(tmp_path, "tensorflow-cpu", "2.20.0", "tensorflow")
    install(tmp_path, "tensorflow", "2.21.0", "tensorflow")
    result = setup(checkout, "egg_info", PYTHONPATH=str(tmp_path))
    assert result.stderr.strip().splitlines()[-1] == (
        "tensorflow 2.21.0 and tensorflow-cpu 2.20.0 are installed and overwrite each "
        "other's files: pip uninstall tensorflow tensorflow-cpu, then install the one that "
        "you want"
    )


def test_a_tensorflow_that_another_hides_is_none_of_the_two(
    checkout: Path, tmp_path: Path
) -> None:
    # As in a virtual environment that sees the system's packages too.
    install(tmp_path / "own", "tensorflow-cpu", "2.20.0", "tensorflow")
    install(tmp_path / "system", "tensorflow", "2.21.0", "tensorflow")
    folders = f"{tmp_path / 'own'}:{tmp_path / 'system'}"
    assert "tensorflow-cpu==2.20.*" in required(checkout, Path(folders))


def test_a_source_distribution_says_nothing_of_the_tensorflow_that_was_there(
    checkout: Path, tmp_path: Path
) -> None:
    install(tmp_path / "site", "tensorflow-cpu", "2.20.0", "tensorflow")
    folder = str(tmp_path / "site")
    result = setup(checkout, "sdist", "--dist-dir", str(tmp_path), PYTHONPATH=folder)
    assert result.returncode == 0, result.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        (name,) = [name for name in files.getnames() if name.count("/PKG-INFO") == 1][:1]
        extracted = files.extractfile(name)
        assert extracted is not None
        lines = extracted.read().decode().splitlines()
    tensorflows = [line for line in lines if line.startswith("Requires-Dist: tensorflow")]
    assert [line for line in tensorflows if "extra ==" not in line] == [
        "Requires-Dist: tensorflow<2.22,>=2.20"
    ]


def pack(wheels: Path, folder: Path, files: Iterable[str], name: str) -> None:
    """A wheel of files that are installed in ``folder``."""
    with zipfile.ZipFile(wheels / f"{name}-py3-none-any.whl", "w") as wheel:
        for file in files:
            wheel.write(folder / file, file)


def wheel_of_a_stand_in(wheels: Path, name: str, version: str, module: str) -> None:
    folder = wheels / f"{name}-{version}"
    install(folder, name, version, module)
    written = f"{name.replace('-', '_')}-{version}"
    tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    (folder / f"{written}.dist-info" / "WHEEL").write_text(tags)
    files = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    pack(wheels, folder, files, written)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip may install here: setuptools, and stand-ins for the rest."""
    folder = tmp_path_factory.mktemp("wheels")
    installed = metadata.distribution("setuptools")
    files = [str(file) for file in installed.files or () if ".." not in file.parts]
    root = Path(str(installed.locate_file("")))
    pack(folder, root, files, f"setuptools-{installed.version}")
    for name, version in (("cmake", "4.0"), ("ninja", "1.11"), ("pybind11", "3.0")):
        wheel_of_a_stand_in(folder, name, version, name)
    for name in ("tensorflow", "tensorflow-cpu"):
        for version in ("2.20.0", "2.21.0"):
            wheel_of_a_stand_in(folder, name, version, "tensorflow")
    for name in ("keras", "numpy"):
        wheel_of_a_stand_in(folder, name, "9.0", name)
    return folder


@pytest.mark.parametrize(
    ("installed", "variables", "required"),
    [
        ("tensorflow-cpu==2.20.0", {}, "tensorflow-cpu==2.20.*"),
        ("tensorflow-cpu==2.21.0", {}, "tensorflow-cpu==2.21.*"),
        ("tensorflow==2.20.0", {}, "tensorflow==2.20.*"),
        (None, {}, "tensorflow==2.21.*"),
        (
            "tensorflow-cpu==2.20.0",
            {"NEGATIVE_COSINE_PYTHON_ONLY": "1"},
            "tensorflow-cpu<2.22,>=2.20",
        ),
        (
            "tensorflow-cpu==2.20.0",
            {"NEGATIVE_COSINE_TENSORFLOWS": "python2.20:python2.21"},
            'tensorflow<2.22,>=2.20; extra == "tensorflow"',
        ),
    ],
    ids=lambda value: str(value),
)
def test_an_isolated_build_is_for_the_tensorflow_that_is_installed(
    installed: str | None,
    variables: dict[str, str],
    required: str,
    wheels: Path,
    checkout: Path,
    tmp_path: Path,
) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = ("--python", str(environment / "bin" / "python"))
    index = ("--quiet", "--no-index", "--find-links", str(wheels))
    if installed:
        pip(*python, "install", *index, installed)
    report = tmp_path / "report.json"
    options = (*index, "--dry-run", "--report", str(report))
    result = pip(*python, "install", *options, str(checkout), **variables)
    assert result.returncode == 0, result.stderr
    to_install = {
        one["metadata"]["name"]: one["metadata"]
        for one in json.loads(report.read_text())["install"]
    }
    assert required in to_install["negative-cosine"]["requires_dist"]
    tensorflows = [name for name in to_install if "tensorflow" in name]
    assert tensorflows == ([] if installed else ["tensorflow"])


# --- A wheel for several releases ---------------------------------------------------------

SEVERAL = "NEGATIVE_COSINE_TENSORFLOWS"


def test_a_wheel_for_several_releases_requires_none_of_the_tensorflows(
    checkout: Path, tmp_path: Path
) -> None:
    install(tmp_path / "site", "tensorflow-cpu", "2.20.0", "tensorflow")
    found = required(checkout, tmp_path / "site", **{SEVERAL: "/some/python"})
    assert found == ["keras>=3.10", "numpy>=1.26"]


@pytest.mark.parametrize(
    "other", [("NEGATIVE_COSINE_PYTHON_ONLY", "1"), ("NEGATIVE_COSINE_TENSORFLOW", "0")]
)
def test_several_releases_of_what_is_left_out_are_refused(
    other: tuple[str, str], checkout: Path
) -> None:
    result = setup(checkout, "egg_info", **dict([other, (SEVERAL, "/some/python")]))
    assert result.returncode != 0
    message = result.stderr.strip().splitlines()[-1]
    assert message.startswith(f"{SEVERAL} names TensorFlows to build for, which")
    assert message.endswith("leave out: unset the one or the other")


def with_a_stand_in(folder: Path, version: str) -> Path:
    """A Python whose TensorFlow says that it is of some release."""
    python = folder / version
    folder.mkdir(exist_ok=True)
    python.write_text(f"#!/bin/sh\necho '{json.dumps({'TENSORFLOW_VERSION': version})}'\n")
    python.chmod(0o755)
    return python


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        (["2.20.0"], "has no TensorFlow that can be imported"),
        (["2.21.0", "2.21.1"], "of different minor releases, got those of 2.21.0, 2.21.1"),
    ],
)
def test_releases_that_cannot_be_had_are_named(
    versions: list[str], message: str, checkout: Path, tmp_path: Path
) -> None:
    pythons = [with_a_stand_in(tmp_path / "bin", version) for version in versions]
    if len(pythons) == 1:  # that is, of a Python that is not there
        pythons = [tmp_path / "no-such-python"]
    result = setup(checkout, "build_ext", **{SEVERAL: ":".join(map(str, pythons))})
    assert result.returncode != 0
    assert message in result.stderr.strip().splitlines()[-1]


# --- Tools that are too old, and tools that changed ---------------------------------------

WITH_SETUPTOOLS = """
import runpy, setuptools
setuptools.__version__ = "{version}"
setuptools.setup = lambda **arguments: print("setup was called")
runpy.run_path("setup.py")
"""


@pytest.mark.parametrize("version", ["58.1.0", "76.1.0.post1"])
def test_a_setuptools_that_is_too_old_is_refused_in_one_line(
    version: str, checkout: Path
) -> None:
    command = [sys.executable, "-c", WITH_SETUPTOOLS.format(version=version)]
    result = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert result.returncode != 0
    assert result.stdout == ""
    assert result.stderr.strip() == (
        f"the build needs setuptools>=77 and finds {version}: pip install --upgrade "
        '"setuptools>=77", or leave --no-build-isolation out'
    )


@pytest.mark.parametrize("version", ["77.0.1", "84.2.1", "100.0"])
def test_a_later_setuptools_is_taken(version: str, checkout: Path) -> None:
    command = [sys.executable, "-c", WITH_SETUPTOOLS.format(version=version)]
    result = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert result.stdout == "setup was called\n", result.stderr


def test_a_pybind11_that_is_too_old_is_refused_too(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "pybind11.py").write_text("__version__ = '2.9.2'")
    result = setup(checkout, "build_ext", PYTHONPATH=str(tmp_path))
    assert result.stderr.strip().splitlines()[-1] == (
        "the build needs pybind11>=2.13 and finds 2.9.2: pip install --upgrade "
        '"pybind11>=2.13", or leave --no-build-isolation out'
    )


CMAKE = """#!/bin/sh
while [ "$1" != -B ]; do shift; done
test -e "$2/CMakeCache.txt" && echo "keeps the compilers of before"
touch "$2/CMakeCache.txt"
exit 1
"""


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, True),
        ({"CXX": "another-compiler"}, False),
        ({"CUDACXX": "another-nvcc"}, False),
        ({"PATH": "{tools}:{nvcc}:/usr/bin:/bin"}, False),
    ],
    ids=str,
)
def test_a_build_with_other_compilers_starts_anew(
    change: dict[str, str], kept: bool, checkout: Path, tmp_path: Path
) -> None:
    tools, nvcc = tmp_path / "tools", tmp_path / "cuda"
    for program, text in ((tools / "cmake", CMAKE), (nvcc / "nvcc", "#!/bin/sh\n")):
        program.parent.mkdir()
        program.write_text(text)
        program.chmod(0o755)
    (tools / "ninja").symlink_to("/bin/true")
    usual = {"PATH": f"{tools}:/usr/bin:/bin"}
    changed = {name: value.format(tools=tools, nvcc=nvcc) for name, value in change.items()}
    for variables in (usual, {**usual, **changed}):
        result = setup(checkout, "build_ext", NEGATIVE_COSINE_TENSORFLOW="0", **variables)
    assert "the native part was not built" in result.stderr
    assert ("keeps the compilers of before" in result.stdout) == kept


def test_what_the_makefile_installs_is_what_the_package_declares() -> None:
    project = tomli.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    assert groups["build"] == project["build-system"]["requires"]
    setup = (ROOT / "setup.py").read_text()
    (tensorflow,) = re.findall(r'^TENSORFLOW = "(.*)"$', setup, re.MULTILINE)
    (others,) = re.findall(r"^REQUIREMENTS = (\[.*\])$", setup, re.MULTILINE)
    assert groups["requirements"] == [tensorflow, *ast.literal_eval(others)]
    (oldest,) = re.findall(r"^OLDEST = (.*)$", setup, re.MULTILINE)
    for tool, release in ast.literal_eval(oldest).items():
        assert f"{tool}>={release}" in groups["build"]
    # An isolated build is given the release that is installed, by setup.py.
    assert not [
        requirement for requirement in groups["build"] if "tensorflow" in requirement
    ]
    extras = project["project"]["optional-dependencies"]
    assert groups["examples"] == extras["examples"]
    # What a wheel for several releases may be installed with.
    assert extras["tensorflow"] == [tensorflow]
    assert extras["tensorflow-cpu"] == [tensorflow.replace("tensorflow", "tensorflow-cpu")]
