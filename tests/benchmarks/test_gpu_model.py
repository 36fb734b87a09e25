"""The counts of the GPU model, and what it predicts from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.gpu import (
    gpu_model,
    gpu_predictions,
    gpu_samplers,
    kernel_time,
    row_model,
    tile_model,
)
from benchmarks.gpu.gpu_model import DEVICES, Device, Size
from benchmarks.gpu.kernel_time import EXECUTED, WAITED, Prediction, Warp
from benchmarks.gpu.tile_shape import TileShape
from tests.support.checkout import ROOT

H100 = DEVICES["H100"]


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


def test_a_device_is_known_by_what_its_driver_calls_it() -> None:
    assert gpu_model.find_device("NVIDIA H100 80GB HBM3") is DEVICES["H100"]
    assert gpu_model.find_device("NVIDIA A100-SXM4-80GB") is DEVICES["A100"]
    for other in ("NVIDIA H100 PCIe", "NVIDIA A100-SXM4-40GB", "AMD EPYC"):
        assert gpu_model.find_device(other) is None


def test_the_predictions_on_file_are_the_models() -> None:
    file = ROOT / "benchmarks" / "results" / "gpu_predictions.csv"
    pd.testing.assert_frame_equal(pd.read_csv(file), gpu_predictions.predictions())


def test_the_counts_of_tiles_are_those_made_by_hand() -> None:
    size = Size(128, 64, 8, "bfloat16")  # two tiles of 64, each meets itself and 64 more
    rows = 2 * (64 + 64 + 64)  # of a pass: queries, their positives, and the band
    written = 2 * 128 * 16 + 2 * 128 * 32  # both gradients; the direction, there and back
    # The positives are read once more for the direction, by whole sectors for half of one.
    assert gpu_model.tile_bytes(size, 1) == (2 * rows + 2 * 128) * 16 + written
    # The loss alone is one pass, and writes nothing of a row's size.
    assert gpu_model.tile_bytes(size, 1, training=False) == rows * 16


def test_an_a100_has_less_room_for_a_tile() -> None:
    size = Size(8192, 64, 1024, "float32")
    assert H100.takes_tiles(size)
    assert not DEVICES["A100"].takes_tiles(size)
    assert DEVICES["A100"].takes_tiles(replace(size, dim=768))
    assert not DEVICES["A100"].takes_tiles(replace(size, dim=257, dtype="float64"))
    assert DEVICES["A100"].takes_tiles(replace(size, dim=256, dtype="float64"))


# --- The time of a kernel ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("warps", "clocks"),
    [
        (1, EXECUTED * WAITED[2] * 1000),
        (2, EXECUTED * WAITED[2] * 1000),
        # Beyond what was measured warps hide all but their instructions.
        (3, EXECUTED * (WAITED[2] * 1000 + 400)),
        (4, EXECUTED * WAITED[4] * 1000),
        (6, EXECUTED * (WAITED[4] * 1000 + 2 * 400)),
    ],
)
def test_a_scheduler_with_few_warps_waits_for_their_stalls(
    warps: int, clocks: float
) -> None:
    assert Warp(400, 1000).slow_clocks(warps) == pytest.approx(clocks)


def test_half_of_what_is_outside_of_a_loop_is_executed() -> None:
    found = kernel_time.slow_clocks_outside(600, warps=1)
    assert found == pytest.approx(0.5 * 600 * WAITED[2] * 2.9)


def test_a_step_is_its_kernels_and_its_launches() -> None:
    kernels = [Prediction(1.0, 3.0, "L2"), Prediction(2.0, 5.0, "stalls")]
    found = kernel_time.step(kernels, launches=3, finishes=True)
    assert found.low == pytest.approx(3.0 + 3 * 0.81e-6)
    assert found.high == pytest.approx(8.0 + 3 * 1.9e-6 + 3.8e-6)
    assert found.bound == "stalls"


# --- Tiles ------------------------------------------------------------------------------

CODE = (
    "architecture,pass,dtype,elements,kind,registers,other_instructions,"
    "hash_instructions,products,way,stalls,wavefronts,way_with_norms,stalls_with_norms\n"
    "sm_90,forward,bfloat16,128,tall,128,8000,160,96,900,2500,300,1000,2800\n"
    "sm_90,gradient,bfloat16,128,tall,127,7000,160,96,950,2400,400,950,2400\n"
)


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A table of compiled code with these figures."""
    file = tmp_path / "code.csv"
    file.write_text(CODE)
    monkeypatch.setattr(tile_model, "CODE", file)
    tile_model.compiled.cache_clear()
    yield
    tile_model.compiled.cache_clear()


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize(
    ("option", "more"),
    [
        # 16 x 32 pairs are 16 of a lane.
        ("doc_log_q", 2 * 16 * (86 + 49) / 16),
        ("ids", 2 * 16 * 276 / 16),
        ("statistics", 16 * (62 + 16) / 16),  # of the forward pass alone
    ],
)
def test_options_cost_instructions_for_each_pair(option: str, more: float) -> None:
    size = Size(8192, 8191, 128, "bfloat16")
    found = tile_model.share_of_option(option, size, H100)
    assert found == pytest.approx(more / (900 + 950))


@pytest.mark.usefixtures("code")
def test_the_limits_of_a_pass_are_those_made_by_hand() -> None:
    # 128 tiles of 64 rows, one for each of 128 of the multiprocessors; 64 + 8191 rows are
    # 65 panels of 128, which 16 warps take 16 x 32 pairs at a time. Rows are padded.
    size = Size(8192, 8191, 100, "bfloat16")
    forward, gradient = tile_model.passes(size, True, H100, draws=False)
    assert (forward.tile.rows, forward.tile.columns, forward.tile.warps) == (64, 128, 16)
    assert (forward.panels, forward.tiles_in_turn, forward.blocks_together) == (65, 1, 1)
    limits = forward.limits()
    clock = 1.98e9
    assert limits["stalls"] == pytest.approx(65 * 2500 / clock)  # norms are known
    assert limits["instructions"] == pytest.approx(65 * 16 / 4 * 900 / clock)
    # Each of the four groups gives its sums away: 64 x 128 of them, there and back.
    merged = 2 * 4 * 64 * 128 * 4 / 128
    assert limits["shared memory"] == pytest.approx((65 * 16 * 300 + merged) / clock)
    operations = 65 * 16 * 96 * 2 * 16 * 8 * 16
    assert limits["tensor cores"] == pytest.approx(operations / (0.629 * 989e12 / 132))
    half = gpu_model.tile_bytes(size, 132) / 2
    assert limits["L2"] == pytest.approx(half / 6.9e12)
    assert limits["memory"] == pytest.approx(
        gpu_model.memory_bytes(size, True) / 2 / 3.35e12
    )
    # Four warps a scheduler; outside of the loop half is executed at its own stalls.
    # Three loads wait for each other.
    outside = 0.5 * 8000 * WAITED[4] * 2.9
    clocks = 65 * EXECUTED * WAITED[4] * 2500 + outside + 3 * 475
    assert forward.high() == pytest.approx(clocks / clock)
    # And six, and one for the four queries that a warp scales at once.
    outside = 0.5 * 7000 * WAITED[4] * 2.9
    clocks = 65 * EXECUTED * WAITED[4] * 2400 + outside + (6 + 1) * 475
    assert gradient.high() == pytest.approx(clocks / clock)


@pytest.mark.usefixtures("code")
def test_the_loss_alone_sums_no_rows() -> None:
    size = Size(8192, 8191, 128, "bfloat16")
    (forward,) = tile_model.passes(size, False, H100, draws=False)
    # 64 of 96 products are of the sums, two parts; four turns bring what two fragments of
    # 16 columns need.
    assert forward.loop.products == 32
    assert forward.loop.warp == Warp(900 - 64, 2500 - 6 * 64)
    assert forward.loop.wavefronts == 300 - 64


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize(("candidates", "way"), [(50, 1000), (1000, 900)])
def test_a_wide_band_finds_the_norms_by_a_launch_of_its_own(
    candidates: int, way: int
) -> None:
    size = Size(8192, candidates, 128, "bfloat16")
    forward, _ = tile_model.passes(size, True, H100, draws=False)
    assert forward.loop.warp.instructions == way
    tile = TileShape("bfloat16", 256)
    assert tile_model.launches(size, True, tile) == (3 if way == 1000 else 4)


@pytest.mark.usefixtures("code")
def test_each_thread_hashes_some_places_of_a_panel() -> None:
    size = Size(8192, 1000, 128, "bfloat16")
    forward, _ = tile_model.passes(size, True, H100, draws=True)
    # 128 places for sixteen warps of 32 lanes.
    assert forward.hashes.instructions == 160 / 4
    still, _ = tile_model.passes(size, True, H100, draws=False)
    assert still.hashes.instructions == 0


@pytest.mark.parametrize(
    ("batch_size", "tiles"), [(64 * 132, 1), (64 * 132 + 1, 2), (64 * 264, 2)]
)
def test_a_pass_waits_for_the_multiprocessors_with_the_most_tiles(
    batch_size: int, tiles: int
) -> None:
    size = Size(batch_size, 10, 128, "bfloat16")
    forward, _ = tile_model.passes(size, True, H100, draws=True)
    assert forward.tiles_in_turn == tiles


@pytest.mark.parametrize(
    ("batch_size", "kind", "rows"),
    [
        (16 * 132, "flat", 16),
        (16 * 132 + 1, "middle", 32),
        (32 * 132 + 1, "tall", 64),
        (64 * 132 + 1, "twin", 64),
    ],
)
def test_tiles_are_the_smallest_that_run_at_once(
    batch_size: int, kind: str, rows: int
) -> None:
    size = Size(batch_size, 100, 128, "bfloat16")
    forward, _ = tile_model.passes(size, True, H100, draws=False)
    assert (forward.tile.kind, forward.tile.rows) == (kind, rows)


def test_of_float64_tiles_the_low_end_alone_is_known() -> None:
    size = Size(128, 64, 8, "float64")  # a tile of 64 rows meets 128: 128 x 128 pairs
    device = replace(H100, floating_rate=2.0, multiprocessors=2)
    found = tile_model.predict(size, True, device)
    # Two products and two weighted sums at half the rate, two operations each.
    assert found.low == pytest.approx(2 * 4 * 128 * 128 * 8)
    assert found.high == float("inf")
    assert found.middle == found.low


# --- Gathered rows ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dim", "dtype", "layout"),
    [
        (64, "bfloat16", "8 lanes x 1 packets x 1 warps"),
        (64, "float16", "8 lanes x 1 packets x 1 warps"),
        (128, "float16", "16 lanes x 1 packets x 1 warps"),
        (128, "float32", "32 lanes x 1 packets x 1 warps"),
        (768, "bfloat16", "32 lanes x 4 packets x 1 warps"),
        (1024, "float32", "32 lanes x 8 packets x 1 warps"),
        (2048, "bfloat16", "32 lanes x 2 packets x 4 warps"),
        (4096, "bfloat16", "32 lanes x 4 packets x 4 warps"),
        (100, "bfloat16", "16 lanes x 1 packets x 1 warps in pieces"),
        (1001, "bfloat16", "32 lanes x 4 packets x 1 warps in pieces"),
        (1025, "bfloat16", None),
        (8192, "bfloat16", None),
    ],
)
def test_a_row_is_held_as_the_kernels_hold_it(
    dim: int, dtype: str, layout: str | None
) -> None:
    assert row_model.layout(Size(8192, 50, dim, dtype)) == layout


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_every_layout_has_its_compiled_loop(dtype: str, device: str) -> None:
    for dim in (32, 50, 128, 255, 256, 512, 1024, 2048):
        size = Size(8192, 50, dim, dtype)
        assert row_model.layout(size) is not None
        found = row_model.predict(size, True, DEVICES[device])
        assert 0 < found.low < found.high < 1


def test_the_limits_of_gathered_rows_are_those_made_by_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout = "16 lanes x 1 packets x 1 warps"
    code = {
        **{"warps": 12.0, "fragment_rows": 16.0, "loop_rows": 32.0},
        **{"other_instructions": 2000.0, "way": 1000.0, "stalls": 1800.0},
    }
    table = {("sm_90", "forward", "bfloat16", layout): code}
    monkeypatch.setattr(row_model, "compiled", lambda: table)
    monkeypatch.setattr(row_model, "HASH_WITH_KEYS", 150)
    forward = row_model.RowPass(Size(8192, 50, 128, "bfloat16"), H100, layout, "forward")
    # 50 rows are two fragments of 16 and two of the other 18; both by 32 indices.
    assert forward.fragments == 4
    assert forward.warp == Warp(2 * 1000 + 2 * 150, 2 * 1800 + 2 * 150 * 1.8)
    assert forward.rounds == 6  # 12 warps of 132 multiprocessors take 1584 rows at a time
    limits = forward.limits()
    assert limits["instructions"] == pytest.approx(8192 * 2300 / (4 * 132 * 1.98e9))
    assert limits["stalls"] == pytest.approx(6 * 4140 / 1.98e9)
    clocks = EXECUTED * (WAITED[2] * 4140 + 2300)  # three warps a scheduler
    outside = 0.5 * 2000 * (WAITED[2] * 2.9 + 1)
    assert forward.high() == pytest.approx(6 * (clocks + outside + 3 * 475) / 1.98e9)


@pytest.mark.parametrize(("candidates", "of_a_row"), [(50, 50 * 73), (130, 128 * 73 + 308)])
def test_a_candidate_is_hashed_once_a_pass_with_the_keys_that_are_kept(
    candidates: int, of_a_row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_model, "hash_without_keys", lambda architecture: 154.0)
    size = Size(8192, candidates, 128, "bfloat16")
    found = row_model.resources(size, True, H100)["hash"]
    assert found == pytest.approx(2 * 8192 * of_a_row / 16.7e12)


# --- The samplers -----------------------------------------------------------------------


@pytest.mark.parametrize(("dim", "dtype"), [(2064, "bfloat16"), (513, "float64")])
def test_rows_that_are_too_long_for_tiles_are_predicted_as_gathered(
    dim: int, dtype: str
) -> None:
    size, device = Size(8192, 64, dim, dtype), DEVICES["A100"]
    gathered = row_model.predict(size, True, device)
    assert gpu_samplers.predict("ring", size, True, device) == gathered
    fits = replace(size, dim=dim // 2)
    assert gpu_samplers.seconds("ring", fits, True, device) < gathered.low / 2


@pytest.mark.parametrize("dim", [64, 128, 256, 512, 768, 1024])
def test_what_bounds_all_at_the_least_is_what_the_page_says(dim: int) -> None:
    size = Size(8192, 8191, dim, "bfloat16")
    assert gpu_samplers.predict("all", size, True, H100).bound == "shared memory"


def test_every_other_document_is_a_candidate_of_all_whatever_k_is() -> None:
    size = Size(8192, 20, 128, "bfloat16")
    others = replace(size, num_negatives=8191)
    for training in (False, True):
        few, every = (
            gpu_samplers.predict("all", each, training, H100) for each in (size, others)
        )
        assert few == every
        # A ring of all documents hashes their places besides.
        assert gpu_samplers.predict("ring", others, training, H100).high > every.high


def test_a_sampler_wins_from_the_first_k_on_behind_which_it_is_always_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def predict(sampler: str, size: Size, training: bool, device: Device) -> Prediction:
        count = size.num_negatives
        time = {1: 0.5, 2: 2.0, 3: 3.5}.get(count, 4.0)
        middle = float(count) if sampler == "shuffle" else time
        return Prediction(middle / 2, 2 * middle, "L2")

    monkeypatch.setattr(gpu_samplers, "predict", predict)
    size = Size(8, 1, 128, "bfloat16")
    assert gpu_samplers.first_win("all", size, H100) == 5
    assert gpu_samplers.first_win("all", replace(size, batch_size=5), H100) is None


@pytest.mark.parametrize("name", ["predictions", "wins"])
def test_the_tables_of_the_samplers_on_file_are_the_models(name: str) -> None:
    file = {"predictions": "gpu_samplers.csv", "wins": "gpu_wins.csv"}[name]
    found = pd.read_csv(ROOT / "benchmarks" / "results" / file)
    expected = getattr(gpu_samplers, name)()
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
