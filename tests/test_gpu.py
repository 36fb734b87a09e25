"""The op on a GPU: what can be seen of it on any machine, and what needs the device."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from cases import (
    DTYPES,
    SHAPES,
    Batch,
    assert_gradients_close,
    assert_values_close,
    run_loss,
    run_oracle,
)
from negative_cosine import _loader, fused_negative_cosine_loss

LIBRARY = _loader.native_library()
OPS = ("NegativeCosineLoss", "NegativeCosineLossGrad")
OPTIONS = sorted(Batch((2, 2, 2, 1), "float32").options)

built_with_cuda = pytest.mark.skipif(
    not (LIBRARY.build_info or {}).get("cuda"),
    reason="the package was built without nvcc, so without CUDA kernels",
)


def registered_devices(op: str, dtype: tf.DType) -> set[str]:
    """The devices for which TensorFlow's registry has a kernel of ``op``."""
    from tensorflow.python.framework import kernels

    found = set()
    for kernel in kernels.get_registered_kernels_for_op(op).kernel:
        allowed = [c.allowed_values.list.type for c in kernel.constraint if c.name == "T"]
        if all(dtype.as_datatype_enum in types for types in allowed):
            found.add(kernel.device_type)
    return found


@built_with_cuda
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_the_library_registers_a_gpu_kernel_for_every_dtype(op: str, dtype: str) -> None:
    assert registered_devices(op, tf.as_dtype(dtype)) == {"CPU", "GPU"}


@built_with_cuda
def test_the_library_is_loaded_where_there_is_no_driver() -> None:
    # This process has opened it; it must not be the driver's doing.
    assert LIBRARY.ops is not None
    needed = subprocess.run(
        ["ldd", str(LIBRARY.path)], check=True, capture_output=True, text=True
    ).stdout
    assert "libcuda.so" not in needed
    assert "libcudart" not in needed


@built_with_cuda
def test_without_a_device_the_cuda_module_says_so() -> None:
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    from negative_cosine import _cuda_core

    assert "CUDA" in _loader.cuda_problem(LIBRARY)
    with pytest.raises(RuntimeError, match="no CUDA device was found"):
        _cuda_core.device_info()
    rows = np.ones((3, 4), np.float32)
    with pytest.raises(RuntimeError, match="device"):
        _cuda_core.negative_cosine_loss(rows, rows, num_negatives=2, seed=np.array([1, 2]))


@built_with_cuda
def test_the_build_says_which_cuda_it_has() -> None:
    info = json.loads((LIBRARY.path.parent / "_build_info.json").read_text())
    assert info["cuda"].count(".") >= 1
    assert info["cuda_architectures"]


def on_gpu(
    batch: Batch, source: str, options: dict[str, Any], mode: str = "eager"
) -> dict[str, Any]:
    """The native op's results on the first GPU."""
    with tf.device("GPU:0"):
        return run_loss(batch, source, options, "native", mode)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", ["shuffle", "indices"])
@pytest.mark.parametrize("shape", [*SHAPES, (300, 310, 256, 64), (64, 70, 2048, 40)])
def test_on_a_gpu_every_shape_and_dtype_matches_the_oracle(
    shape: tuple[int, int, int, int], source: str, dtype: str, mode: str
) -> None:
    batch = Batch(shape, dtype)
    expected = run_oracle(batch, source, {})
    results = on_gpu(batch, source, {}, mode)
    assert_values_close(results, expected, dtype)
    reference = run_loss(batch, source, {}, "reference")
    assert_gradients_close(results, expected, dtype, reference)


@pytest.mark.gpu
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("source", ["shuffle", "indices"])
def test_on_a_gpu_each_option_matches_the_oracle(option: str, source: str) -> None:
    batch = Batch((257, 300, 100, 31), "float32")
    options = batch.only(option)
    expected = run_oracle(batch, source, options)
    results = on_gpu(batch, source, options)
    assert_values_close(results, expected, "float32")
    assert_gradients_close(results, expected, "float32")


@pytest.mark.gpu
@pytest.mark.parametrize("source", ["shuffle", "indices"])
def test_on_a_gpu_two_runs_give_the_same_bits(source: str) -> None:
    batch = Batch((2048, 2100, 128, 50), "bfloat16")
    first, second = (on_gpu(batch, source, {}) for _ in range(2))
    for name, values in first.items():
        assert values.tobytes() == second[name].tobytes(), name


@pytest.mark.gpu
def test_on_a_gpu_an_index_outside_the_documents_is_dropped() -> None:
    batch = Batch((37, 41, 16, 5), "float32")
    batch.indices[7] = [-1, 41, 2**40, -(2**62), 7]
    results = on_gpu(batch, "indices", {})
    assert results["num_kept"][7] == 0
    assert results["row_loss"][7] == 0


@pytest.mark.gpu
@pytest.mark.parametrize("sampler", ["ring", "all"])
def test_on_a_gpu_native_refuses_samplers_without_a_kernel(sampler: str) -> None:
    with tf.device("GPU:0"), pytest.raises(RuntimeError, match="no native kernel"):
        fused_negative_cosine_loss(
            tf.eye(4),
            tf.eye(4),
            None if sampler == "all" else 2,
            sampler=sampler,
            implementation="native",
        )


@pytest.mark.gpu
def test_on_a_gpu_rows_beyond_two_gigabytes_are_found() -> None:
    rows, dim = 1_200_000, 512  # 2.3 GB of float32 a matrix
    with tf.device("GPU:0"):
        query = tf.random.stateless_normal([rows, dim], seed=(1, 2))
        _, stats = fused_negative_cosine_loss(
            query, query, 4, seed=(1, 2), return_stats=True, implementation="native"
        )
        loss = tf.reduce_mean(stats.row_loss[-1000:])
    assert abs(float(tf.reduce_min(stats.positive_cosine)) - 1) < 1e-5
    # Positives of cosine 1 against four others of cosine 0 or so: log(1 + 4 e^-20).
    assert 0 < float(loss) < 1e-6


@pytest.mark.gpu
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_on_a_gpu_the_sanitizer_finds_nothing(tool: str, tmp_path: Path) -> None:
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        pytest.skip("compute-sanitizer is not on PATH; it comes with the CUDA toolkit")
    spec = importlib.util.find_spec("negative_cosine._cuda_core")
    assert spec is not None
    script = tmp_path / "run.py"
    script.write_text(f"""
import importlib.machinery, importlib.util
import numpy as np
loader = importlib.machinery.ExtensionFileLoader("_cuda_core", {spec.origin!r})
spec = importlib.util.spec_from_loader("_cuda_core", loader)
core = importlib.util.module_from_spec(spec)
loader.exec_module(core)
random = np.random.default_rng(0)
for dim in (17, 64, 100, 256, 2048):
    query = random.normal(size=(37, dim)).astype(np.float32)
    doc = random.normal(size=(41, dim)).astype(np.float32)
    for candidates in (
        dict(num_negatives=40, seed=np.array([1, 2])),
        dict(negative_indices=random.integers(-1, 42, (37, 40))),
    ):
        core.negative_cosine_loss(query, doc, **candidates,
                                  loss_gradient=np.ones((), np.float32))
""")
    result = subprocess.run(
        [sanitizer, "--tool", tool, "--error-exitcode", "9", sys.executable, str(script)],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
