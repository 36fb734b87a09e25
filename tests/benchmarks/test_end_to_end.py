"""The training step of a whole model on a tiny one: each loss, its share, and the CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import end_to_end, report
from benchmarks.end_to_end import FLOOR, Task, Towers

TINY = Towers(
    batch_size=32, dim=8, query_ids=60, doc_ids=40, embedding=4, hidden=8, batches=2
)
FIGURES = ["impl", "batch_size", "num_negatives", "dim", "step_ms", "step_ms_q25"]
FIGURES += ["step_ms_q75", "share", "share_q25", "share_q75", "rounds"]


def run(folder: Path, *options: str) -> pd.DataFrame:
    """The CSV of a run of two rounds."""
    output = folder / "new" / "end_to_end.csv"
    end_to_end.main(["--rounds", "2", *options, "--output", str(output)])
    return pd.read_csv(output)


@pytest.mark.parametrize("task", end_to_end.tasks([5]))
def test_each_way_trains_the_model(task: Task) -> None:
    step = end_to_end.make_step(task, TINY)
    first, *_, last = (step.outputs(step.run())[0] for _ in range(20))
    assert last < first


def test_the_ways_differ_in_nothing_but_their_loss() -> None:
    tasks: list[Task] = [("fused-all", None), ("in-batch", None)]  # the same loss
    steps = [end_to_end.make_step(task, TINY) for task in tasks]
    ours, theirs = (
        [float(step.outputs(step.run())[0]) for _ in range(4)] for step in steps
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_each_way_is_measured_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(end_to_end, "TOWERS", TINY)
    results = run(tmp_path, "--quick")
    assert list(results.columns) == [*FIGURES, *report.MACHINE]
    (count,) = end_to_end.QUICK_COUNTS
    drawn = results.dropna(subset="num_negatives")
    assert list(drawn["impl"]) == list(end_to_end.DRAWING)
    assert (drawn["num_negatives"] == count).all()
    assert list(results["impl"]) == [*end_to_end.DRAWING, *end_to_end.FULL, FLOOR]
    assert (results["step_ms_q25"] <= results["step_ms"]).all()
    assert (results["step_ms"] <= results["step_ms_q75"]).all()
    assert results["share"].between(-np.inf, 1, inclusive="neither").all()
    assert results["share"].iloc[-1] == 0
    assert (results["rounds"] == 2).all()
    assert results[["device", "cpu_kernels", "tensorflow"]].notna().all(axis=None)
    assert report.VECTORS[results["cpu_kernels"][0]] in capsys.readouterr().out


def test_without_quick_there_is_a_row_for_each_k() -> None:
    tasks = end_to_end.tasks(end_to_end.COUNTS)
    for way in end_to_end.DRAWING:
        assert [count for name, count in tasks if name == way] == [20, 50]


def test_the_share_of_a_loss_is_what_a_step_takes_above_the_floor_of_its_round() -> None:
    times, floor = np.array([10.0, 8.0, np.nan]), np.array([5.0, 6.0, 7.0])
    np.testing.assert_allclose(end_to_end.share(times, floor), [0.5, 0.25, np.nan])
    found = end_to_end.figures(times, floor)
    assert found["share"] == 0.375
    assert found["step_ms"] == 9
    assert found["rounds"] == 2
