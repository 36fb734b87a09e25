"""What a replica's step costs, on tiny sizes: the steps, the figures and the CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import replica_cost, report
from benchmarks.replica_cost import Replica

TINY = Replica(16, 3, 8)
NAMES = ["sampler", "batch_size", "num_negatives", "dim", "replicas"]
FIGURES = [
    f"{name}{quartile}"
    for name in ("step_ms", "zeros_share", "growth")
    for quartile in ("_q25", "", "_q75")
]


def run(folder: Path, *options: str) -> pd.DataFrame:
    """The CSV of a run of two rounds."""
    output = folder / "new" / "replica_cost.csv"
    replica_cost.main(["--rounds", "2", *options, "--output", str(output)])
    return pd.read_csv(output)


def test_each_step_is_measured_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(replica_cost, "USUAL", (TINY, Replica(8, 2, 8)))
    monkeypatch.setattr(replica_cost, "REPLICAS", (1, 2))  # of more, graphs take long
    results = run(tmp_path)
    assert list(results.columns) == [*NAMES, *FIGURES, "rounds", *report.MACHINE]
    by_step = results.groupby(NAMES[:-1], sort=False)["replicas"].apply(list)
    assert list(by_step) == [list(replica_cost.REPLICAS)] * 4
    assert list(by_step.index.get_level_values("sampler")) == ["shuffle", "ring"] * 2
    assert (results[["step_ms", "zeros_share"]] > 0).all(axis=None)
    assert (results["growth"][results["replicas"] == 1] == 1).all()
    assert (results["rounds"] == 2).all()
    printed = capsys.readouterr().out
    assert "16 x 3 x 8" in printed
    assert "ring" in printed


def test_a_quick_run_has_the_smallest_step_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_cost, "QUICK", (TINY,))
    assert set(run(tmp_path, "--quick")["batch_size"]) == {16}
    monkeypatch.undo()
    (quick,) = replica_cost.QUICK
    assert quick.rows == min(replica.rows for replica in replica_cost.USUAL)


@pytest.mark.parametrize("sampler", replica_cost.WAYS)
def test_a_step_has_the_gradients_of_all_documents_and_zeros_have_their_size(
    sampler: str,
) -> None:
    steps = replica_cost.make_steps(sampler, TINY, (1, 4))
    for (what, replicas), step in steps.items():
        _, query, doc = step.outputs(step.run())
        assert (query.shape, doc.shape) == ((16, 8), (replicas * 16, 8))
        assert doc.any() == (what == "step")


def test_the_rest_of_a_step_is_compared_with_one_replicas_of_the_same_round() -> None:
    times = {
        ("step", 1): np.array([5.0, 10.0, 5.0]),
        ("zeros", 1): np.array([1.0, 2.0, 1.0]),
        ("step", 8): np.array([16.0, 32.0, 16.0]),
        ("zeros", 8): np.array([8.0, 16.0, 8.0]),
    }
    found = replica_cost.figures(times, 8)
    assert found["growth"] == found["growth_q25"] == found["growth_q75"] == 2
    assert found["zeros_share"] == 0.5
    assert found["step_ms"] == 16
    assert found["rounds"] == 3


def test_the_table_has_a_column_for_each_number_of_replicas() -> None:
    rows = [
        {
            **dict(zip(NAMES, ("ring", 16, 3, 8, replicas), strict=True)),
            **dict.fromkeys(FIGURES, 0.5 * replicas),
        }
        for replicas in (1, 4)
    ]
    columns, cells = replica_cost.view(pd.DataFrame(rows))
    assert list(columns)[2:] == ["1 replicas", "4 replicas"]
    assert cells == [["ring", "16 x 3 x 8", "0.5 (0.50)", "2 (2.0)"]]
