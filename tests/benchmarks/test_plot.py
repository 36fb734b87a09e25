"""The pictures of the benchmark's sweeps."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmarks import plot
from benchmarks.ways import WAYS


def write_sweep(path: Path, column: str, **fixed: object) -> Path:
    """A sweep of three sizes, two ways and two modes."""
    row = {"batch_size": 64, "num_negatives": 4, "dim": 32, "dtype": "float32"}
    rows = [
        {**row, column: value, "impl": impl, "mode": mode, "median_ms": float(value)}
        for value in (8, 16, 32)
        for impl in ("fused", "torch-compile")
        for mode in ("forward", "train")
    ]
    results = pd.DataFrame(rows).assign(device="a machine", peak_bytes=1e6)
    results.assign(**fixed).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("column", ["batch_size", "num_negatives", "dim"])
def test_a_sweep_becomes_pictures_of_time_and_memory(column: str, tmp_path: Path) -> None:
    csv = write_sweep(tmp_path / "sweep.csv", column)
    plot.main([str(csv), "--output", str(tmp_path / "new")])
    drawn = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert drawn == [f"memory_by_{column}.png", f"time_by_{column}.png"]
    for name in drawn:
        assert (tmp_path / "new" / name).read_bytes().startswith(b"\x89PNG")


def test_memory_that_was_not_measured_is_not_drawn(tmp_path: Path) -> None:
    csv = write_sweep(tmp_path / "sweep.csv", "dim", peak_bytes=None)
    assert plot.draw_sweep(csv, tmp_path) == [tmp_path / "time_by_dim.png"]


def test_what_is_no_sweep_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv = write_sweep(tmp_path / "sweep.csv", "dim", dim=8)
    with pytest.raises(SystemExit, match="2"):
        plot.main([str(csv), "--output", str(tmp_path)])
    assert "is no sweep: its rows differ in no size" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        plot.main([str(tmp_path / "missing.csv"), "--output", str(tmp_path)])
    assert "No such file" in capsys.readouterr().err


def test_every_way_has_a_colour_of_its_own() -> None:
    colors = [plot.style(name)["color"] for name in WAYS]
    assert len(set(colors)) == len(colors)
