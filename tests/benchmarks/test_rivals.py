"""What the benchmark compares with in PyTorch and JAX: each computes this loss.

None of it needs TensorFlow. On a machine without it, and so without tests/conftest.py:

    python -m pytest --noconftest tests/benchmarks/test_rivals.py
"""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from benchmarks import checks, command_line, limits, measurements, peak_memory
from benchmarks.gpu.gpu_model import Size
from benchmarks.problem import Step, random_problem
from benchmarks.ways import WAYS
from tests.benchmarks.rivals import (
    STAND_INS,
    import_optional,
    import_packages,
    install_stand_in,
)
from tests.support.checkout import ROOT

SIZE = Size(64, 3, 8)

RIVALS = [impl for impl in WAYS if WAYS[impl].packages]
ON_THE_CPU = [impl for impl in RIVALS if WAYS[impl].only_on != "gpu"]

Tensor = Any  # PyTorch is not installed where the types are checked


def finds_a_gpu(framework: str) -> bool:
    """Whether PyTorch or JAX does."""
    library = import_optional(framework)
    if framework == "torch":
        return bool(library.cuda.is_available())
    try:
        return bool(library.devices("gpu"))
    except RuntimeError:
        return False


def run_python(code: str) -> None:
    """Runs code that must not fail, in a process of its own."""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# --- What is imported ------------------------------------------------------------------

NEEDS = {
    "torch_ways": "torch",
    "library_losses": "torch",
    "tiled_softmax": "torch",
    "triton_softmax": "triton",
    "jax_ways": "jax",
}


@pytest.mark.parametrize(
    "module",
    [
        "checks",
        "limits",
        "measurements",
        "peak_memory",
        "problem",
        "rounds",
        "ways",
        *NEEDS,
    ],
)
def test_what_times_the_rivals_imports_no_tensorflow(module: str) -> None:
    if module in NEEDS:
        import_optional(NEEDS[module])
    run_python(
        f"import sys; import benchmarks.{module}\n"
        "assert not [name for name in sys.modules if name.startswith('tensorflow')]\n"
        "assert 'negative_cosine' not in sys.modules"
    )


def test_the_table_of_ways_imports_no_framework_at_all() -> None:
    run_python(
        "import sys; from benchmarks import checks, limits, ways\n"
        "assert not {'torch', 'jax', 'triton', 'tensorflow'} & set(sys.modules)"
    )


def test_jax_leaves_a_gpus_memory_to_others_unless_it_is_told_not_to() -> None:
    import_packages("jax")
    name = "XLA_PYTHON_CLIENT_PREALLOCATE"
    run_python(
        f"import os; os.environ.pop('{name}', None); from benchmarks import jax_ways\n"
        f"assert os.environ['{name}'] == 'false'"
    )
    run_python(
        f"import os; os.environ['{name}'] = 'true'; from benchmarks import jax_ways\n"
        f"assert os.environ['{name}'] == 'true'"
    )


# --- What they compute -----------------------------------------------------------------


@pytest.mark.parametrize("impl", ON_THE_CPU)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_a_rival_gives_this_loss(impl: str, training: bool, dtype: str) -> None:
    import_packages(impl)
    checks.check(impl, training, dtype)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("impl", "dtype"), [(impl, dtype) for impl in STAND_INS for dtype in WAYS[impl].dtypes]
)
def test_a_librarys_kernels_are_given_what_this_loss_needs(
    impl: str, dtype: str, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_optional("torch")
    install_stand_in(impl, monkeypatch)
    checks.check(impl, training, dtype)


def without_its_gradient(argument: int) -> Callable[..., Any]:
    """Of a stand-in: the same value, and nothing that flows back to an argument."""

    def wrap(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def wrapped(*arguments: Any) -> Tensor:
            tensor = arguments[argument]
            constant = tensor.detach() + 0 * tensor
            return function(*arguments[:argument], constant, *arguments[argument + 1 :])

        return wrapped

    return wrap


@pytest.mark.parametrize("impl", STAND_INS)
@pytest.mark.parametrize("argument", [0, 1])
def test_a_library_that_gives_one_gradient_alone_is_found_out(
    impl: str, argument: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_optional("torch")
    install_stand_in(impl, monkeypatch, without_its_gradient(argument))
    checks.check(impl, False, "bfloat16")
    what = checks.NAMES[1 + argument]
    with pytest.raises(checks.WrongResultError, match=f"its {what} differs"):
        checks.check(impl, True, "bfloat16")


@pytest.mark.parametrize("impl", STAND_INS)
def test_a_stand_in_has_the_librarys_parameters(impl: str) -> None:
    path, stand_in = STAND_INS[impl]
    import_packages(impl)
    library = importlib.import_module(path)
    theirs, own = (
        inspect.signature(function).parameters
        for function in (getattr(library, stand_in.__name__), stand_in)
    )
    assert list(own) == list(theirs)
    for name in own.keys() - {"impl"}:  # an enumeration of the library's
        assert own[name].default == theirs[name].default, name


@pytest.mark.parametrize(("dim", "head"), [(768, 256), (256, 256), (96, 32), (16, 16)])
def test_inf_cl_walks_over_rows_in_the_largest_heads_that_fit(
    dim: int, head: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = import_optional("torch")
    from benchmarks.library_losses import inf_cl_loss

    def note_heads(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def noting(*arguments: Any) -> Tensor:
            heads.append(arguments[4])
            return function(*arguments)

        return noting

    heads: list[int] = []
    install_stand_in("inf-cl-triton", monkeypatch, note_heads)
    inf_cl_loss(*torch.randn(2, 3, dim))
    assert heads == [head]


# --- The kernels of this repository ----------------------------------------------------


def run_interpreted(*arguments: str) -> None:
    """Python where Triton interprets kernels: on the CPU, one program after the other."""
    import_packages("triton-atomics")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=True)


@pytest.mark.parametrize("dtype", WAYS["triton-atomics"].dtypes)
def test_the_kernels_give_this_loss(dtype: str) -> None:
    code = "from benchmarks.checks import check\nfor training in (False, True): "
    run_interpreted("-c", f"{code} check('triton-atomics', training, '{dtype}')")


@pytest.mark.parametrize(
    "size",
    [
        "8x1x2",  # one candidate, where there is room for many
        "5x70x17",  # a block of candidates and a rest, rows that are no power of two
        "9x3x768",  # rows that leave room for one candidate
        "4x3x2000",  # and that take two warps
    ],
)
def test_the_kernels_take_any_size(size: str) -> None:
    run_interpreted("-m", "tests.benchmarks.interpreted_kernels", size)


def test_without_a_table_the_kernels_are_given_int32_candidates_of_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import_packages("triton-atomics")
    import torch

    from benchmarks import triton_softmax
    from benchmarks.torch_ways import atomics_loss

    def note(query: Tensor, doc: Tensor, table: Tensor) -> None:
        tables.append(table)

    tables: list[Tensor] = []
    monkeypatch.setattr(triton_softmax, "sampled_softmax_loss", note)
    query, doc = torch.randn(2, 30, 4)
    atomics_loss(query, doc, 50, None)
    (table,) = tables
    assert table.dtype == torch.int32
    assert table.shape == (30, 50)
    assert set(table.flatten().tolist()) == set(range(30))


# What the kernels' arguments are, as Triton names types.
POINTERS = {"table": "*i32", "log_sums": "*fp32", "losses": "*fp32"}
POINTERS |= {"upstream": "*fp32", "by_doc": "*fp32"}


@pytest.mark.parametrize("kernel", ["forward_kernel", "backward_kernel"])
@pytest.mark.parametrize("dim", [100, 128, 768, 2048])
@pytest.mark.parametrize(
    ("dtype", "element"), [("float16", "fp16"), ("bfloat16", "bf16"), ("float32", "fp32")]
)
def test_the_kernels_compile_for_a_gpu_that_is_not_there(
    kernel: str, dim: int, dtype: str, element: str
) -> None:
    torch, triton = import_optional("torch"), import_optional("triton")
    from triton.backends.compiler import GPUTarget

    from benchmarks import triton_softmax

    query = torch.empty(4, dim, dtype=getattr(torch, dtype))
    constants = triton_softmax.sizes(query, torch.empty(4, 20))
    warps = constants.pop("num_warps")
    function = getattr(triton_softmax, kernel)
    types = {"scale": "fp32", **POINTERS, **dict.fromkeys(constants, "constexpr")}
    source = triton.compiler.ASTSource(
        fn=function,
        signature={name: types.get(name, f"*{element}") for name in function.arg_names},
        constexprs=constants,
    )
    hopper = GPUTarget("cuda", 90, 32)
    compiled = triton.compile(source, target=hopper, options={"num_warps": warps})
    # Sums within a warp need neither shared memory nor barriers.
    assert (compiled.metadata.shared > 0) == (warps > 1)
    assert ("bar.sync" in compiled.asm["ptx"]) == (warps > 1)
    assert ("relaxed.add" in compiled.asm["ptx"]) == (kernel == "backward_kernel")


# --- What is left out ------------------------------------------------------------------


def reason(impl: str, size: Size, device: str = "gpu") -> str | None:
    return limits.reason_to_leave_out(impl, True, size, device, 100.0)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every library were there."""
    for impl in RIVALS:
        monkeypatch.setitem(WAYS, impl, replace(WAYS[impl], packages=()))


@pytest.mark.parametrize(
    ("impl", "extras"), [("torch", "bench"), ("liger", "bench,bench-gpu")]
)
def test_a_library_that_is_not_there_is_left_out(
    impl: str, extras: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = replace(WAYS[impl], packages=("numpy", "no_such_package"))
    monkeypatch.setitem(WAYS, impl, missing)
    assert (
        reason(impl, SIZE)
        == f"no_such_package is not installed: pip install -e .[{extras}]"
    )


@pytest.mark.parametrize("impl", RIVALS)
def test_on_a_gpu_every_rival_is_timed(impl: str, installed: None) -> None:
    for dtype in ("bfloat16", "float16"):
        assert reason(impl, Size(8192, 50, 128, dtype)) is None


@pytest.mark.parametrize("impl", [*STAND_INS, "triton-atomics"])
def test_kernels_for_a_gpu_are_left_out_on_the_cpu(impl: str) -> None:
    # Even before a package is found missing: to install it would not help.
    assert reason(impl, SIZE, "cpu") == "its kernels are for a GPU: --device gpu"


@pytest.mark.parametrize(
    ("impl", "size", "expected"),
    [
        (
            "cut-cross-entropy",
            (64, 8, "float32"),
            "it takes float16, bfloat16, not float32",
        ),
        ("liger", (64, 8, "float64"), "it takes float16, bfloat16, float32, not float64"),
        ("inf-cl-triton", (64, 100), "its rows are multiples of 16 numbers, not 100"),
        ("inf-cl-triton", (96, 32), "above 64 rows it takes multiples of 64, not 96"),
        ("inf-cl-triton", (8, 32), None),
    ],
)
def test_what_kernels_are_not_made_for_is_left_out(
    impl: str, size: tuple[Any, ...], expected: str | None, installed: None
) -> None:
    rows, dim, *dtype = size
    assert reason(impl, Size(rows, 3, dim, *dtype)) == expected


@pytest.fixture
def nothing_checked_before() -> Iterator[None]:
    """Reasons are kept for a whole run; these tests plant some."""
    measurements.why_it_does_not_run.cache_clear()
    yield
    measurements.why_it_does_not_run.cache_clear()


def why_not(impl: str, device: str) -> str:
    return measurements.why_it_does_not_run((impl, True), "float32", device, 2)


def test_a_pytorch_without_a_gpu_is_left_out_there(
    monkeypatch: pytest.MonkeyPatch, nothing_checked_before: None
) -> None:
    torch = import_optional("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    expected = f"PyTorch {torch.__version__} finds no GPU: install its build for CUDA"
    assert why_not("inf-cl", "gpu") == expected


def test_a_jax_without_a_gpu_is_left_out_there(nothing_checked_before: None) -> None:
    if finds_a_gpu("jax"):
        pytest.skip("JAX finds a GPU")
    assert "Unknown backend" in why_not("jax-in-batch", "gpu")


class LibraryError(ImportError):
    """Of a library that does not get along with what is installed."""


@pytest.mark.parametrize("error", [LibraryError("no triton.ops"), AssertionError("dtype")])
def test_a_library_that_fails_is_left_out_and_the_others_run(
    error: Exception, monkeypatch: pytest.MonkeyPatch, nothing_checked_before: None
) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(checks, "make_step", fail)
    assert why_not("liger", "gpu") == str(error)
    with pytest.raises(type(error)):
        why_not("fused", "gpu")  # ours must not fail


# --- Their steps -----------------------------------------------------------------------


def test_pytorch_waits_for_all_that_a_gpu_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = import_optional("torch")
    from benchmarks import torch_ways

    class OnGpu:
        is_cuda = True

        def item(self) -> None:
            happened.append("read")

    happened: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: happened.append("waited"))
    torch_ways.wait_for((OnGpu(),))
    assert happened == ["waited", "read"]


def test_jax_keeps_to_its_threads() -> None:
    import_packages("jax")
    run_python(
        "import os; from benchmarks import jax_ways\n"
        "def threads(): return set(os.listdir('/proc/self/task'))\n"
        "before, allowed = threads(), os.sched_getaffinity(0)\n"
        "jax_ways.start_with_threads(1)\n"
        "assert os.sched_getaffinity(0) == allowed\n"
        "new = [int(thread) for thread in threads() - before]\n"
        "assert new and all(len(os.sched_getaffinity(thread)) == 1 for thread in new)"
    )


def test_on_a_gpu_jaxs_threads_are_left_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jax = import_optional("jax")
    from benchmarks import jax_ways

    asked: list[Any] = []
    monkeypatch.setattr(jax_ways, "start_with_threads", asked.append)
    monkeypatch.setattr(jax, "devices", lambda name: [name])
    assert [jax_ways.find_device(name, 2) for name in ("gpu", "cpu")] == ["gpu", "cpu"]
    assert asked == [2]


def test_jax_draws_other_candidates_in_each_step() -> None:
    import_packages("jax")
    from benchmarks.ways import make_step

    step = make_step("jax", False, random_problem(SIZE))
    losses = {float(step.outputs(step.run())[0]) for _ in range(4)}
    assert len(losses) == 4


# --- Their memory ----------------------------------------------------------------------


def test_peak_memory_is_what_pytorchs_allocator_adds_to_what_it_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = import_optional("torch")
    happened: list[str] = []

    def held() -> int:
        happened.append("look")
        return 100

    step = Step(lambda: happened.append("step"), lambda result: None, lambda result: [])
    monkeypatch.setattr(peak_memory, "make_step", lambda *arguments: step)
    monkeypatch.setattr(torch.cuda, "memory_allocated", held)
    monkeypatch.setattr(
        torch.cuda, "reset_peak_memory_stats", lambda: happened.append("forget")
    )
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 130)
    assert peak_memory.gpu_peak_bytes("inf-cl", [True], SIZE, 2) == [30]
    assert happened == ["step", "look", "forget", "step"]


def test_peak_memory_of_jax_is_what_xla_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    jax = import_optional("jax")
    from benchmarks import jax_ways

    def on_the_cpu(device: str, threads: int) -> Any:
        asked.append(device)
        return jax.devices("cpu")[0]

    asked: list[str] = []
    monkeypatch.setattr(jax_ways, "find_device", on_the_cpu)
    size = Size(256, 3, 8)
    loss, step = peak_memory.gpu_peak_bytes("jax-in-batch", [False, True], size, 2)
    assert set(asked) == {"gpu"}
    logits, inputs = 4 * 256 * 256, 2 * 4 * 256 * 8
    assert logits <= loss < 3 * logits
    assert logits + inputs <= step < 4 * logits  # both gradients are as large as the inputs
    (sampled,) = peak_memory.gpu_peak_bytes("jax", [False], size, 2)
    assert sampled < logits


def out_of_memory(framework: str) -> Exception:
    """What a framework raises where it finds no room."""
    if framework == "torch":
        return import_optional("torch").cuda.OutOfMemoryError("CUDA out of memory")
    if framework == "jax":
        error = import_optional("jax").errors.JaxRuntimeError
        return error("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes")
    kind = type("ResourceExhaustedError", (Exception,), {})  # as in tf.errors
    return kind("OOM when allocating tensor")


@pytest.mark.parametrize(
    ("framework", "impl"),
    [("torch", "inf-cl"), ("jax", "jax-in-batch"), ("tensorflow", "in-batch")],
)
def test_where_a_framework_finds_no_room_its_way_is_left_out(
    framework: str,
    impl: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = out_of_memory(framework)

    def fill(*arguments: Any) -> None:
        raise error

    monkeypatch.setitem(peak_memory.GROWTH, WAYS[impl].module, fill)
    arguments = command_line.parse(command_line.make_parser(""), ["--device", "gpu"])
    assert measurements.measure_peaks([(impl, True)], arguments, SIZE) == {}
    assert f"{impl}, train: left out: out of memory" in capsys.readouterr().err


def test_another_error_is_not_taken_for_a_lack_of_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: Any) -> None:
        raise ValueError("wrong")

    monkeypatch.setitem(peak_memory.GROWTH, "torch_ways", fail)
    with pytest.raises(ValueError, match="wrong"):
        peak_memory.gpu_peak_bytes("inf-cl", [True], SIZE, 2)


# --- On a GPU --------------------------------------------------------------------------


def skip_without_a_gpu(impl: str) -> None:
    """Skips where the way's packages, or a GPU that its framework sees, are not there."""
    import_packages(impl)
    framework = WAYS[impl].packages[0]
    if not finds_a_gpu(framework):
        pytest.skip(f"{framework} finds no GPU")


DTYPES_ON_A_GPU = [
    (impl, dtype)
    for impl in RIVALS
    for dtype in WAYS[impl].dtypes
    if dtype
    != "float64"  # its rate is a fraction of the others': nobody trains in it there
]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("impl", "dtype"), DTYPES_ON_A_GPU)
def test_on_a_gpu_a_rival_gives_this_loss(impl: str, training: bool, dtype: str) -> None:
    skip_without_a_gpu(impl)
    checks.check(impl, training, dtype, "gpu")


@pytest.mark.parametrize("impl", RIVALS)
def test_on_a_gpu_memory_is_measured(impl: str) -> None:
    skip_without_a_gpu(impl)
    size = Size(256, 20, 64, "bfloat16")
    loss, step = peak_memory.gpu_peak_bytes(impl, [False, True], size, 2)
    assert 0 < loss <= step
    assert step >= 2 * size.table_bytes  # both gradients
