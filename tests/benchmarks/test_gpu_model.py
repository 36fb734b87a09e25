"""The counts of the GPU model, and what it predicts from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.gpu import gpu_model, gpu_samplers
from benchmarks.gpu.gpu_model import DEVICES, Device, Size
from tests.support.checkout import ROOT


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
    assert gpu_model.hash_operations(size, training=False) == 63 * 30
    assert gpu_model.hash_operations(size, training=True) == 2 * 63 * 30
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


def test_the_counts_of_tiles_are_those_made_by_hand() -> None:
    size = Size(128, 64, 8, "bfloat16")  # two tiles of 64, each meets itself and 64 more
    rows = 2 * (64 + 64 + 64)  # of a pass: queries, their positives, and the band
    written = 2 * 128 * 16 + 2 * 128 * 32  # both gradients; the direction, there and back
    assert gpu_model.tile_bytes(size) == 2 * rows * 16 + written
    # The loss alone is one pass, and writes nothing of a row's size.
    assert gpu_model.tile_bytes(size, training=False) == rows * 16


@pytest.mark.parametrize(
    ("dtype", "training", "limit", "operations"),
    [
        ("bfloat16", False, "tensor cores", 1),  # a product
        # Two products and two weighted sums, these of two parts.
        ("bfloat16", True, "tensor cores", 2 + 4),
        # Rounded: half as fast, of one part.
        ("float32", False, "tensor cores", 2 * 1),
        ("float32", True, "tensor cores", 2 * (2 + 2)),
        ("float64", False, "floating point", 1 * 2),
        ("float64", True, "floating point", (2 + 2) * 2),
    ],
)
def test_the_operations_of_tiles_are_those_made_by_hand(
    dtype: str, training: bool, limit: str, operations: int
) -> None:
    size = Size(128, 64, 8, dtype)  # a tile of 64 rows meets 128: 128 x 128 pairs in all
    device = Device("", 1.0, 1.0, 1.0, floating_rate=1.0, tensor_rate=1.0)
    found = gpu_samplers.tile_limits(size, training, device)[limit]
    assert found == 2 * operations * 128 * 128 * 8


@pytest.mark.parametrize(
    ("dim", "dtype", "rows"),
    [
        (128, "float32", 64),
        (256, "float32", 64),
        (257, "float32", 32),
        (512, "bfloat16", 64),
        (1025, "bfloat16", 16),
        (64, "float64", 64),
        (65, "float64", 32),
    ],
)
def test_the_rows_of_a_tile_are_those_of_the_kernels(
    dim: int, dtype: str, rows: int
) -> None:
    assert gpu_model.tile_rows(Size(8192, 64, dim, dtype)) == rows


def test_long_rows_are_read_once_more() -> None:
    size = Size(128, 64, 512, "bfloat16")  # 1024 bytes; two tiles of 64
    rows = 2 * (2 * (64 + 64 + 64) + 64)
    written = 2 * 128 * 1024 + 2 * 128 * 2048
    assert gpu_model.tile_bytes(size) == rows * 1024 + written
    assert gpu_model.tile_bytes(size, training=False) == 2 * (64 + 64 + 64) * 1024


def test_an_a100_has_less_room_for_a_tile() -> None:
    size = Size(8192, 64, 1024, "float32")
    assert DEVICES["H100"].takes_tiles(size)
    assert not DEVICES["A100"].takes_tiles(size)
    assert DEVICES["A100"].takes_tiles(replace(size, dim=768))
    assert not DEVICES["A100"].takes_tiles(replace(size, dim=257, dtype="float64"))
    assert DEVICES["A100"].takes_tiles(replace(size, dim=256, dtype="float64"))


@pytest.mark.parametrize(("dim", "dtype"), [(2064, "bfloat16"), (513, "float64")])
def test_rows_that_are_too_long_for_tiles_are_predicted_as_gathered(
    dim: int, dtype: str
) -> None:
    size, device = Size(8192, 64, dim, dtype), DEVICES["H100"]
    gathered = gpu_model.predicted_seconds(size, True, device)
    assert gpu_samplers.seconds("ring", size, True, device) == gathered
    fits = replace(size, dim=dim // 2)
    assert gpu_samplers.seconds("ring", fits, True, device) < gathered / 2


@pytest.mark.parametrize(
    ("batch_size", "factor"),
    [(64, 4), (4 * 64, 1), (5 * 64, 8 / 5), (8 * 64 - 1, 1)],
)
def test_a_step_waits_for_the_multiprocessors_with_the_most_tiles(
    batch_size: int, factor: float
) -> None:
    device = Device("", 1.0, 1.0, 1.0, multiprocessors=4)
    size = Size(batch_size, 10, 128, "bfloat16")
    assert gpu_samplers.waiting_factor(size, device) == factor


def test_a_warps_instructions_are_those_of_the_compiled_loops(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "code.csv"
    file.write_text(
        "architecture,pass,dtype,elements,tight,products,way\n"
        "sm_90,forward,bfloat16,128,False,96,1000\n"
        "sm_90,gradient,bfloat16,128,False,96,920\n"
        "sm_90,forward,bfloat16,128,True,1,7\nsm_80,forward,bfloat16,128,False,1,7\n"
    )
    monkeypatch.setattr(gpu_samplers, "CODE", file)
    gpu_samplers.instructions_of_a_product.cache_clear()
    # A warp takes 16 x 32 pairs at a time; rows of 100 are padded to 128.
    size, device = Size(64, 64, 100, "bfloat16"), DEVICES["H100"]
    passes = 64 * 128 / (16 * 32)
    found = {
        training: gpu_samplers.issued_instructions(size, training, device)
        for training in (False, True)
    }
    gpu_samplers.instructions_of_a_product.cache_clear()
    assert found[True] == pytest.approx(passes * (1000 + 920))
    assert found[False] == pytest.approx(passes * (1000 - 64))  # 64 of 96 sum rows


@pytest.mark.parametrize(
    ("dim", "products_are_the_limit"),
    [(64, False), (128, False), (256, True), (512, True), (768, False), (1024, False)],
)
def test_the_products_of_all_are_the_limit_where_the_page_says_so(
    dim: int, products_are_the_limit: bool
) -> None:
    size = Size(8192, 8191, dim, "bfloat16")
    limits = gpu_samplers.tile_limits(size, True, DEVICES["H100"])
    close = 0.97 * limits["tensor cores"]  # as long, or longer
    assert (limits["instructions"] < close) == products_are_the_limit
    assert max(limits, key=limits.__getitem__) in ("tensor cores", "instructions")


def test_every_other_document_is_a_candidate_of_all_whatever_k_is() -> None:
    size, device = Size(8192, 20, 128, "bfloat16"), DEVICES["H100"]
    others = replace(size, num_negatives=8191)
    for training in (False, True):
        times = {
            gpu_samplers.seconds("all", size, training, device),
            gpu_samplers.seconds("all", others, training, device),
            gpu_samplers.seconds("ring", others, training, device),
        }
        assert len(times) == 1


def test_a_sampler_wins_from_the_first_k_on_behind_which_it_is_always_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def seconds(sampler: str, size: Size, training: bool, device: Device) -> float:
        if sampler == "shuffle":
            return size.num_negatives
        return {1: 0.5, 2: 2.0, 3: 3.5}.get(size.num_negatives, 4.0)

    monkeypatch.setattr(gpu_samplers, "seconds", seconds)
    size, device = Size(8, 1, 128, "bfloat16"), DEVICES["H100"]
    assert gpu_samplers.first_win("all", size, device) == 5
    assert gpu_samplers.first_win("all", replace(size, batch_size=5), device) is None


@pytest.mark.parametrize("name", ["predictions", "wins"])
def test_the_tables_of_the_samplers_on_file_are_the_models(name: str) -> None:
    file = {"predictions": "gpu_samplers.csv", "wins": "gpu_wins.csv"}[name]
    found = pd.read_csv(ROOT / "benchmarks" / "results" / file)
    expected = getattr(gpu_samplers, name)()
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
