"""A missing, foreign or broken library: one clear warning and the reference, no crash."""

from __future__ import annotations

import dataclasses
import errno
import importlib
import importlib.metadata
import json
import platform
import re
import shutil
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import negative_cosine
import pytest
import tensorflow as tf
from negative_cosine import NegativeCosineLoss, _core, _loader, _loss
from negative_cosine import __main__ as report
from negative_cosine._build_info import PACKAGE_DIR

from tests.support.installed import (
    CORE_LIBRARY,
    LIBRARY,
    XLA_LIBRARY,
    installation,
    run_with,
)


def truncate(folder: Path, name: str = LIBRARY) -> None:
    # The dynamic loader would end the process with a bus error.
    library = folder / name
    library.write_bytes(library.read_bytes()[:-5000])


def truncate_for_xla(folder: Path) -> None:
    truncate(folder, XLA_LIBRARY)


def empty(folder: Path) -> None:
    (folder / LIBRARY).write_bytes(b"")


# What each library asks TensorFlow for: the type of its kernels.
SYMBOLS = {
    LIBRARY: b"_ZTIN10tensorflow8OpKernelE",
    XLA_LIBRARY: b"_ZTIN10tensorflow11XlaOpKernelE",
}


def missing_symbol(name: str = LIBRARY) -> str:
    """A symbol of the same length that TensorFlow does not have."""
    return SYMBOLS[name].decode().replace("KernelE", "KernalE")


def ask_for_a_missing_symbol(folder: Path, name: str = LIBRARY) -> None:
    """Has a library ask TensorFlow for what it lacks."""
    library = folder / name
    content = library.read_bytes()
    symbol = SYMBOLS[name]
    assert symbol in content
    library.write_bytes(content.replace(symbol, missing_symbol(name).encode()))


def ask_for_a_missing_symbol_for_xla(folder: Path) -> None:
    ask_for_a_missing_symbol(folder, XLA_LIBRARY)


def interrupt_the_build(folder: Path) -> None:
    # It writes this file when all else is there.
    (folder / "_build_info.json").unlink()


def build_for(version: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        info = json.loads((folder / "_build_info.json").read_text())
        (folder / "_build_info.json").write_text(
            json.dumps({**info, "tensorflow": version})
        )
        # Opening this would fail otherwise: the versions have to be compared first.
        (folder / LIBRARY).write_bytes(b"not a library")

    return change


def replace_by_another_library(folder: Path) -> None:
    shutil.copy(_core.__file__, folder / LIBRARY)


def replace_by_text(folder: Path) -> None:
    # As where large files were not fetched.
    (folder / LIBRARY).write_text("version https://git-lfs.github.com/spec/v1\n" * 5)


def rewrite(pattern: bytes, by: bytes, name: str = LIBRARY) -> Callable[[Path], None]:
    """Has a library ask for something else, of the same length."""

    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        changed, count = re.subn(pattern, by, content)
        assert count
        assert len(changed) == len(content)
        (folder / name).write_bytes(changed)

    return change


def build_for_machine(place: int, byte: int, name: str = LIBRARY) -> Callable[[Path], None]:
    """Writes into the header of a library that it is another machine's."""

    def change(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[place] = byte
        (folder / name).write_bytes(content)

    return change


HERE = platform.machine()
OTHER, NUMBER = ("x86_64", 62) if HERE == "aarch64" else ("aarch64", 183)
FOR_OTHERS = build_for_machine(18, NUMBER)
FOR_32_BITS = build_for_machine(4, 1)

BREAKAGES: list[tuple[Callable[[Path], Any], str]] = [
    (
        lambda folder: (folder / LIBRARY).unlink(),
        "library is missing: there is _build_info.json and no _negative_cosine_ops.so",
    ),
    (
        interrupt_the_build,
        "build did not finish: there is _negative_cosine_ops.so and no _build_info.json",
    ),
    (
        lambda folder: (folder / "_build_info.json").write_text("{"),
        "_build_info.json, which describes the native library, is not valid JSON",
    ),
    (truncate, "the native library cannot be opened: the file is cut short"),
    (
        lambda folder: truncate(folder, CORE_LIBRARY),
        f"the native library needs {CORE_LIBRARY}: the file is cut short",
    ),
    (
        lambda folder: (folder / CORE_LIBRARY).unlink(),
        f"the native library needs {CORE_LIBRARY}: the file cannot be read",
    ),
    (empty, "the native library cannot be opened: the file is cut short"),
    (build_for("1.15.0"), "built for TensorFlow 1.15.0 and this is TensorFlow"),
    (build_for("2.999.0"), "built for TensorFlow 2.999.0 and this is TensorFlow"),
    (replace_by_another_library, "has no op NegativeCosineLoss"),
    (ask_for_a_missing_symbol, f"undefined symbol: {missing_symbol()}"),
    (
        replace_by_text,
        "the native library cannot be opened: the file is not an ELF library",
    ),
    (FOR_OTHERS, f"the file is for 64-bit {OTHER} and this Python for 64-bit {HERE}"),
    (FOR_32_BITS, f"the file is for 32-bit {HERE} and this Python for 64-bit {HERE}"),
    (rewrite(rb"GLIBC_2\.(\d\d)", rb"GLIBC_9.\1"), "version `GLIBC_9."),
    (
        rewrite(rb"libtensorflow_framework\.so\.2", b"libtensorflow_framework.so.9"),
        "libtensorflow_framework.so.9: cannot open shared object file",
    ),
]


@pytest.mark.parametrize(("breakage", "problem"), BREAKAGES, ids=[p for _, p in BREAKAGES])
def test_a_broken_library_is_not_loaded_and_says_why(
    breakage: Callable[[Path], Any], problem: str, tmp_path: Path
) -> None:
    package = installation(tmp_path)
    breakage(package)
    library = _loader.open_library(package, tf.__version__)
    assert library.ops is None
    assert problem in library.problem
    assert "reinstall negative-cosine" in library.fix


# What reinstalling would repeat, and what helps.
OTHER_FIXES: list[tuple[Callable[[Path], Any], str, str]] = [
    (
        rewrite(rb"GLIBCXX_3\.4\.(\d\d)", rb"GLIBCXX_9.4.\1"),
        r"libstdc\+\+\.so\.6: version `GLIBCXX_9.4.\d\d' not found",
        r"conda-forge libstdcxx-ng libgcc-ng.*, or build with an older compiler.*CXX=",
    ),
    (
        rewrite(rb"CXXABI_1\.3", b"CXXABI_9.3"),
        r"libstdc\+\+\.so\.6: version `CXXABI_9.3",
        "conda-forge libstdcxx-ng",
    ),
    (
        rewrite(rb"GCC_3\.0", b"GCC_9.0"),
        r"libgcc_s\.so\.1: version `GCC_9.0' not found",
        "conda-forge libstdcxx-ng libgcc-ng",
    ),
    (
        rewrite(rb"libgcc_s\.so\.1", b"libother.so.1"),
        "libother.so.1: cannot open shared object file",
        r"package that contains libother\.so\.1 .*libother\.so\.1.*LD_LIBRARY_PATH",
    ),
]


@pytest.mark.parametrize(
    ("breakage", "problem", "fix"), OTHER_FIXES, ids=[p for _, p, _ in OTHER_FIXES]
)
def test_where_reinstalling_would_repeat_the_fault_another_fix_is_named(
    breakage: Callable[[Path], Any], problem: str, fix: str, tmp_path: Path
) -> None:
    package = installation(tmp_path)
    breakage(package)
    library = _loader.open_library(package, tf.__version__)
    assert re.search(problem, library.problem)
    assert re.search(fix, library.fix)
    assert "reinstall negative-cosine" not in library.fix


REFUSALS = [
    (PermissionError(errno.EACCES, "Permission denied"), "chmod a+r {file}"),
    (
        OSError(errno.EMFILE, "Too many open files"),
        "limit of open files of this process (ulimit -n)",
    ),
]


@pytest.mark.parametrize("name", [LIBRARY, "_build_info.json"])
@pytest.mark.parametrize(("refusal", "fix"), REFUSALS, ids=["permission", "files"])
def test_a_file_that_cannot_be_read_is_named_with_what_helps(
    refusal: OSError, fix: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody can keep root, as whom these tests may run, from reading a file.
    package = installation(tmp_path)

    def refusing(read: Callable[..., Any]) -> Callable[..., Any]:
        def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
            if path == package / name:
                raise refusal
            return read(path, *arguments, **options)

        return refuse

    monkeypatch.setattr(Path, "read_bytes", refusing(Path.read_bytes))
    monkeypatch.setattr(Path, "read_text", refusing(Path.read_text))
    library = _loader.open_library(package, tf.__version__)
    assert f"cannot be read: {refusal.strerror}" in library.problem
    assert fix.format(file=package / name) in library.fix


ON_A_MOUNT = """
mount -t tmpfs -o {options} none {folder} && cp -r {package} {folder} && cd / &&
PYTHONPATH={folder} {python} -m negative_cosine
"""


def report_on_a_mount(options: str, tmp_path: Path) -> str:
    """What is said of the package on a file system of its own."""
    folder = tmp_path / "mounted"
    folder.mkdir(parents=True)
    script = ON_A_MOUNT.format(
        options=options, folder=folder, package=PACKAGE_DIR, python=sys.executable
    )
    in_a_namespace = ("unshare", "--map-root-user", "--mount", "sh", "-c")
    if subprocess.run([*in_a_namespace, "mount -t tmpfs none /mnt"]).returncode != 0:
        pytest.skip("this system lets nobody mount a file system")
    return subprocess.run(
        [*in_a_namespace, script], check=True, capture_output=True, text=True
    ).stdout


def test_where_no_program_may_run_the_folder_is_named(tmp_path: Path) -> None:
    assert re.search("native library: +loaded", report_on_a_mount("exec", tmp_path / "1"))
    report = report_on_a_mount("noexec", tmp_path / "2")
    assert "the native library cannot be opened: " in report
    assert "failed to map segment from shared object" in report
    folder = tmp_path / "2" / "mounted" / "negative_cosine"
    assert f"To fix it, install it elsewhere: {folder} is mounted with noexec" in report


@pytest.mark.parametrize(
    ("info", "variable"),
    [
        ({"tensorflow": None}, "NEGATIVE_COSINE_TENSORFLOW=0"),
        (None, "NEGATIVE_COSINE_PYTHON_ONLY=1"),
    ],
)
def test_what_was_left_out_on_request_is_reinstalled_without_the_request(
    info: dict[str, Any] | None, variable: str, tmp_path: Path
) -> None:
    package = installation(tmp_path)
    (package / LIBRARY).unlink()
    (package / "_build_info.json").unlink()
    if info is not None:
        (package / "_build_info.json").write_text(json.dumps(info))
    library = _loader.open_library(package, tf.__version__)
    assert "reinstall negative-cosine" in library.fix
    assert library.fix.endswith(f", and without {variable}")


def test_a_patch_release_of_the_same_tensorflow_is_accepted() -> None:
    major, minor = tf.__version__.split(".")[:2]
    library = _loader.open_library(PACKAGE_DIR, f"{major}.{minor}.99")
    assert library.ops is not None


USE = """
import warnings
import numpy as np
import tensorflow as tf
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import negative_cosine
    rows = np.eye(4, 6, dtype=np.float32)
    auto = [negative_cosine.fused_negative_cosine_loss(rows, rows, 2, seed=(1, 2))
            for _ in range(3)]
ours = [str(w.message) for w in caught if "negative_cosine" in str(w.message)]
assert len(ours) == 1, ours
print(ours[0])
reference = negative_cosine.reference_negative_cosine_loss(rows, rows, 2, seed=(1, 2))
assert all(loss == reference for loss in auto)
try:
    negative_cosine.fused_negative_cosine_loss(rows, rows, 2, implementation="native")
except RuntimeError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "breakage",
    [truncate, build_for("1.15.0"), ask_for_a_missing_symbol, interrupt_the_build],
)
def test_a_user_of_a_broken_library_gets_one_warning_and_the_reference(
    breakage: Callable[[Path], Any], tmp_path: Path
) -> None:
    package = installation(tmp_path)
    breakage(package)
    warning, error = run_with(package, "-c", USE).strip().splitlines()
    assert "uses the slower reference: the native library" in warning
    assert "To fix it, reinstall negative-cosine" in warning
    assert "implementation='native' cannot run: the native library" in error


def report_of(package: Path) -> dict[str, str]:
    """What ``python -m negative_cosine`` says of a copy of the package, by topic."""
    lines = run_with(package, "-m", "negative_cosine").splitlines()
    return dict(re.split(": +", line, maxsplit=1) for line in lines)


def test_the_report_of_a_broken_library_says_why(tmp_path: Path) -> None:
    package = installation(tmp_path)
    truncate(package)
    lines = report_of(package)
    reason = "the native library cannot be opened: the file is cut short"
    assert lines["native library"].startswith(f"not loaded: {reason}. To fix it, ")
    assert lines["auto on CPU"].startswith(f"reference: {reason}. To fix it, ")


def test_a_broken_core_library_is_reported_for_all_that_need_it(tmp_path: Path) -> None:
    package = installation(tmp_path)
    truncate(package, CORE_LIBRARY)
    lines = report_of(package)
    reason = f"{CORE_LIBRARY}: the file is cut short"
    assert reason in lines["native library"]
    assert reason in lines["CPU kernels in use"]
    assert lines["auto on CPU"].startswith("reference: ")


def core_of(package: Path) -> Path:
    (core,) = package.glob("_core.*.so")
    return core


CORE_BREAKAGES: list[tuple[Callable[[Path], Any], str]] = [
    (lambda package: core_of(package).unlink(), "not known: there is no _core for Python"),
    (lambda package: truncate(package, core_of(package).name), "the file is cut short"),
    (
        lambda package: build_for_machine(18, NUMBER, core_of(package).name)(package),
        f"the file is for 64-bit {OTHER}",
    ),
]


@pytest.mark.parametrize(
    ("breakage", "problem"), CORE_BREAKAGES, ids=["missing", "truncated", "foreign"]
)
def test_a_broken_core_is_reported_and_leaves_the_op_as_it_is(
    breakage: Callable[[Path], Any], problem: str, tmp_path: Path
) -> None:
    package = installation(tmp_path)
    breakage(package)
    lines = report_of(package)
    assert problem in lines["CPU kernels in use"]
    assert lines["native library"] == "loaded"
    assert lines["auto on CPU"] == "native"


XLA_BREAKAGES: list[tuple[Callable[[Path], Any], str]] = [
    (
        lambda folder: (folder / XLA_LIBRARY).unlink(),
        "the library for XLA is missing: _negative_cosine_xla.so",
    ),
    (truncate_for_xla, "the library for XLA cannot be opened: the file is cut short"),
    (ask_for_a_missing_symbol_for_xla, f"undefined symbol: {missing_symbol(XLA_LIBRARY)}"),
    (build_for_machine(18, NUMBER, XLA_LIBRARY), f"the file is for 64-bit {OTHER}"),
]

USE_COMPILED = """
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss
from negative_cosine._loader import xla_problem
print(xla_problem())
rows = tf.eye(4, 6)
print(float(fused_negative_cosine_loss(rows, rows, 2, implementation="native")))
compiled = tf.function(fused_negative_cosine_loss, jit_compile=True)
try:
    compiled(rows, rows, 2, implementation="native")
except tf.errors.UnimplementedError as error:
    print(" ".join(str(error).split()))
"""


@pytest.mark.parametrize(
    ("breakage", "problem"), XLA_BREAKAGES, ids=[p for _, p in XLA_BREAKAGES]
)
def test_a_broken_library_for_xla_is_named_and_leaves_the_op_as_it_is(
    breakage: Callable[[Path], Any], problem: str, tmp_path: Path
) -> None:
    package = installation(tmp_path)
    breakage(package)
    reason, loss, error = run_with(package, "-c", USE_COMPILED).splitlines()
    assert problem in reason
    assert float(loss) < 1e-6
    assert "_negative_cosine_xla.so is not loaded (python -m negative_cosine" in error
    assert "To fix it, reinstall negative-cosine" in error


def left_out(reason: str) -> Callable[[Path], None]:
    """The build's word for why there is no library for compiled functions."""

    def change(folder: Path) -> None:
        info = folder / "_build_info.json"
        info.write_text(json.dumps({**json.loads(info.read_text()), "xla": reason}))

    return change


XLA_FIXES: list[tuple[Callable[[Path], Any], str]] = [
    (truncate_for_xla, "reinstall negative-cosine where a C"),
    (
        rewrite(rb"GLIBCXX_3\.4\.(\d\d)", rb"GLIBCXX_9.4.\1", XLA_LIBRARY),
        "conda-forge libstdcxx-ng",
    ),
    (left_out("NEGATIVE_COSINE_XLA=0"), "and without NEGATIVE_COSINE_XLA=0."),
    (
        left_out("TensorFlow 2.30.0 lacks what it is made of: ffi.h"),
        "compile the function (jit_compile=False), or use implementation='reference'.",
    ),
]


@pytest.mark.parametrize(("breakage", "fix"), XLA_FIXES, ids=[fix for _, fix in XLA_FIXES])
def test_the_report_says_what_would_bring_the_library_for_xla(
    breakage: Callable[[Path], Any], fix: str, tmp_path: Path
) -> None:
    package = installation(tmp_path)
    breakage(package)
    line = report_of(package)["library for compiled functions"]
    assert ". To fix it, " in line
    assert fix in line


def test_the_report_names_the_distribution_that_tensorflow_came_with() -> None:
    names = importlib.metadata.packages_distributions()["tensorflow"]
    line = dict(report.report_lines())["TensorFlow"]
    assert line.startswith(f"{tf.__version__} of {names[0]}, built with ")


def test_the_report_has_what_a_bug_report_needs() -> None:
    lines = dict(report.report_lines())
    assert lines["negative_cosine"] == negative_cosine.__version__
    assert tf.__version__ in lines["TensorFlow"]
    assert f"tensorflow {tf.__version__}" in lines["built for"]
    assert "compiler" in lines["built for"]
    assert lines["native library"] == "loaded"
    assert "device='CPU'" in lines["kernels of NegativeCosineLoss"]
    assert "device='CPU'" in lines["kernels of NegativeCosineLossGrad"]
    assert lines["CPU kernels in use"] == _core.instruction_set()
    assert lines["auto on CPU"] == "native"
    assert "GPU" in lines


def test_reloading_the_package_changes_nothing() -> None:
    importlib.reload(negative_cosine)
    rows = tf.eye(4)
    with tf.GradientTape() as tape:
        tape.watch(rows)
        loss = negative_cosine.fused_negative_cosine_loss(
            rows, rows[::-1], 2, implementation="native"
        )
    assert tape.gradient(loss, rows) is not None


def test_auto_warns_once_of_a_device_without_a_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_loss, "device_in_use", lambda: "GPU")
    monkeypatch.setattr(_loss, "cuda_problem", lambda library: "no GPU")
    _loss._warn_once.cache_clear()
    rows = tf.eye(4)
    with pytest.warns(RuntimeWarning, match="slower reference: no GPU"):
        negative_cosine.fused_negative_cosine_loss(rows, rows, sampler="all")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        negative_cosine.fused_negative_cosine_loss(rows, rows, sampler="all")


def choice_on_a_gpu(
    build_info: dict[str, Any], device_problem: str, monkeypatch: pytest.MonkeyPatch
) -> _loss.Choice:
    library = dataclasses.replace(_loader.native_library(), build_info=build_info)
    monkeypatch.setattr(_loss, "native_library", lambda: library)
    monkeypatch.setattr(_loader, "_probe_device", lambda path: device_problem)
    return _loss.choose_implementation("GPU")


WITH_CUDA = {"cuda": "13.0", "devices": "the CPU and CUDA 13.0"}
WITHOUT_NVCC = {"cuda": None, "devices": "the CPU only: no CUDA compiler was found"}


def test_on_a_gpu_auto_takes_the_native_op_if_it_has_a_kernel_for_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert choice_on_a_gpu(WITH_CUDA, "", monkeypatch).native


def test_without_cuda_kernels_the_build_says_why_and_nvcc_would_help(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: True)
    choice = choice_on_a_gpu(WITHOUT_NVCC, "", monkeypatch)
    assert choice.problem == (
        "the native library was built without CUDA kernels: no CUDA compiler was found"
    )
    assert "NEGATIVE_COSINE_CUDA=1" in choice.fix
    assert "tf.device('CPU')" in choice.fix


# As csrc/cuda/device_status.cu says them: each with what helps.
DEVICE_PROBLEMS = [
    "the machine's NVIDIA driver is for CUDA 12.4 and too old for CUDA 13.0, which the "
    "CUDA kernels were built with: install driver 580 or later, or build again with the "
    "toolkit of CUDA 12",
    "the CUDA kernels were built for the architectures 80-real,90 and this device has "
    "compute capability 6.1, older than 7.5: place the loss on the CPU, or use the "
    "reference",
    "no CUDA device was found",
]


@pytest.mark.parametrize("problem", DEVICE_PROBLEMS, ids=["driver", "old GPU", "none"])
def test_a_fault_of_the_device_is_not_answered_by_nvcc(
    problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = choice_on_a_gpu(WITH_CUDA, problem, monkeypatch)
    assert choice.problem == problem
    assert "nvcc" not in choice.fix
    assert choice.fix == (
        "place the loss on the CPU with tf.device('CPU'), or use "
        "implementation='reference' to accept it"
    )


def test_a_gpu_that_is_not_for_cuda_is_not_answered_by_nvcc(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # ROCm's and Apple's are called GPU too.
    monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: False)
    choice = choice_on_a_gpu(WITHOUT_NVCC, "", monkeypatch)
    assert "nvcc" not in choice.fix


@pytest.mark.parametrize(
    ("implementation", "compiles"),
    [("auto", False), ("native", False), ("reference", True)],
)
def test_without_the_library_for_xla_a_layer_compiles_only_the_reference(
    implementation: str, compiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_loss, "xla_kernel_available", lambda: False)
    layer = NegativeCosineLoss(5, implementation=implementation)
    assert layer.supports_jit is compiles


def test_a_layer_compiles_where_auto_takes_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_loss, "xla_kernel_available", lambda: False)
    monkeypatch.setattr(_loss, "device_in_use", lambda: "GPU")
    monkeypatch.setattr(_loss, "cuda_problem", lambda library: "no GPU")
    assert NegativeCosineLoss(5).supports_jit
    assert not NegativeCosineLoss(5, implementation="native").supports_jit


def test_the_report_says_what_auto_takes_on_each_kind_of_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    physical = [tf.config.PhysicalDevice(f"{kind}:0", kind) for kind in ("CPU", "TPU")]
    monkeypatch.setattr(
        tf.config,
        "list_physical_devices",
        lambda kind=None: [one for one in physical if kind in (None, one.device_type)],
    )
    lines = dict(report.report_lines())
    assert lines["auto on CPU"] == "native"
    assert lines["auto on TPU"].startswith("reference: the native library has no kernel")
    assert ". To fix it, place the loss on the CPU" in lines["auto on TPU"]
    assert "auto on GPU" not in lines


SERVER = """
import sys
import tensorflow as tf
{imports}
tf.distribute.Server({{"worker": [sys.argv[1]]}}, job_name="worker", task_index=0)
print("serves", flush=True)
sys.stdin.read()
"""

CLIENT = """
import sys
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss
cluster = tf.train.ClusterSpec({"worker": [sys.argv[1]]})
tf.config.experimental_connect_to_cluster(cluster, job_name="chief")
loss = tf.function(fused_negative_cosine_loss, autograph=False)
with tf.device("/job:worker/task:0/device:CPU:0"):
    print(loss(tf.eye(4), tf.eye(4), 2, implementation="native").device)
"""


@pytest.mark.parametrize(
    ("imports", "output"),
    [
        ("", "Op type not registered 'NegativeCosineLoss'"),
        ("import negative_cosine", "/job:worker/replica:0/task:0/device:CPU:0"),
    ],
    ids=["bare", "imports"],
)
def test_a_server_runs_the_op_if_it_has_imported_the_package(
    imports: str, output: str
) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    program = SERVER.format(imports=imports)
    with subprocess.Popen(
        [sys.executable, "-c", program, address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "serves\n"
        client = subprocess.run(
            [sys.executable, "-c", CLIENT, address], capture_output=True, text=True
        )
        server.kill()
    assert output in client.stdout + client.stderr
