"""The benchmark script on small sizes, what it refuses, and the counts of the model."""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from benchmarks import bench, cuda_core, gpu_model, machine, report
from benchmarks.gpu_model import DEVICES, Device, Size, parse_size
from benchmarks.rounds import summary

ROOT = Path(__file__).parent.parent
SCRIPT = str(ROOT / "benchmarks" / "bench.py")
WAYS = ("fused", "full in-batch softmax")
FIGURES = ["way", "pass", "batch_size", "num_negatives", "dim", "dtype", "median_ms"]
FIGURES += ["q20_ms", "q80_ms", "times_the_fused", "peak_bytes", "floor_ms"]
FIGURES += ["share_of_floor", "predicted_ms", "rounds", "steps"]

HAS_GPU = bool(tf.config.list_physical_devices("GPU"))
no_gpu_here = pytest.mark.skipif(HAS_GPU, reason="TensorFlow sees a GPU")


def run_bench(folder: Path, *options: str) -> pd.DataFrame:
    """The CSV of a small benchmark."""
    output = folder / "new" / "results.csv"
    small = ["--sizes", "96x3x32", "--rounds", "3", "--steps", "2"]
    bench.main([*small, *options, "--output", str(output)])
    return pd.read_csv(output)


def refusal(*command: str) -> str:
    """What a run that must not start says."""
    result = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    return result.stderr.strip().splitlines()[-1]


def test_the_benchmark_writes_its_table_and_its_picture(tmp_path: Path) -> None:
    picture = tmp_path / "new" / "bars.png"
    options = ["--device", "cpu", "--plot", str(picture)]
    results = run_bench(tmp_path, *options, "--ways", *WAYS)
    assert list(results.columns) == [*FIGURES, *report.MACHINE]
    assert [*zip(results["way"], results["pass"], strict=True)] == [
        (way, name) for way in WAYS for name in ("loss", "step")
    ]
    assert (results["q20_ms"] <= results["median_ms"]).all()
    assert (results["median_ms"] <= results["q80_ms"]).all()
    fused, in_batch = (results[results["way"] == way] for way in WAYS)
    assert (fused["times_the_fused"] == 1).all()
    assert (fused["share_of_floor"] > 0).all()
    assert in_batch["floor_ms"].isna().all()
    assert (results["peak_bytes"] >= 0).all()
    assert (results["tensorflow"] == tf.__version__).all()
    assert picture.read_bytes().startswith(b"\x89PNG")


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
        "try: bench.main(['--without-tensorflow', '--sizes', '96x3x32', '--rounds', '1'])\n"
        "except SystemExit as end: assert end.code == 2\n"
        "assert not [name for name in sys.modules if name.startswith('tensorflow')]\n"
        "assert 'negative_cosine' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


class FakeCore:
    """A CUDA core whose device answers at once."""

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

    def time_passes(self, query: object, doc: object, **options: object) -> list[float]:
        assert isinstance(query, np.ndarray)
        assert query.shape == (96, 32)
        assert options["num_negatives"] == 3
        return [0.5, 1.0, 1.5]


def test_the_core_alone_is_timed_and_compared_with_floor_and_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_core, "load_core", FakeCore)
    results = run_bench(tmp_path, "--without-tensorflow", "--dtypes", "bfloat16", "float64")
    assert list(results["pass"]) == ["loss", "step"] * 2
    assert (results["median_ms"] == 1).all()
    assert (results["device"] == "NVIDIA H200").all()
    assert (results["driver"] == "580.65.06").all()
    expected = 1e3 * 96 * 5 * 32 * 2 / 4e12
    np.testing.assert_allclose(results["floor_ms"][0], expected)
    np.testing.assert_allclose(results["share_of_floor"][0], expected)
    assert (results["predicted_ms"] > 0.005).all()


def test_the_core_is_not_timed_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench.main(["--device", "cpu", "--without-tensorflow"])
    assert "there is no cpu for it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ways", "slow"], "no such way"),
        (["--ways", "reference"], "must include 'fused'"),
        (["--sizes", "12x3"], "a size is BxKxD"),
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


def test_the_counts_of_the_model_are_those_made_by_hand() -> None:
    size = Size(10, 3, 8, "float32")
    # Ten queries, each with its own row, the positive and three others: 50 rows of 32.
    assert gpu_model.l2_bytes(size, training=False) == 1600
    # Twice that, and a sector for each of the 30 drawn rows.
    assert gpu_model.l2_bytes(size, training=True) == 2 * 1600 + 30 * 32
    assert gpu_model.memory_bytes(size, training=False) == 2 * 320
    # Two inputs, two gradients, the direction written and read.
    assert gpu_model.memory_bytes(size, training=True) == 6 * 320
    assert gpu_model.floating_operations(size, training=False) == 2 * 2 * 40 * 8
    assert gpu_model.floating_operations(size, training=True) == 2 * 5 * 40 * 8
    assert gpu_model.hash_operations(size, training=False) == 54 * 30
    assert gpu_model.hash_operations(size, training=True) == 2 * 54 * 30
    half = replace(size, dtype="bfloat16")
    assert gpu_model.l2_bytes(half, training=False) == 800
    assert gpu_model.memory_bytes(half, training=True) == 4 * 160 + 2 * 320


def test_what_the_l2_does_not_hold_comes_from_memory() -> None:
    size = Size(100, 8, 10, "float32")  # a table of 4,000 bytes, 40,000 through the L2
    device = Device("", l2_bandwidth=100.0, l2_capacity=4000, memory_bandwidth=10.0)
    assert gpu_model.gather_seconds(size, False, device) == 400
    half = replace(device, l2_capacity=2000)
    assert gpu_model.gather_seconds(size, False, half) == 200 + 2000
    assert gpu_model.floor_seconds(size, False, device) == 800  # both inputs read once
    launches = 2 * 2.5e-6
    assert gpu_model.predicted_seconds(size, False, device) == pytest.approx(800 + launches)


def test_a_device_is_known_by_what_its_driver_calls_it() -> None:
    assert gpu_model.find_device("NVIDIA H100 80GB HBM3") is DEVICES["H100"]
    assert gpu_model.find_device("NVIDIA A100-SXM4-80GB") is DEVICES["A100"]
    for other in ("NVIDIA H100 PCIe", "NVIDIA A100-SXM4-40GB", "AMD EPYC"):
        assert gpu_model.find_device(other) is None


def test_the_predictions_on_file_are_the_models() -> None:
    file = ROOT / "benchmarks" / "results" / "gpu_predictions.csv"
    pd.testing.assert_frame_equal(pd.read_csv(file), gpu_model.predictions())


def test_a_size_is_read_as_b_k_d() -> None:
    assert parse_size("4096x20x128") == Size(4096, 20, 128)
    for wrong in ("4096x20", "0x1x1", "axbxc"):
        with pytest.raises(argparse.ArgumentTypeError):
            parse_size(wrong)


def test_ratios_are_of_the_same_round() -> None:
    figures = summary([2.0, 40.0, 6.0], [1.0, 10.0, 2.0])
    assert figures["times_the_fused"] == 3
    assert figures["median_ms"] == 6


def test_a_copys_bandwidth_is_that_of_this_machine() -> None:
    assert 1e8 < machine.numpy_copy_bandwidth(2**20, rounds=3) < 1e13
