"""A missing, foreign or broken library: one clear warning and the reference, no crash."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import negative_cosine
import pytest
import tensorflow as tf
from installed import LIBRARY, XLA_LIBRARY, installation, run_with
from negative_cosine import NegativeCosineLoss, _core, _loader
from negative_cosine import __main__ as report
from negative_cosine._build_info import PACKAGE_DIR
from negative_cosine._loss import choose_implementation


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
        "_build_info.json, which describes the native library, is no JSON",
    ),
    (truncate, "the native library cannot be opened: the file is cut short"),
    (empty, "the native library cannot be opened: the file is cut short"),
    (build_for("1.15.0"), "built for TensorFlow 1.15.0 and this is TensorFlow"),
    (build_for("2.999.0"), "built for TensorFlow 2.999.0 and this is TensorFlow"),
    (replace_by_another_library, "has no op NegativeCosineLoss"),
    (ask_for_a_missing_symbol, f"undefined symbol: {missing_symbol()}"),
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
    assert lines["auto on CPU"] == f"reference: {reason}"


def core_of(package: Path) -> Path:
    (core,) = package.glob("_core.*.so")
    return core


CORE_BREAKAGES: list[tuple[Callable[[Path], Any], str]] = [
    (lambda package: core_of(package).unlink(), "not known: there is no _core for Python"),
    (lambda package: truncate(package, core_of(package).name), "is cut short"),
]


@pytest.mark.parametrize(
    ("breakage", "problem"), CORE_BREAKAGES, ids=["missing", "truncated"]
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
    from negative_cosine import _loss

    monkeypatch.setattr(_loss, "runs_on_gpu", lambda: True)
    monkeypatch.setattr(_loss, "cuda_problem", lambda library: "no GPU")
    _loss._warn_once.cache_clear()
    rows = tf.eye(4)
    with pytest.warns(RuntimeWarning, match="slower reference: no GPU"):
        negative_cosine.fused_negative_cosine_loss(rows, rows, sampler="all")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        negative_cosine.fused_negative_cosine_loss(rows, rows, sampler="all")


@pytest.mark.parametrize(
    ("cuda", "device_problem", "problem"),
    [
        ("13.0", "", ""),
        (None, "", "the native library was built without CUDA kernels"),
        ("13.0", "the driver is too old", "the driver is too old"),
    ],
)
def test_on_a_gpu_auto_takes_the_native_op_if_it_has_a_kernel_for_the_device(
    cuda: str | None, device_problem: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from negative_cosine import _loss

    library = _loader.native_library()
    built = dataclasses.replace(library, build_info={"cuda": cuda})
    monkeypatch.setattr(_loss, "native_library", lambda: built)
    monkeypatch.setattr(_loader, "_probe_device", lambda path: device_problem)
    choice = choose_implementation(on_gpu=True)
    assert choice.native == (problem == "")
    assert choice.problem == problem
    if problem:
        assert "NEGATIVE_COSINE_CUDA=1" in choice.fix


@pytest.mark.parametrize(
    ("implementation", "compiles"),
    [("auto", False), ("native", False), ("reference", True)],
)
def test_without_the_library_for_xla_a_layer_compiles_only_the_reference(
    implementation: str, compiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from negative_cosine import _loss

    monkeypatch.setattr(_loss, "xla_kernel_available", lambda: False)
    layer = NegativeCosineLoss(5, implementation=implementation)
    assert layer.supports_jit is compiles


def test_a_layer_compiles_where_auto_takes_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from negative_cosine import _loss

    monkeypatch.setattr(_loss, "xla_kernel_available", lambda: False)
    monkeypatch.setattr(_loss, "runs_on_gpu", lambda: True)
    monkeypatch.setattr(_loss, "cuda_problem", lambda library: "no GPU")
    assert NegativeCosineLoss(5).supports_jit
    assert not NegativeCosineLoss(5, implementation="native").supports_jit


def test_in_a_graph_the_device_scope_says_where_the_loss_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from negative_cosine._loss import runs_on_gpu

    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["a GPU"])
    found = {}

    def trace(rows: tf.Tensor) -> tf.Tensor:
        found["no scope"] = runs_on_gpu()
        with tf.device("CPU"):
            found["CPU"] = runs_on_gpu()
        with tf.device("GPU:0"):
            found["GPU"] = runs_on_gpu()
        return rows

    tf.function(trace, autograph=False).get_concrete_function(tf.TensorSpec([2, 2]))
    assert found == {"no scope": True, "CPU": False, "GPU": True}
