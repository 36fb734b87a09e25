"""Builds the native part with CMake; everything else stands in pyproject.toml.

Environment variables:
    NEGATIVE_COSINE_JOBS                parallel compilations (default: all processors)
    NEGATIVE_COSINE_CUDA                1: require CUDA kernels, 0: none, unset: if possible
    NEGATIVE_COSINE_CUDA_ARCHITECTURES  such as "80-real;90" (default: this machine's GPUs,
                                        or all from 75 on where there is none)
    NEGATIVE_COSINE_TENSORFLOW          0: the NumPy modules alone, TensorFlow or not
    NEGATIVE_COSINE_TEST_DIR            a folder for modules that tests need: `make bare`
    NEGATIVE_COSINE_XLA                 0: no library for compiled functions
    NEGATIVE_COSINE_PYTHON_ONLY         1: no compiler, reference implementation only
    NEGATIVE_COSINE_WARNINGS_AS_ERRORS  1: a compiler's warning ends the build
    NEGATIVE_COSINE_SANITIZE            address: the core under AddressSanitizer and
                                        UndefinedBehaviorSanitizer, see `make asan`;
                                        thread: under ThreadSanitizer
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent.resolve()

# The releases of TensorFlow that the sources fit: tests/version_matrix.csv has them.
TENSORFLOW = "tensorflow>=2.20,<2.22"
REQUIREMENTS = ["keras>=3.10", "numpy>=1.26"]
NUMPY = REQUIREMENTS[-1]


def environment_flag(name: str) -> bool | None:
    """The variable as True or False, or None where it is unset."""
    value = os.environ.get(name, "")
    if value in ("", "0", "1"):
        return {"": None, "0": False, "1": True}[value]
    raise SystemExit(f"{name} must be 0, 1 or unset, got {value!r}")


def sanitizer() -> str:
    """The sanitizer that the libraries are built for, or "" for none."""
    name = os.environ.get("NEGATIVE_COSINE_SANITIZE", "")
    if name in ("", "address", "thread"):
        return name
    raise SystemExit(
        f"NEGATIVE_COSINE_SANITIZE must be address, thread or unset, got {name!r}"
    )


def requirements() -> list[str]:
    """What an installation of what is built here needs."""
    if not with_tensorflow:
        return [NUMPY]
    return [required_tensorflow(not python_only), *REQUIREMENTS]


def required_tensorflow(with_libraries: bool) -> str:
    """The releases of TensorFlow that what is built here runs with.

    Libraries run with the minor release that they were built with, and no other.
    """
    try:
        major, minor, *_ = metadata.version("tensorflow").split(".")
    except metadata.PackageNotFoundError:
        return TENSORFLOW  # a source distribution, or TensorFlow by another name
    return f"tensorflow=={major}.{minor}.*" if with_libraries else TENSORFLOW


def check_tools() -> None:
    """Ends the build if a tool is missing: pip installs none for --no-build-isolation."""
    missing = [name for name in ("cmake", "ninja") if shutil.which(name) is None]
    modules = ("pybind11", "tensorflow") if with_tensorflow else ("pybind11",)
    missing += [name for name in modules if not importlib.util.find_spec(name)]
    if missing:
        raise SystemExit(
            f"the build needs {', '.join(missing)}: pip install {' '.join(missing)}, or "
            "leave --no-build-isolation out"
        )


def run(command: list[str]) -> None:
    """Runs CMake, whose own words on a failure are all that a user needs."""
    if subprocess.run(command).returncode != 0:
        raise SystemExit("the native part was not built: the reason stands above")


def remove_built(folder: Path) -> None:
    """Removes what an earlier build left, perhaps one with CUDA or for another Python."""
    for pattern in ("*.so", "_build_info.json"):
        for old in folder.glob(pattern):
            old.unlink()


class BuildPython(build_py):
    """Copies the Python files alone: the libraries come from the build."""

    def run(self) -> None:
        """Copies into a folder without an earlier build's libraries."""
        if not self.editable_mode:
            remove_built(Path(self.build_lib) / "negative_cosine")
        super().run()


class CMakeExtension(Extension):
    """An extension whose sources CMakeLists.txt names."""

    def __init__(self, name: str) -> None:
        super().__init__(name, sources=[])


class CMakeBuild(build_ext):
    """Configures and builds with CMake into the package's folder."""

    def build_extension(self, ext: Extension) -> None:
        """Writes the libraries and _build_info.json where the extension belongs."""
        check_tools()
        jobs = os.environ.get("NEGATIVE_COSINE_JOBS") or str(os.cpu_count() or 1)
        if not jobs.isdecimal() or int(jobs) < 1:
            raise SystemExit(f"NEGATIVE_COSINE_JOBS must be a number above 0, got {jobs!r}")
        output = Path(self.get_ext_fullpath(ext.name)).parent.resolve()
        build = Path(self.build_temp).resolve()
        output.mkdir(parents=True, exist_ok=True)
        build.mkdir(parents=True, exist_ok=True)
        remove_built(output)
        configure = ["cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja"]
        configure += [
            f"-D{name}={value}" for name, value in self.definitions(output).items()
        ]
        run(configure)
        run(["cmake", "--build", str(build), "--parallel", jobs])

    def copy_extensions_to_source(self) -> None:
        """For an editable install: the libraries go beside the Python files."""
        package = Path("negative_cosine")
        source = ROOT / "python" / package
        remove_built(source)
        built = Path(self.build_lib) / package
        # _build_info.json last: libraries without it are those of half a build.
        for path in (*built.glob("*.so"), built / "_build_info.json"):
            shutil.copy2(path, source / path.name)

    def definitions(self, output: Path) -> dict[str, str]:
        """CMake's variables: the interpreter, TensorFlow's flags and the user's choices."""
        import pybind11

        cuda = {True: "ON", False: "OFF", None: "AUTO"}
        return {
            "NEGATIVE_COSINE_OUTPUT_DIR": str(output),
            "NEGATIVE_COSINE_VERSION": self.distribution.get_version(),
            "NEGATIVE_COSINE_CUDA": cuda[environment_flag("NEGATIVE_COSINE_CUDA")],
            "NEGATIVE_COSINE_XLA": str(
                environment_flag("NEGATIVE_COSINE_XLA") is not False
            ),
            "NEGATIVE_COSINE_CUDA_ARCHITECTURES": os.environ.get(
                "NEGATIVE_COSINE_CUDA_ARCHITECTURES", ""
            ),
            "NEGATIVE_COSINE_SANITIZE": sanitizer(),
            "NEGATIVE_COSINE_TENSORFLOW": str(with_tensorflow),
            "CMAKE_COMPILE_WARNING_AS_ERROR": str(
                bool(environment_flag("NEGATIVE_COSINE_WARNINGS_AS_ERRORS"))
            ),
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
            **(tensorflow_definitions() if with_tensorflow else {}),
            **(test_definitions() if os.environ.get("NEGATIVE_COSINE_TEST_DIR") else {}),
        }


def tensorflow_definitions() -> dict[str, str]:
    """CMake's variables that say how TensorFlow was compiled, and where it is."""
    import tensorflow as tf

    flags = tf.sysconfig.get_compile_flags()
    definitions = [flag[2:] for flag in flags if flag.startswith("-D")]
    standards = [flag.split("++")[1] for flag in flags if flag.startswith("--std=c++")]
    return {
        "TENSORFLOW_VERSION": tf.__version__,
        "TENSORFLOW_INCLUDE_DIR": tf.sysconfig.get_include(),
        "TENSORFLOW_LIBRARY_DIR": tf.sysconfig.get_lib(),
        "TENSORFLOW_DEFINITIONS": ";".join(definitions),
        "TENSORFLOW_CXX_STANDARD": standards[0] if standards else "17",
    }


def test_definitions() -> dict[str, str]:
    """CMake's variables for the modules that tests need."""
    folder = Path(os.environ["NEGATIVE_COSINE_TEST_DIR"]).resolve()
    definitions = {"NEGATIVE_COSINE_TEST_DIR": str(folder)}
    if importlib.util.find_spec("jax"):
        import jax

        definitions["XLA_FFI_INCLUDE_DIR"] = jax.ffi.include_dir()
    return definitions


python_only = environment_flag("NEGATIVE_COSINE_PYTHON_ONLY")
with_tensorflow = environment_flag("NEGATIVE_COSINE_TENSORFLOW") is not False
if python_only and not with_tensorflow:
    raise SystemExit(
        "NEGATIVE_COSINE_PYTHON_ONLY=1 leaves out the NumPy modules and "
        "NEGATIVE_COSINE_TENSORFLOW=0 all else: set one of them"
    )
setup(
    install_requires=requirements(),
    ext_modules=[] if python_only else [CMakeExtension("negative_cosine._core")],
    cmdclass={"build_ext": CMakeBuild, "build_py": BuildPython},
)
