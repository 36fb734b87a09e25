"""Builds the native part with CMake; everything else is in pyproject.toml.

Environment variables:
    NEGATIVE_COSINE_JOBS                parallel compilations (default: all processors)
    NEGATIVE_COSINE_CUDA                1: require CUDA kernels, 0: none, unset: if possible
    NEGATIVE_COSINE_CUDA_ARCHITECTURES  such as "80-real;90" (default: this machine's GPUs,
                                        or all from 75 on where there is none)
    NEGATIVE_COSINE_TENSORFLOW          0: the NumPy modules alone, TensorFlow or not
    NEGATIVE_COSINE_TENSORFLOWS         Pythons, with ":" between them: libraries for the
                                        TensorFlow of each of them, see `make wheel`
    NEGATIVE_COSINE_TEST_DIR            a folder for modules that tests need: `make bare`
    NEGATIVE_COSINE_XLA                 0: no library for compiled functions
    NEGATIVE_COSINE_PYTHON_ONLY         1: no compiler, reference implementation only
    NEGATIVE_COSINE_WARNINGS_AS_ERRORS  1: a compiler's warning ends the build
    NEGATIVE_COSINE_SANITIZE            address: the core under AddressSanitizer and
                                        UndefinedBehaviorSanitizer, see `make asan`;
                                        thread: under ThreadSanitizer
"""

import importlib.util
import json
import os
import re
import shutil
import site
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path, PurePosixPath

import setuptools
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent.resolve()

# The releases of TensorFlow that the sources fit: tools/version_matrix.csv has them.
TENSORFLOW = "tensorflow>=2.20,<2.22"
REQUIREMENTS = ["keras>=3.10", "numpy>=1.26"]
NUMPY = REQUIREMENTS[-1]
# Tools whose own words for it are a page: an older setuptools knows no licence by its name.
OLDEST = {"setuptools": "77", "pybind11": "2.13"}

# What CMake finds once, and keeps while its folder is there.
COMPILERS = ("c++", "g++", "clang++", "nvcc")
COMPILER_VARIABLES = (
    "CC",
    "CXX",
    "CXXFLAGS",
    "LDFLAGS",
    "CUDACXX",
    "CUDAFLAGS",
    "CUDAHOSTCXX",
)


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
    """What an installation of what is built here needs.

    Each module by the name that it was installed by: tensorflow-cpu, tf-nightly and others
    hold the same module as tensorflow, which pip would put over theirs.
    """
    if not with_tensorflow:
        return [NUMPY]
    if pythons_of_releases:  # of a TensorFlow that is there nothing is known
        return REQUIREMENTS
    if "sdist" in sys.argv:  # nothing is built
        return [TENSORFLOW, *REQUIREMENTS]
    needed = [required_tensorflow(), *map(kept, REQUIREMENTS)]
    return [requirement for requirement in needed if requirement]


def required_tensorflow() -> str:
    """The releases of TensorFlow that what is built here runs with.

    Libraries run with the minor release that they were built with, and no other.
    """
    folders = installation_folders() if python_only else sys.path
    found = provider("tensorflow", folders)
    if found is None or (python_only and is_tried(found)):
        return kept(TENSORFLOW)
    return kept("tensorflow") and kept("tensorflow") + release(found)


def required_to_build() -> list[str]:
    """The TensorFlow that an isolated build is given: the release that is installed.

    Only such a build is asked, by setuptools.build_meta. Run by hand, setuptools would
    fetch it as an egg.
    """
    is_asked = "setuptools.build_meta" in sys.modules
    if python_only or not with_tensorflow or pythons_of_releases or not is_asked:
        return []
    if find_module("tensorflow", sys.path):
        return []
    installed = provider("tensorflow", installation_folders())
    return [name_of(installed) + release(installed) if installed else TENSORFLOW]


def kept(requirement: str) -> str:
    """A requirement that leaves the module as it is installed, under whatever name.

    "" for a module that is there without a name: pip can only put another over it.
    """
    module = re.split("[=<>]", requirement)[0]
    folders = installation_folders()
    if find_module(module, folders) is None:
        return requirement
    installed = provider(module, folders)
    return name_of(installed) + requirement.removeprefix(module) if installed else ""


def installation_folders() -> Sequence[str]:
    """Where Python looks for packages in the environment that this one goes into.

    pip's isolated build runs that environment's Python and hides these folders from it.
    """
    folders = site.getsitepackages()
    if not set(folders).isdisjoint(sys.path):
        return sys.path
    in_venv = sys.prefix != sys.base_prefix
    return folders if in_venv else [site.getusersitepackages(), *folders]


def find_module(module: str, folders: Sequence[str]) -> Path | None:
    """The file of a module in the first of the folders that has it."""
    spec = PathFinder.find_spec(module, folders)
    return Path(spec.origin) if spec and spec.origin else None


def provider(module: str, folders: Sequence[str]) -> metadata.Distribution | None:
    """The distribution that a module came with, preferably the one of the same name."""
    origin = find_module(module, folders)
    found = [
        distribution
        for distribution in metadata.distributions(path=[*folders])
        if Path(str(distribution.locate_file(f"{module}/__init__.py"))) == origin
        and provides(distribution, module)
    ]
    found.sort(key=lambda one: (name_of(one) != module, name_of(one)))
    if module == "tensorflow":
        refuse_several_releases(found)
    return found[0] if found else None


def provides(distribution: metadata.Distribution, module: str) -> bool:
    """Whether a distribution holds a top-level module."""
    declared = (distribution.read_text("top_level.txt") or "").split()
    files = () if declared else distribution.files or ()
    return module in declared or PurePosixPath(module, "__init__.py") in files


def refuse_several_releases(found: Sequence[metadata.Distribution]) -> None:
    """Ends the build where the files of several releases are mixed."""
    if len({release(distribution) for distribution in found}) < 2:
        return
    names = [name_of(distribution) for distribution in found]
    both = " and ".join(f"{name_of(one)} {one.version}" for one in found)
    raise SystemExit(
        f"{both} are installed and overwrite each other's files: pip uninstall "
        f"{' '.join(names)}, then install the one that you want"
    )


def name_of(distribution: metadata.Distribution) -> str:
    """Its name as pip writes it: in METADATA it may be tensorflow_cpu."""
    return re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()


def release(distribution: metadata.Distribution) -> str:
    """The releases that go with libraries built for this one."""
    version = distribution.version
    if re.search(r"(a|b|c|rc|dev)\d", version.partition("+")[0]):
        return f"=={version}"
    major, minor = minor_release(version)
    return f"=={major}.{minor}.*"


def is_tried(tensorflow: metadata.Distribution) -> bool:
    """Whether it is one of the releases that the sources fit."""
    oldest, first_untried = (minor_release(bound) for bound in TENSORFLOW.split(","))
    return oldest <= minor_release(tensorflow.version) < first_untried


def minor_release(version: str) -> list[int]:
    """Such as [2, 20]."""
    return [int(number) for number in re.findall(r"\d+", version)[:2]]


def check_age(tool: str, version: str) -> None:
    """Ends the build if a tool is too old for it."""
    wanted = f"{tool}>={OLDEST[tool]}"
    if minor_release(version) < minor_release(OLDEST[tool]):
        raise SystemExit(
            f"the build needs {wanted} and finds {version}: pip install --upgrade "
            f'"{wanted}", or leave --no-build-isolation out'
        )


def check_tools() -> None:
    """Ends the build if a tool is missing: pip installs none for --no-build-isolation."""
    missing = [name for name in ("cmake", "ninja") if shutil.which(name) is None]
    uses_tensorflow = with_tensorflow and not pythons_of_releases
    modules = ("pybind11", "tensorflow") if uses_tensorflow else ("pybind11",)
    missing += [name for name in modules if not importlib.util.find_spec(name)]
    if missing:
        raise SystemExit(
            f"the build needs {', '.join(missing)}: pip install {' '.join(missing)}, or "
            "leave --no-build-isolation out"
        )
    import pybind11

    check_age("pybind11", pybind11.__version__)


def run(command: list[str]) -> None:
    """Runs CMake, whose own words on a failure are all that a user needs."""
    if subprocess.run(command).returncode != 0:
        raise SystemExit("the native part was not built: the reason is above")


def prepare(build: Path) -> None:
    """Makes CMake's folder, anew if it is for other compilers: it does not look again."""
    found = {name: os.environ.get(name) for name in COMPILER_VARIABLES}
    found |= {name: shutil.which(name) for name in COMPILERS}
    record = build / "compilers.json"
    if record.exists() and json.loads(record.read_text()) != found:
        shutil.rmtree(build)
    build.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(found))


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
        prepare(build)
        remove_built(output)
        compile_all = ["cmake", "--build", str(build), "--parallel", jobs]
        *others, last = releases() if with_tensorflow else [{}]
        for release in others:
            self.configure(build, output, release)
            run([*compile_all, "--target", "ops", "xla_calls"])
        self.configure(build, output, last)
        run(compile_all)

    def configure(self, build: Path, output: Path, release: dict[str, str]) -> None:
        """Has CMake prepare a build for a release of TensorFlow."""
        definitions = {**self.definitions(output), **release}
        options = [f"-D{name}={value}" for name, value in definitions.items()]
        run(["cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja", *options])

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
            "NEGATIVE_COSINE_PROBES": str("bdist_wheel" not in sys.argv),
            "CMAKE_COMPILE_WARNING_AS_ERROR": str(
                bool(environment_flag("NEGATIVE_COSINE_WARNINGS_AS_ERRORS"))
            ),
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
            **(test_definitions() if os.environ.get("NEGATIVE_COSINE_TEST_DIR") else {}),
        }


def releases() -> list[dict[str, str]]:
    """CMake's variables for each TensorFlow that libraries are built for."""
    found = [*map(tensorflow_definitions, pythons_of_releases or [sys.executable])]
    versions = [one["TENSORFLOW_VERSION"] for one in found]
    names = [".".join(map(str, minor_release(version))) for version in versions]
    if len({*names}) < len(names):
        raise SystemExit(
            "NEGATIVE_COSINE_TENSORFLOWS must name Pythons with TensorFlows of different "
            f"minor releases, got those of {', '.join(versions)}"
        )
    several = ";".join(versions) if pythons_of_releases else ""
    for name, one in zip(names, found, strict=True):
        one["NEGATIVE_COSINE_RELEASES"] = several
        one["NEGATIVE_COSINE_RELEASE_SUFFIX"] = f".tf{name}" if several else ""
    return found


def tensorflow_definitions(python: str) -> dict[str, str]:
    """What cmake/tensorflow_definitions.py says of the TensorFlow of a Python."""
    command = [python, str(ROOT / "cmake" / "tensorflow_definitions.py")]
    try:
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(
            f"{python} has no TensorFlow that can be imported: {error}"
        ) from None
    return dict(json.loads(output.stdout.splitlines()[-1]))


def test_definitions() -> dict[str, str]:
    """CMake's variables for the modules that tests need."""
    folder = Path(os.environ["NEGATIVE_COSINE_TEST_DIR"]).resolve()
    definitions = {"NEGATIVE_COSINE_TEST_DIR": str(folder)}
    if importlib.util.find_spec("jax"):
        import jax

        definitions["XLA_FFI_INCLUDE_DIR"] = jax.ffi.include_dir()
    return definitions


check_age("setuptools", setuptools.__version__)
python_only = environment_flag("NEGATIVE_COSINE_PYTHON_ONLY")
with_tensorflow = environment_flag("NEGATIVE_COSINE_TENSORFLOW") is not False
if python_only and not with_tensorflow:
    raise SystemExit(
        "NEGATIVE_COSINE_PYTHON_ONLY=1 leaves out the NumPy modules and "
        "NEGATIVE_COSINE_TENSORFLOW=0 all else: set one of them"
    )
pythons_of_releases = [
    python
    for python in os.environ.get("NEGATIVE_COSINE_TENSORFLOWS", "").split(":")
    if python
]
if pythons_of_releases and (python_only or not with_tensorflow):
    raise SystemExit(
        "NEGATIVE_COSINE_TENSORFLOWS names TensorFlows to build for, which "
        "NEGATIVE_COSINE_PYTHON_ONLY=1 and NEGATIVE_COSINE_TENSORFLOW=0 leave out: unset "
        "the one or the other"
    )
setup(
    setup_requires=required_to_build(),
    install_requires=requirements(),
    ext_modules=[] if python_only else [CMakeExtension("negative_cosine._core")],
    cmdclass={"build_ext": CMakeBuild, "build_py": BuildPython},
)
