"""The model against what an H100 took for the kernels at commit f08bcd7 and before.

Their compiled loops were counted as those of today's kernels are, by tile_code.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.gpu import kernel_time, row_model
from benchmarks.gpu.gpu_model import DEVICES, Size
from benchmarks.gpu.kernel_time import Prediction, Warp
from benchmarks.gpu.tile_model import TENSOR_PRODUCTS, TileLoop, TilePass
from benchmarks.gpu.tile_shape import TileShape
from tests.support.checkout import ROOT

RESULTS = ROOT / "benchmarks" / "results"
H100 = DEVICES["H100"]


@dataclass(frozen=True)
class OldTile(TileShape):
    """A tile of 64 rows and panels of 32, or 32 and 16 where rows are long."""

    @property
    def rows(self) -> int:
        return 64 if self.row_bytes <= 1024 else 32

    @property
    def columns(self) -> int:
        return self.rows // 2

    @property
    def warps(self) -> int:
        return 4 if self.row_bytes <= 512 else 8

    @property
    def groups(self) -> int:
        return 1


# Rows of 768 elements were padded to 1024. A block found the norms of what it met.
LOOPS = {
    ("forward", 128): TileLoop(157, 4725, 153, 96, 221, Warp(715, 1855)),
    ("gradient", 128): TileLoop(167, 4922, 153, 96, 240, Warp(573, 1400)),
    ("forward", 768): TileLoop(240, 8601, 153, 96, 313, Warp(793, 2297)),
    ("gradient", 768): TileLoop(234, 6265, 154, 96, 300, Warp(561, 1704)),
}
PASSES = ("forward", "gradient")
NEAR = 1.1  # a short ring's training step is just above, and five of gathered rows


def old_pass(name: str, dim: int, candidates: int, draws: bool, sums: bool) -> TilePass:
    padded = {128: 128, 768: 1024}[dim]
    tile = OldTile("bfloat16", 2 * padded)
    loop = LOOPS[name, dim]
    if not sums:
        loop = loop.without_sums(TENSOR_PRODUCTS["bfloat16"], row_blocks=1)
    size = Size(8192, candidates, padded, "bfloat16")
    return TilePass(name, size, tile, loop, H100, draws, 0.0, 0.0)


def old_step(dim: int, candidates: int, training: bool, draws: bool) -> Prediction:
    names = PASSES if training else PASSES[:1]
    found = [
        old_pass(name, dim, candidates, draws, sums=training).predict() for name in names
    ]
    return kernel_time.step(found, len(found) + 1, finishes=True)


def measured(source: str, candidates: int, dim: int, mode: str) -> float:
    table = pd.read_csv(RESULTS / "gpu.csv")
    usual = {
        **{"source": source, "dtype": "bfloat16", "mode": mode, "statistics": True},
        **{"batch_size": 8192, "num_negatives": candidates, "dim": dim},
        **{"launch": "graph", "cache": "warm"},
    }
    for column, value in usual.items():
        table = table[table[column] == value]
    (time,) = table["median_us"]
    return float(time) * 1e-6


@pytest.mark.parametrize("mode", ["forward", "train"])
@pytest.mark.parametrize(
    ("source", "candidates", "dim"),
    [("all", 8191, 128), ("all", 8191, 768), ("ring", 1000, 128), ("ring", 50, 128)],
)
def test_what_the_old_tiles_took_is_in_their_range(
    source: str, candidates: int, dim: int, mode: str
) -> None:
    found = old_step(dim, candidates, mode == "train", draws=source == "ring")
    assert found.low <= measured(source, candidates, dim, mode) <= NEAR * found.high


# The row kernels' loops as they were then, for sm_90, and their hash of an index.
ROW_CODE = Path(__file__).parent / "measured_row_code.csv"
HASH_INSTRUCTIONS = 154.0


@pytest.fixture
def old_rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(row_model, "CODE", ROW_CODE)
    monkeypatch.setattr(row_model, "hash_instructions", lambda _: HASH_INSTRUCTIONS)
    row_model.compiled.cache_clear()
    yield
    row_model.compiled.cache_clear()


def gathered_steps() -> list[tuple[Size, str, float]]:
    table = pd.read_csv(RESULTS / "gpu.csv")
    usual = (table["launch"] == "graph") & (table["cache"] == "warm") & table["statistics"]
    rows = table[usual & (table["source"] == "shuffle")].to_dict("records")
    found = [
        (
            Size(row["batch_size"], row["num_negatives"], row["dim"], row["dtype"]),
            str(row["mode"]),
            float(row["median_us"]) * 1e-6,
        )
        for row in rows
    ]
    return [step for step in found if row_model.layout(step[0]) is not None]


@pytest.mark.usefixtures("old_rows")
@pytest.mark.parametrize(("size", "mode", "time"), gathered_steps())
def test_what_gathered_rows_took_is_in_their_range(
    size: Size, mode: str, time: float
) -> None:
    found = row_model.predict(size, mode == "train", H100)
    assert found.low <= time <= NEAR * found.high


@pytest.mark.usefixtures("old_rows")
def test_hardly_any_time_of_gathered_rows_is_above_their_range() -> None:
    steps = gathered_steps()
    above = [
        size
        for size, mode, time in steps
        if time > row_model.predict(size, mode == "train", H100).high
    ]
    assert (len(steps), len(above)) == (82, 5)


# --- What ncu said of them --------------------------------------------------------------


def profile(name: str, dim: int) -> pd.Series:
    table = pd.read_csv(RESULTS / "gpu_ncu.csv")
    is_pass = table["kernel"].str.startswith(f"{name}_tiles_kernel<TileShape<BFloat16")
    (row,) = (
        row
        for _, row in table[is_pass].iterrows()
        if (row["source"], row["dim"]) == ("all", dim)
    )
    return row


def clocks_of_a_panel(name: str, dim: int) -> float:
    each = old_pass(name, dim, 8191, draws=False, sums=True)
    clocks = profile(name, dim)["duration_us"] * 1e-6 * H100.clock
    return float(clocks / each.tiles_in_turn / each.panels)


@pytest.mark.parametrize("name", PASSES)
def test_a_warp_executed_more_than_the_shortest_way(name: str) -> None:
    issued = profile(name, 128)["issue_slots_percent"] / 100 * clocks_of_a_panel(name, 128)
    way = LOOPS[name, 128].warp.instructions
    assert issued / way == pytest.approx(kernel_time.EXECUTED, rel=0.01)


@pytest.mark.parametrize(("dim", "warps"), [(128, 1), (768, 2)])
def test_warps_waited_longer_than_their_stalls(dim: int, warps: int) -> None:
    waited = {
        name: clocks_of_a_panel(name, dim)
        / (kernel_time.EXECUTED * LOOPS[name, dim].warp.stalls)
        for name in PASSES
    }
    assert max(waited.values()) == pytest.approx(kernel_time.WAITED[warps], rel=0.01)
    assert min(waited.values()) > 0.8 * kernel_time.WAITED[warps]


@pytest.mark.parametrize("dim", [128, 768])
@pytest.mark.parametrize("name", PASSES)
def test_the_turns_of_shared_memory_are_those_that_were_counted(
    name: str, dim: int
) -> None:
    each = old_pass(name, dim, 8191, draws=False, sums=True)
    tiles = 8192 / each.tile.rows
    turns = tiles * each.panels * each.tile.warps * each.loop.wavefronts
    assert turns == pytest.approx(profile(name, dim)["shared_wavefronts"], rel=0.06)


def test_a_launch_by_the_host_costs_what_steps_took_beyond_their_graphs() -> None:
    table = pd.read_csv(RESULTS / "gpu.csv")
    short = table["source"].isin(["shuffle", "ring"]) & (table["median_us"] < 300)
    keys = ["source", "dtype", "mode", "statistics", "batch_size", "num_negatives", "dim"]
    times = table[short & (table["cache"] == "warm")].pivot_table(
        index=keys, columns="launch", values="median_us"
    )
    launches = times.index.get_level_values("mode").map({"forward": 2, "train": 3})
    longer = (times["plain"] - times["graph"]) / launches
    high = kernel_time.LAUNCH_LOW + longer.quantile(0.9) * 1e-6
    assert high == pytest.approx(kernel_time.LAUNCH_HIGH, rel=0.05)
