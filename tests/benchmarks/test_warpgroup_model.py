"""The predicted times of the kernels of warpgroups, by hand where that is possible."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.gpu import warpgroup_code, warpgroup_model
from benchmarks.gpu.gpu_model import DEVICES, Size
from benchmarks.gpu.warpgroup_model import WarpgroupPass, predict, rows_of_tile

H100 = DEVICES["H100"]
USUAL = Size(8192, 8191, 128, "bfloat16")


@pytest.mark.parametrize(
    ("docs", "rows"),
    # 132 multiprocessors: one turn of 64 rows, three against two of 128, four against two.
    [(8192, 64), (132 * 64, 64), (20000, 64), (132 * 128, 128), (65536, 128)],
)
def test_tiles_are_low_where_that_leaves_fewer_multiprocessors_idle(
    docs: int, rows: int
) -> None:
    assert rows_of_tile(docs, H100) == rows


def test_the_tensor_cores_need_the_time_of_their_peak() -> None:
    found = WarpgroupPass("forward", USUAL, H100).limits()["tensor cores"]
    # Two products of 8192 x 8192 x 128 by 128 of 132 multiprocessors, and a panel more.
    operations = 2 * 2 * 8192 * (8192 + 128) * 128
    assert found == pytest.approx(operations / (989e12 * 128 / 132), rel=1e-3)


def test_a_range_begins_with_its_slowest_resource_and_ends_behind_it() -> None:
    for name in ("forward", "gradient"):
        each = WarpgroupPass(name, USUAL, H100)
        found = each.predict()
        assert found.low == max(each.limits().values())
        assert found.low < found.high


def test_twice_the_rows_take_four_times_as_long() -> None:
    small, large = (predict(Size(b, b - 1, 128, "bfloat16"), H100) for b in (32768, 65536))
    assert large.low / small.low == pytest.approx(4, rel=0.05)


def test_the_table_names_every_size_and_what_bounds_it(tmp_path: Path) -> None:
    output = tmp_path / "warpgroups.csv"
    warpgroup_model.main(["--output", str(output)])
    table = pd.read_csv(output)
    assert len(table) == len(warpgroup_model.SIZES)
    assert (table["low_us"] < table["high_us"]).all()
    assert table["bound"].notna().all()


def test_the_compiled_loops_are_of_every_kernel() -> None:
    table = pd.read_csv(warpgroup_model.CODE)
    keys = table[["pass", "dtype", "elements", "rows"]].drop_duplicates()
    assert len(keys) == len(table) == 2 * 2 * 3 * 2
    shown = [row for row in table.to_dict("records") if warpgroup_code.is_documented(row)]
    assert len(shown) == 12
    assert all(
        len(warpgroup_code.cells(row)) == len(warpgroup_code.COLUMNS) for row in shown
    )
