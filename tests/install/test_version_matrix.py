"""The script of `make versions`: which pairs it tries, and what it writes of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import tomli

from tests.support.checkout import ROOT
from tools import version_matrix
from tools.version_matrix import Pair

ROW = {
    "python": "3.10.13",
    "tensorflow": "2.20.0",
    "keras": "3.12.4",
    "numpy": "2.2.6",
    "compiler": "GNU 12.2.0",
    "parts": "CPU, XLA",
    "passed": "7",
    "failed": "0",
    "skipped": "1",
}


def asked_for(**options: Any) -> list[Pair]:
    defaults = {"python": None, "tensorflow": None, "lowest": False}
    return [*version_matrix.pairs(argparse.Namespace(**{**defaults, **options}))]


def test_each_python_meets_each_tensorflow() -> None:
    found = asked_for(python=["python3.10", "python3.12"], tensorflow=["2.20", "2.21"])
    assert [(pair.python, *pair.constraints) for pair in found] == [
        ("python3.10", "tensorflow==2.20.*"),
        ("python3.10", "tensorflow==2.21.*"),
        ("python3.12", "tensorflow==2.20.*"),
        ("python3.12", "tensorflow==2.21.*"),
    ]
    assert len({pair.name for pair in found}) == 4


def test_the_lowest_releases_are_the_declared_bounds() -> None:
    (lowest,) = asked_for(python=["python3.10"], lowest=True)
    project = tomli.loads((ROOT / "pyproject.toml").read_text())
    declared = project["dependency-groups"]["requirements"]
    bounds = [one.partition(",")[0].replace(">=", "==") + ".0" for one in declared]
    assert [*lowest.constraints] == bounds


def test_a_report_of_pytest_is_counted() -> None:
    suite = '<testsuite tests="10" failures="2" errors="1" skipped="3"/>'
    report = f"<testsuites>{suite}</testsuites>"
    assert version_matrix.counts(report) == {"passed": 4, "failed": 3, "skipped": 3}


def test_a_pair_that_runs_again_replaces_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version_matrix, "RESULTS", tmp_path / "results.csv")
    newer = {**ROW, "tensorflow": "2.21.0"}
    for row in (newer, ROW, {**ROW, "failed": "1"}):
        version_matrix.record(row)
    assert version_matrix.recorded() == [{**ROW, "failed": "1"}, newer]


def test_what_was_recorded_passed_with_all_parts() -> None:
    rows = version_matrix.recorded()
    assert rows
    for row in rows:
        assert row["parts"] == "CPU, XLA"
        assert int(row["passed"]) > 0
        assert row["failed"] == "0"


@pytest.mark.nightly
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
@pytest.mark.parametrize("tensorflow", version_matrix.TENSORFLOWS)
def test_every_supported_pair_was_recorded(python: str, tensorflow: str) -> None:
    assert [
        row
        for row in version_matrix.recorded()
        if row["python"].startswith(f"{python}.")
        and row["tensorflow"].startswith(f"{tensorflow}.")
    ]
