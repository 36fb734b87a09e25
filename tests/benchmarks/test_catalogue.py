"""The benchmark of a catalogue's ranks on tiny sizes: equal recalls, and the CSV."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from benchmarks import catalogue, report
from benchmarks.catalogue import OURS, Sizes
from benchmarks.checks import WrongResultError
from benchmarks.problem import Step

TINY = Sizes(50, 5000, 8)
FIGURES = ["way", "queries", "docs", "dim", "seconds", "seconds_q25", "seconds_q75"]
FIGURES += ["ratio", "rounds", "peak_bytes", "recommenders"]


def test_every_way_finds_the_same_recall() -> None:
    query, positive, corpus = (part.numpy() for part in catalogue.rows_of(TINY))
    own = np.sum(query * positive, axis=1, keepdims=True)
    expected = np.mean(np.sum(query @ corpus.T > own + 1e-6, axis=1) < catalogue.K)
    assert 0.1 < expected < 0.9
    for way in catalogue.ways_of(TINY):
        step = catalogue.make_step(way, TINY)
        for _ in range(2):  # a metric must begin anew
            (found,) = step.outputs(step.run())
            assert float(found) == pytest.approx(expected), way


def test_a_way_with_another_recall_is_refused() -> None:
    def step(recall: float) -> Step:
        return Step(
            lambda: tf.constant(recall), lambda _: None, lambda found: [found.numpy()]
        )

    catalogue.check({OURS: step(0.5), "other": step(0.5)})
    with pytest.raises(WrongResultError, match=r"other found recall@100 0\.25, not 0\.5"):
        catalogue.check({OURS: step(0.5), "other": step(0.25)})


def test_a_matrix_that_memory_has_no_room_for_is_left_out() -> None:
    assert "one matrix" in catalogue.ways_of(catalogue.USUAL[0])
    assert "one matrix" not in catalogue.ways_of(catalogue.USUAL[-1])


def test_what_is_not_installed_is_left_out() -> None:
    found = importlib.util.find_spec(catalogue.RECOMMENDERS) is not None
    assert ("FactorizedTopK" in catalogue.ways_of(TINY)) == found


def test_each_way_is_measured_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(catalogue, "QUICK", [TINY])
    monkeypatch.setattr(catalogue, "peak_bytes", lambda way, sizes: 1_500_000)
    output = tmp_path / "new" / "catalogue.csv"
    catalogue.main(["--quick", "--rounds", "2", "--output", str(output)])
    results = pd.read_csv(output)
    assert list(results.columns) == [*FIGURES, *report.MACHINE]
    assert list(results["way"]) == catalogue.ways_of(TINY)
    assert (results["seconds_q25"] <= results["seconds"]).all()
    assert (results["seconds"] <= results["seconds_q75"]).all()
    assert results["ratio"][0] == 1
    assert (results["rounds"] == 2).all()
    columns, rows = catalogue.view(results)
    assert list(columns) == ["seconds (ratio), peak in MB", "N = 5,000"]
    assert all(cells[1].endswith("), 1.5") for cells in rows)
    assert OURS in capsys.readouterr().out


def test_a_large_catalogue_takes_one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "LARGE", TINY.docs)
    monkeypatch.setattr(catalogue, "peak_bytes", lambda way, sizes: 0)
    rows = catalogue.measure(TINY, rounds=3)
    assert {row["rounds"] for row in rows} == {1}


def test_the_peak_is_that_of_one_run() -> None:
    few, many = (catalogue.peak_bytes(OURS, Sizes(2000, docs)) for docs in (20_000, 80_000))
    scores = 4 * 2000 * 80_000
    assert many < scores / 10
    assert many < 2 * few + 2**23
