"""The benchmark script on small sizes: what it writes, leaves out and refuses."""

from __future__ import annotations

import argparse
import itertools
import math
import os
import re
import subprocess
import sys
import time
from dataclasses import astuple, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tomli
from negative_cosine import _probes

from benchmarks import (
    bench,
    checks,
    command_line,
    cuda_core,
    limits,
    measurements,
    report,
    tensorflow_ways,
)
from benchmarks.cases import CASES
from benchmarks.gpu import gpu_samplers
from benchmarks.gpu.gpu_model import DEVICES, Size, parse_size
from benchmarks.problem import Step
from benchmarks.rounds import make_plan, summary, time_rounds
from benchmarks.ways import WAYS
from tests.benchmarks.rivals import import_packages
from tests.support import emulated
from tests.support.checkout import ROOT

SCRIPT = str(ROOT / "benchmarks" / "bench.py")
FIGURES = ["case", "impl", "mode", "batch_size", "num_negatives", "dim"]
FIGURES += [
    "num_docs",
    "dtype",
    "median_ms",
    "q20_ms",
    "q80_ms",
    "ratio",
    "samples",
    "steps",
    "ratio_to",
]
FIGURES += ["peak_bytes", "row_bytes", "floor_ms", "share_of_floor", "predicted_ms"]

HAS_GPU = bool(tf.config.list_physical_devices("GPU"))
no_gpu_here = pytest.mark.skipif(HAS_GPU, reason="TensorFlow sees a GPU")


def run_bench(folder: Path, *options: str) -> pd.DataFrame:
    """The CSV of a small benchmark."""
    output = folder / "new" / "results.csv"
    small = ["--sizes", "96x3x32"] if "--case" not in options else []
    few = ["--repeat", "3", "--steps", "2"]
    bench.main([*small, *few, *options, "--output", str(output)])
    return pd.read_csv(output)


def refusal(*command: str) -> str:
    """What a run that must not start says."""
    result = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    return result.stderr.strip().splitlines()[-1]


def test_the_benchmark_writes_a_row_an_implementation_and_mode(tmp_path: Path) -> None:
    impls = ("fused", "in-batch", "gather")
    results = run_bench(tmp_path, "--device", "cpu", "--impl", *impls)
    assert list(results.columns) == [*FIGURES, *report.MACHINE]
    assert [*zip(results["impl"], results["mode"], strict=True)] == [
        (impl, mode) for impl in impls for mode in ("forward", "train")
    ]
    assert (results["q20_ms"] <= results["median_ms"]).all()
    assert (results["median_ms"] <= results["q80_ms"]).all()
    assert (results["samples"] == 3).all()
    assert (results["peak_bytes"] >= 0).all()
    assert (results["tensorflow"] == tf.__version__).all()
    assert (results["processors"] >= 1).all()
    assert results[["torch", "jax"]].isna().all(axis=None)
    fused, in_batch, gather = (results[results["impl"] == impl] for impl in impls)
    assert (fused["ratio"] == 1).all()
    assert list(fused["floor_ms"]) == list(gather["median_ms"])
    assert in_batch["floor_ms"].isna().all()
    rows = 96 * 4 * 32 * 4
    assert list(fused["row_bytes"]) == [rows, 2 * rows]


def test_cases_and_modes_are_chosen_by_name(tmp_path: Path) -> None:
    options = ["--case", "small", "--mode", "train", "--impl", "in-batch", "vectorised"]
    results = run_bench(tmp_path, *options, "--without-memory")
    assert (results[["case", "mode"]] == ["small", "train"]).all(axis=None)
    assert (results["batch_size"] == 8).all()
    assert (results["ratio_to"] == "in-batch").all()  # the first, as fused is not there
    assert results["peak_bytes"].isna().all()


def test_the_sweeps_change_one_thing() -> None:
    for name in ("batch", "negatives", "dim", "bfloat16"):
        varied = [
            len(set(values)) for values in zip(*map(astuple, CASES[name]), strict=True)
        ]
        assert sorted(varied)[:3] == [1, 1, 1]
        assert max(varied) == len(CASES[name]) > 1


def test_a_wrong_implementation_is_found_before_anything_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(*arguments: Any, **options: Any) -> Any:
        return 1.01 * right(*arguments, **options)

    right = tensorflow_ways.LOSSES["vectorised"]
    monkeypatch.setitem(tensorflow_ways.LOSSES, "vectorised", wrong)
    # What was checked before the mistake was planted counts no more.
    measurements.why_it_does_not_run.cache_clear()
    with pytest.raises(SystemExit, match="1"):
        run_bench(tmp_path, "--impl", "fused", "vectorised")
    error = capsys.readouterr().err
    assert "vectorised is wrong in float32: its loss differs from the float64" in error
    assert "Nothing was timed" in error
    assert (tmp_path / "new" / "results.csv").read_text() == ""


def test_a_wrong_gradient_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_the_queries_gradient(query: Any, *arguments: Any, **options: Any) -> Any:
        return right(tf.stop_gradient(query) + 0 * query, *arguments, **options)

    right = tensorflow_ways.LOSSES["vectorised"]
    monkeypatch.setitem(tensorflow_ways.LOSSES, "vectorised", without_the_queries_gradient)
    checks.check("vectorised", False, "float32")
    with pytest.raises(checks.WrongResultError, match="gradient of query differs"):
        checks.check("vectorised", True, "float32")


# Those that run wherever the tests do.
ALWAYS_THERE = [impl for impl in WAYS if not WAYS[impl].packages]


@pytest.mark.parametrize("impl", ALWAYS_THERE)
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_every_implementation_passes_its_check(impl: str, dtype: str) -> None:
    checks.check(impl, True, dtype)


OF_MORE_DOCS = [impl for impl in ALWAYS_THERE if not WAYS[impl].one_doc_a_query]


@pytest.mark.parametrize("impl", OF_MORE_DOCS)
@pytest.mark.parametrize("more_docs", [7, 1024])  # the core sorts draws of many documents
def test_what_takes_more_documents_than_queries_passes_its_check_on_them(
    impl: str, more_docs: int
) -> None:
    checks.check(impl, True, "float32", more_docs=more_docs)


def test_reading_a_single_wrong_row_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(matrix: Any, rows: Any, threads: int) -> float:
        rows = np.array(rows)
        rows[0] = (rows[0] + 1) % len(matrix)
        return right(matrix, rows, threads)

    right = _probes.read_rows
    monkeypatch.setattr(_probes, "read_rows", wrong)
    with pytest.raises(checks.WrongResultError, match="gather is wrong in float32"):
        checks.check("gather", True, "float32")


@pytest.mark.parametrize(
    ("size", "more_docs"),
    [
        (Size(512, 50, 64), 0),
        (Size(512, 50, 64, more_docs=16 * 512), 16 * 64),
        (Size(4096, 20, 128, more_docs=1), 1),
    ],
)
def test_a_check_has_as_many_documents_for_a_query_as_what_is_timed(
    size: Size, more_docs: int
) -> None:
    assert checks.more_docs_of_check(size) == more_docs


def test_a_mistake_that_only_more_documents_show_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def without_a_gradient_of_more(query: Any, doc: Any, *rest: Any, **options: Any) -> Any:
        rows, docs = query.shape[0], doc.shape[0]
        own, more = tf.split(doc, [rows, docs - rows])
        doc = tf.concat([own, tf.stop_gradient(more)], axis=0)
        return right(query, doc, *rest, **options)

    right = tensorflow_ways.LOSSES["vectorised"]
    monkeypatch.setitem(tensorflow_ways.LOSSES, "vectorised", without_a_gradient_of_more)
    measurements.why_it_does_not_run.cache_clear()
    options = ["--impl", "vectorised", "--mode", "train", "--without-memory"]
    assert len(run_bench(tmp_path, *options)) == 1
    with pytest.raises(SystemExit, match="1"):
        run_bench(tmp_path, *options, "--sizes", "96x3x32of100")
    assert "its gradient of doc differs" in capsys.readouterr().err
    measurements.why_it_does_not_run.cache_clear()


def test_a_size_with_more_documents_is_timed_where_a_way_takes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--impl", "fused", "article", "--sizes", "32x3x16", "32x3x16of200"]
    results = run_bench(tmp_path, *options, "--without-memory", "--mode", "train")
    timed = [*zip(results["impl"], results["num_docs"], strict=True)]
    assert timed == [("fused", 32), ("article", 32), ("fused", 200)]
    printed = capsys.readouterr()
    assert (
        "32x3x16 of 200, float32, article, train: left out: it takes as many documents as "
        "queries, not 200 for 32"
    ) in printed.err
    assert printed.out.count("C=200") == 1


def test_the_named_sizes_with_more_documents_are_those_of_queues_and_replicas() -> None:
    sizes = [str(size) for size in CASES["more-docs"]]
    assert sizes == ["512x50x64 of 8704", "512x50x64 of 66048", "1024x50x128 of 8192"]


def test_the_check_compares_the_loss_alone_too() -> None:
    checks.check("fused-ring", False, "float32")


def test_a_loss_that_is_nan_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def nan(query: Any, *arguments: Any, **options: Any) -> Any:
        return tf.reduce_sum(query) * np.nan

    monkeypatch.setitem(tensorflow_ways.LOSSES, "vectorised", nan)
    with pytest.raises(checks.WrongResultError, match="oracle's by nan of"):
        checks.check("vectorised", False, "float32")


def test_what_has_no_room_is_left_out_with_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--impl", "fused", "article", "fused-ring", "--memory-limit", "4e-5"]
    options += ["--sizes", "8x9x32", "--mode", "train", "--without-memory"]
    results = run_bench(tmp_path, *options)
    assert list(results["impl"]) == ["fused"]
    error = capsys.readouterr().err
    # Five tensors of 8 x 10 x 32 numbers of 4 bytes are 5e-5 GiB: there is room, but the
    # ring has seven other rows.
    assert (
        "8x9x32, float32, fused-ring, train: left out: the ring has 7 other rows" in error
    )
    assert "article, train: left out: it would take" in error


def test_where_everything_is_left_out_the_program_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        run_bench(tmp_path, "--impl", "article", "--dtypes", "float16")
    error = capsys.readouterr().err
    assert "article, train: left out: its exponentials overflow in float16" in error
    assert "nothing was timed" in error


def test_what_the_rivals_need_is_in_the_extras_that_are_named() -> None:
    project = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]
    for way in WAYS.values():
        extras = re.search(r"\[(.+)\]", limits.how_to_install(way))
        assert extras
        listed = [
            requirement
            for extra in extras[1].split(",")
            for requirement in project["optional-dependencies"][extra]
        ]
        names = {re.split("[<>=]", requirement)[0] for requirement in listed}
        assert {package.replace("_", "-") for package in way.packages} <= names


def test_what_knows_no_gpu_is_left_out_there() -> None:
    size = Size(8, 4, 32)
    for impl, reason in (("gather", "it is measured on the CPU only"), ("fused", None)):
        assert limits.reason_to_leave_out(impl, True, size, "gpu", 1.0) == reason
        assert limits.reason_to_leave_out(impl, True, size, "cpu", 1.0) is None


# The comparison on a GPU: each sampler, and a full softmax in two frameworks.
ON_A_GPU = ("fused", "fused-ring", "fused-all", "in-batch", "in-batch-xla", "inf-cl")


@pytest.mark.parametrize("impl", ON_A_GPU)
def test_every_sampler_and_every_full_softmax_is_timed_on_a_gpu(
    impl: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = command_line.parse(command_line.make_parser(""), ["--device", "gpu"])
    assert impl in arguments.impl
    as_if_it_were_there = replace(WAYS[impl], packages=())
    monkeypatch.setitem(WAYS, impl, as_if_it_were_there)
    for (_, size), training in itertools.product(arguments.problems, arguments.training):
        assert limits.reason_to_leave_out(impl, training, size, "gpu", 1.0) is None


def test_tensorflow_leaves_the_gpus_memory_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TF_FORCE_GPU_ALLOW_GROWTH")
    parser = command_line.make_parser("")
    bench.start_tensorflow(parser, command_line.parse(parser, ["--threads", "2"]))
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"


def test_predicted_memory_is_that_of_the_tensors_made_by_hand() -> None:
    size = Size(64, 3, 10, "float32")
    assert WAYS["fused"].predicted_bytes(size, training=True) == 0
    assert WAYS["article"].predicted_bytes(size, training=True) == 5 * 64 * 4 * 10 * 4
    assert WAYS["in-batch"].predicted_bytes(size, training=False) == 2 * 64 * 64 * 4
    more = replace(size, more_docs=36)
    assert WAYS["article"].predicted_bytes(more, training=True) == 5 * 64 * 4 * 10 * 4
    assert WAYS["in-batch"].predicted_bytes(more, training=False) == 2 * 64 * 100 * 4


@pytest.mark.parametrize("impl", ["torch", "inf-cl", "jax"])
def test_a_rival_is_timed_and_its_version_written(impl: str, tmp_path: Path) -> None:
    import_packages(impl)
    results = run_bench(tmp_path, "--impl", "fused", impl, "--mode", "train")
    assert list(results["impl"]) == ["fused", impl]
    for package in WAYS[impl].packages:
        assert (results[package] == metadata.version(package)).all()
    assert (results["peak_bytes"] >= 0).all()


@no_gpu_here
def test_without_a_gpu_the_gpu_is_refused() -> None:
    assert refusal(SCRIPT, "--device", "gpu") == bench.NO_GPU


def reason_without_a_core() -> str | None:
    """Why the CUDA core cannot run here."""
    try:
        cuda_core.load_core()
    except cuda_core.NoDeviceError as error:
        return str(error)
    return None


@pytest.mark.parametrize("arguments", [["-m", "benchmarks.bench"], [SCRIPT]])
def test_without_tensorflow_the_lack_of_a_core_or_device_is_one_line(
    arguments: list[str],
) -> None:
    reason = reason_without_a_core()
    if reason is None:
        pytest.skip("there is a CUDA core and a device")
    assert "no CUDA core" in reason or "does not run here" in reason
    assert refusal(*arguments, "--without-tensorflow") == reason


def test_the_benchmark_without_tensorflow_imports_no_tensorflow() -> None:
    code = (
        "import sys; from benchmarks import bench\n"
        "try: bench.main(['--without-tensorflow', '--sizes', '96x3x32', '--repeat', '1'])\n"
        "except SystemExit as end: assert end.code == 2\n"
        "assert not [name for name in sys.modules if name.startswith('tensorflow')]\n"
        "assert 'negative_cosine' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


CORES = ("core", "core-ring", "core-all")


class FakeCore:
    """A device of another name: the emulator runs its kernels."""

    def device_info(self) -> dict[str, object]:
        return {
            "name": "NVIDIA H200",
            "compute_capability": "9.0",
            "multiprocessors": 132,
            "memory_bytes": 2**37,
            "l2_bytes": 2**25,
            "driver_version": "580.65.06",
            "runtime_version": "13.0",
        }

    def copy_bandwidth(self, num_bytes: int, rounds: int) -> float:
        return 4e12 if num_bytes < 2**25 else 2e12

    def prepare_step(self, *arrays: object, **options: object) -> object:
        return emulated.cuda_core().prepare_step(*arrays, **options)


def test_the_core_alone_is_timed_and_compared_with_floor_and_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_core, "load_core", FakeCore)
    options = ["--impl", *CORES, "--dtypes", "bfloat16", "float64", "--sizes", "40x3x32"]
    results = run_bench(tmp_path, "--without-tensorflow", *options)
    assert [*zip(results["impl"], results["mode"], strict=True)] == [
        (impl, mode) for impl in CORES for mode in ("forward", "train")
    ] * 2
    assert (results["median_ms"] > 0).all()
    assert (results["peak_bytes"] > 0).all()
    assert (results["device"] == "NVIDIA H200").all()
    assert (results["driver"] == "580.65.06").all()
    gathered = results[results["impl"] == "core"].iloc[0]
    expected = 1e3 * 40 * 5 * 32 * 2 / 4e12
    np.testing.assert_allclose(gathered["floor_ms"], expected)
    np.testing.assert_allclose(gathered["share_of_floor"], expected / gathered["median_ms"])
    assert (results["predicted_ms"] > 0.0016).all()  # two launches at the least


def test_without_tensorflow_whatever_needs_none_is_timed_on_a_gpu() -> None:
    parser = command_line.make_parser("")
    arguments = command_line.parse(parser, ["--without-tensorflow"])
    assert set(arguments.impl) >= {*CORES, "torch", "jax", "inf-cl"}
    assert not {"fused", "in-batch", "reference", "gather"} & {*arguments.impl}


def predicted(impl: str, size: Size, mode: str = "train") -> float:
    """The prediction that a result's row is given on an H200."""
    task = (impl, mode == "train")
    row = measurements.make_row("sizes", size, task, {"median_ms": 1.0})
    return measurements.with_facts([row], {"device": "NVIDIA H200"})[0]["predicted_ms"]


def test_a_model_that_fails_costs_no_measurement(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> float:
        raise KeyError("a new kernel")

    monkeypatch.setattr(gpu_samplers, "seconds", fail)
    assert math.isnan(predicted("core", Size(8192, 50, 128)))
    assert "no prediction for core: KeyError('a new kernel')" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["forward", "train"])
@pytest.mark.parametrize(
    ("impl", "sampler"),
    [
        *(("fused", "shuffle"), ("fused-ring", "ring"), ("fused-all", "all")),
        *(("core", "shuffle"), ("core-ring", "ring"), ("core-all", "all")),
    ],
)
def test_a_row_is_given_the_prediction_for_its_sampler(
    impl: str, sampler: str, mode: str
) -> None:
    size = Size(8192, 200, 128, "bfloat16")
    seconds = gpu_samplers.seconds(sampler, size, mode == "train", DEVICES["H200"])
    assert predicted(impl, size, mode) == 1e3 * seconds


def test_what_is_not_this_packages_kernels_is_given_no_prediction() -> None:
    for impl in set(WAYS) - {"fused", "fused-ring", "fused-all", *CORES}:
        assert np.isnan(predicted(impl, Size(8192, 200, 128)))


@pytest.mark.parametrize("impl", ["fused-ring", "fused-all", "in-batch", "inf-cl"])
def test_what_shares_rows_between_queries_has_no_floor(impl: str) -> None:
    device = DEVICES["H200"]
    floor = measurements.floor_milliseconds((impl, True), Size(64, 3, 8), device, {})
    assert np.isnan(floor)


def test_what_a_gpu_does_with_more_documents_has_neither_floor_nor_prediction() -> None:
    size = Size(64, 3, 8, more_docs=1)
    device = DEVICES["H200"]
    assert np.isnan(predicted("fused", size))
    assert np.isnan(measurements.floor_milliseconds(("fused", True), size, device, {}))


@no_gpu_here
def test_a_run_on_a_gpu_goes_all_the_way_from_checks_to_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # TensorFlow and the core say that there is a GPU; what is placed there runs on the CPU.
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    monkeypatch.setattr(cuda_core, "load_core", FakeCore)
    options = ["--device", "gpu", "--mode", "train", "--without-memory"]
    results = run_bench(tmp_path, *options, "--impl", *ON_A_GPU[:-1])
    found = results.set_index("impl")
    assert tuple(found.index) == ON_A_GPU[:-1]
    assert (found["device"] == "NVIDIA H200").all()
    assert list(found.index[found["floor_ms"].notna()]) == ["fused"]
    predicted = found.index[found["predicted_ms"].notna()]
    assert list(predicted) == ["fused", "fused-ring", "fused-all"]


def test_the_core_is_not_timed_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench.main(["--device", "cpu", "--without-tensorflow"])
    assert "there is no cpu for it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--impl", "slow"], "argument --impl: invalid choice: 'slow'"),
        (["--case", "huge"], "argument --case: invalid choice: 'huge'"),
        (["--mode", "backward"], "argument --mode: invalid choice: 'backward'"),
        (["--sizes", "12x3"], "a size is BxKxD[ofC], such as"),
        (["--sizes", "9x3x8of"], "or 512x50x64of8704, got '9x3x8of'"),
        (["--sizes", "9x3x8of8"], "C must be at least B"),
        (["--repeat", "0"], "must be a number of 1 or more, got '0'"),
        (["--time-limit", "soon"], "must be a number above 0, got 'soon'"),
        (["--case", "small", "--sizes", "8x4x32"], "not allowed with argument --case"),
        (
            ["--impl", "fused", "core", "--without-tensorflow"],
            "fused need TensorFlow; without it there are core, core-ring, core-all, torch",
        ),
    ],
)
def test_wrong_options_are_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench.main(options)
    assert message in capsys.readouterr().err


@pytest.mark.gpu
def test_the_benchmark_runs_on_a_gpu(tmp_path: Path) -> None:
    results = run_bench(tmp_path, "--device", "gpu")
    assert (results["median_ms"] > 0).all()
    assert (results["peak_bytes"] >= 0).all()


@pytest.mark.gpu
def test_the_core_alone_runs_on_a_gpu(tmp_path: Path) -> None:
    results = run_bench(tmp_path, "--without-tensorflow")
    assert (results["median_ms"] > 0).all()
    assert (results["driver"].astype(str) != "").all()


def test_a_size_is_read_as_b_k_d_and_c_where_it_is_given() -> None:
    assert parse_size("4096x20x128") == parse_size("4096x20x128of4096")
    assert parse_size("4096x20x128") == Size(4096, 20, 128)
    assert parse_size("512x50x64of8704") == Size(512, 50, 64, more_docs=8192)


@pytest.mark.parametrize("text", ["4096x20x128", "512x50x64 of 8704"])
def test_a_size_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_size(text)) == text


@pytest.mark.parametrize(
    "wrong", ["4096x20", "0x1x1", "axbxc", "9x3x8of", "9x3x8ofx", "9x3x8of8", "9x3of9", ""]
)
def test_what_is_no_size_is_refused_by_name(wrong: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"got {wrong!r}"):
        parse_size(wrong)


def test_ratios_are_of_the_same_round() -> None:
    nan = np.nan
    figures = summary(np.array([2.0, 40.0, nan, 6.0]), np.array([1.0, 10.0, 5.0, 2.0]))
    assert figures["ratio"] == 3
    assert figures["median_ms"] == 6
    assert figures["samples"] == 3


def test_a_slow_way_takes_fewer_steps_then_fewer_rounds_but_three() -> None:
    def plan(seconds: float) -> tuple[list[int], int]:
        made = make_plan(seconds, rounds=15, steps=5, time_limit=30)
        return sorted(made.rounds), made.steps

    assert plan(0.01) == (list(range(15)), 5)
    assert plan(1.0) == (list(range(15)), 2)
    assert plan(5.0) == ([0, 3, 6, 8, 11, 14], 1)
    assert plan(1000.0) == ([0, 7, 14], 1)
    assert make_plan(1000.0, rounds=2, steps=5, time_limit=30).rounds == {0, 1}


def test_a_way_is_timed_in_the_rounds_of_its_plan() -> None:
    calls = {"slow": 0, "quick": 0}

    def step(name: str, seconds: float) -> Step:
        def run() -> None:
            calls[name] += 1
            time.sleep(seconds)

        return Step(run, lambda result: None, lambda result: [])

    ways = {"slow": step("slow", 0.02), "quick": step("quick", 0.0)}
    times, plans = time_rounds(ways, rounds=5, steps=4, time_limit=0.05)
    assert np.flatnonzero(~np.isnan(times["slow"])).tolist() == [0, 2, 4]
    assert not np.isnan(times["quick"]).any()
    assert calls == {"slow": 2 + 3, "quick": 2 + 5 * 4}
    assert plans["slow"].steps == 1
    assert (times["slow"][[0, 2, 4]] >= 20).all()
