"""The op on a GPU: what can be seen of it on any machine, and what needs the device."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import _loader, fused_negative_cosine_loss

from benchmarks.evidence import sanitizer as sanitizer_step
from benchmarks.evidence.tools import run_tool
from benchmarks.steps import LeftOutError
from tests.support.cases import (
    DTYPES,
    SHAPES,
    Batch,
    assert_gradients_close,
    assert_values_close,
    run_oracle,
)
from tests.support.checkout import ROOT
from tests.support.tensorflow_runs import run_loss

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
    assert registered_devices(op, tf.as_dtype(dtype)) >= {"CPU", "GPU"}


@built_with_cuda
def test_the_library_is_loaded_where_there_is_no_driver() -> None:
    # This process has opened it; it must not be the driver's doing.
    assert LIBRARY.ops is not None
    needed = subprocess.run(
        ["ldd", str(LIBRARY.path)], check=True, capture_output=True, text=True
    ).stdout
    assert "libcuda.so" not in needed
    assert "libcudart" not in needed


def symbols(library: Path, kind: str) -> set[str]:
    """The names that a library takes from others (undefined) or shows them (defined)."""
    command = ["nm", "--dynamic", f"--{kind}-only", "--format=just-symbols", str(library)]
    return set(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    )


CORE = "libnegative_cosine_core"
BINDINGS = ("_negative_cosine_ops", "_negative_cosine_xla", "_cuda_core")
LIBRARIES = pytest.mark.parametrize("name", [CORE, *BINDINGS])


def built_library(name: str) -> Path:
    (path,) = LIBRARY.path.parent.glob(f"{name}*.so")
    return path


@built_with_cuda
@LIBRARIES
def test_each_library_has_the_cuda_runtime_of_the_toolkit_that_compiled_it(
    name: str,
) -> None:
    # TensorFlow exports the same functions, as calls into whatever libcudart it opened.
    taken = symbols(built_library(name), "undefined")
    assert not [symbol for symbol in taken if re.match(r"_*(cuda|cu[A-Z])", symbol)]


@built_with_cuda
@LIBRARIES
def test_no_library_shows_others_its_cuda_runtime(name: str) -> None:
    shown = symbols(built_library(name), "defined")
    assert not [symbol for symbol in shown if re.match(r"_*(cuda|cu[A-Z])", symbol)]


def declared_for_bindings() -> set[str]:
    """The functions that csrc marks to be seen outside of the core's library."""
    marked = re.compile(r"^NEGATIVE_COSINE_API\s[\w:&\s]*?(\w+)\(", re.MULTILINE)
    found = {
        name
        for header in (ROOT / "csrc").rglob("*.h")
        for name in marked.findall(header.read_text())
    }
    assert found
    return found


def test_the_core_shows_what_its_headers_mark_and_no_more() -> None:
    command = ["nm", "-DC", "--defined-only", str(built_library(CORE))]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    shown = re.findall(r" T negative_cosine::(?:\w+::)*(\w+)", text)
    has_cuda = bool((LIBRARY.build_info or {}).get("cuda"))
    assert set(shown) == declared_for_bindings() - (set() if has_cuda else {"check_device"})


@built_with_cuda
@pytest.mark.parametrize("name", BINDINGS)
def test_a_binding_shows_functions_of_c_alone(name: str) -> None:
    # Those that Python or the loader calls by name.
    shown = symbols(built_library(name), "defined")
    ours = {symbol for symbol in shown if "negative_cosine" in symbol}
    assert {symbol.partition("@")[0] for symbol in ours} <= {
        "negative_cosine_cuda_problem",
        "negative_cosine_registered_kernels",
        "negative_cosine_xla_problem",
    }


def test_tensorflow_would_have_given_them_its_own_runtime() -> None:
    # The reason why the core hides its own: see cmake/cuda.cmake.
    framework = Path(tf.sysconfig.get_lib()) / "libtensorflow_framework.so.2"
    shown = {symbol.partition("@")[0] for symbol in symbols(framework, "defined")}
    assert {"cudaMalloc", "cudaLaunchKernelExC", "__cudaRegisterFatBinary"} <= shown


@built_with_cuda
def test_without_a_device_the_cuda_module_says_so() -> None:
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    from negative_cosine import _cuda_core

    problem = _loader.cuda_problem(LIBRARY)
    assert re.match(
        "no NVIDIA driver was found, and CUDA .*, needs driver .* or later", problem
    )
    with pytest.raises(RuntimeError, match=re.escape(problem)):
        _cuda_core.device_info()
    rows = np.ones((3, 4), np.float32)
    with pytest.raises(RuntimeError, match=re.escape(problem)):
        _cuda_core.negative_cosine_loss(rows, rows, num_negatives=2, seed=np.array([1, 2]))


@built_with_cuda
def test_the_build_says_which_cuda_it_has() -> None:
    info = json.loads((LIBRARY.path.parent / "_build_info.json").read_text())
    assert info["cuda"].count(".") >= 1
    assert info["cuda_architectures"]


@pytest.fixture(autouse=True)
def exact_float32() -> Iterator[None]:
    """TensorFlow lets float32 products be rounded until it is told otherwise."""
    allowed = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    yield
    tf.config.experimental.enable_tensor_float_32_execution(allowed)


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
    assert_gradients_close(results, expected, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", ["ring", "all"])
@pytest.mark.parametrize("dim", [20, 64, 100, 128, 256, 512, 768, 1024, 2048])
def test_on_a_gpu_tiles_match_the_oracle(
    dim: int, source: str, dtype: str, mode: str
) -> None:
    batch = Batch((300, 333, dim, 50), dtype)
    expected = run_oracle(batch, source, {})
    results = on_gpu(batch, source, {}, mode)
    assert_values_close(results, expected, dtype)
    assert_gradients_close(results, expected, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("source", ["ring", "all"])
def test_on_a_gpu_float32_products_are_rounded_where_tensorflow_allows_it(
    source: str, mode: str
) -> None:
    batch = Batch((300, 333, 128, 50), "float32")
    cosine = run_oracle(batch, source, {}).positive_cosine
    tf.config.experimental.enable_tensor_float_32_execution(True)
    rounded = on_gpu(batch, source, {}, mode)["positive_cosine"]
    assert 1e-6 < abs(rounded - cosine).max() < 2**-10


@pytest.mark.gpu
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("source", ["shuffle", "ring", "all", "indices"])
def test_on_a_gpu_each_option_matches_the_oracle(option: str, source: str) -> None:
    batch = Batch((257, 300, 100, 31), "float32")
    options = batch.only(option)
    expected = run_oracle(batch, source, options)
    results = on_gpu(batch, source, options)
    assert_values_close(results, expected, "float32")
    assert_gradients_close(results, expected, "float32")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", ["shuffle", "ring", "all", "indices"])
def test_on_a_gpu_a_compiled_function_matches_the_oracle(source: str, dtype: str) -> None:
    batch = Batch((257, 300, 100, 31), dtype)
    expected = run_oracle(batch, source, {})
    results = on_gpu(batch, source, {}, "xla")
    assert_values_close(results, expected, dtype)
    assert_gradients_close(results, expected, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("source", ["shuffle", "ring", "all", "indices"])
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
def test_on_a_gpu_more_than_two_to_the_31_elements_give_what_the_last_rows_give_alone() -> (
    None
):
    rows, dim, alone = 2_200_000, 1024, 1000  # 2.25e9 elements, 4.5 GB a matrix
    before = np.arange(1, 5)  # each row meets the four before it

    def step(query: tf.Tensor, doc: tf.Tensor) -> tuple[Any, ...]:
        indices = np.maximum(np.arange(len(query))[:, None] - before, 0)
        with tf.GradientTape() as tape:
            tape.watch([query, doc])
            losses = fused_negative_cosine_loss(
                query,
                doc,
                negative_indices=indices,
                reduction="none",
                implementation="native",
            )
        return (losses, *tape.gradient(losses, [query, doc]))

    def random_rows(seed: int) -> tf.Tensor:
        parts = [
            tf.cast(tf.random.stateless_normal([rows // 10, dim], (seed, part)), "bfloat16")
            for part in range(10)
        ]
        return tf.concat(parts, axis=0)

    with tf.device("GPU:0"):
        query, doc = random_rows(0), random_rows(1)
        everything = step(query, doc)
        last = step(query[-alone:], doc[-alone:])
    # The first rows of the last thousand meet others when they are alone.
    for found, expected in zip(everything, last, strict=True):
        np.testing.assert_array_equal(found[-alone + 4 :], expected[4:])


@built_with_cuda
@pytest.mark.gpu
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_on_a_gpu_the_sanitizer_finds_nothing(tool: str) -> None:
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        pytest.skip("compute-sanitizer is not on PATH; it comes with the CUDA toolkit")
    status, output = run_tool(sanitizer_step.command(sanitizer, tool, 60), 600)
    try:
        sanitizer_step.verdict(output, status)
    except LeftOutError as refusal:
        pytest.skip(str(refusal))
