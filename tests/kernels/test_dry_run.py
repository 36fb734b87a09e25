"""benchmarks/gpu_evidence.py from end to end, with the emulator in the device's place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import gpu_evidence
from benchmarks.evidence import kernels, ncu, peers, tables
from benchmarks.evidence.command import NO_DEVICE
from benchmarks.steps import ROOT
from tests.kernels import vectors

# A minute, and the same wherever it runs: once, where no TensorFlow could help it.
pytestmark = pytest.mark.cores("cpu")

FILES = {
    "gpu.csv",
    "gpu_warpgroups.csv",
    "gpu_peers.csv",
    "gpu_ncu.csv",
    "gpu_checks.json",
    "vectors.npz",
    "log.txt",
    "log.jsonl",
}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a dry run fills; its exit status is 0."""
    folder = tmp_path_factory.mktemp("evidence")
    command = [sys.executable, "-m", "benchmarks.gpu_evidence", "--dry-run"]
    result = subprocess.run(
        [*command, "--output", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, result.stdout + (folder / "log.txt").read_text()
    return folder


@pytest.fixture(scope="module")
def checks(output: Path) -> Any:
    return json.loads((output / "gpu_checks.json").read_text())


def test_every_file_is_there_and_small(output: Path) -> None:
    found = {path.name: path.stat().st_size for path in output.iterdir()}
    assert set(found) == FILES
    assert max(found.values()) < 300_000


def test_every_step_has_its_outcome_in_order(checks: Any) -> None:
    assert [step["step"] for step in checks["steps"]] == list(gpu_evidence.LIMITS)
    assert {step["outcome"] for step in checks["steps"]} <= {"passed", "left out"}
    for step in checks["steps"]:
        if step["outcome"] == "left out":
            assert step["step"] in ("sanitizer", "ncu"), step["reason"]
            assert step["reason"] == NO_DEVICE


def test_the_ceilings_are_measured(checks: Any) -> None:
    parts = {part["name"]: part for part in checks["steps"][0]["parts"]}
    for name in ("memory", "L2"):
        facts = parts[f"copies in {name}, bytes read and written a second"]["facts"]
        assert facts["rate"] > 0


@pytest.mark.parametrize(
    ("file", "columns"),
    [
        ("gpu.csv", kernels.COLUMNS),
        ("gpu_warpgroups.csv", kernels.COLUMNS),
        ("gpu_peers.csv", peers.COLUMNS),
        ("gpu_ncu.csv", ncu.COLUMNS),
    ],
)
def test_each_table_has_its_columns_and_every_row_its_device(
    output: Path, file: str, columns: tuple[str, ...]
) -> None:
    table = pd.read_csv(output / file)
    assert tuple(table.columns) == (*columns, *tables.FACTS)
    assert (table["device"] == "emulated device").all()
    assert not table[list(tables.FACTS)].isna().any(axis=None)


def test_the_kernels_are_timed_in_every_way(output: Path) -> None:
    table = pd.read_csv(output / "gpu.csv")
    assert set(table["launch"]) == {"plain", "graph"}
    assert set(table["cache"]) == {"warm", "flushed"}
    assert set(table["mode"]) == {"forward", "train"}
    assert len(set(table["source"])) >= 3
    assert (table["samples"] >= 30).all()
    assert (table["q20_us"] <= table["median_us"]).all()
    assert (table["median_us"] <= table["q80_us"]).all()


def test_this_packages_kernels_are_timed_beside_the_rivals(output: Path) -> None:
    table = pd.read_csv(output / "gpu_peers.csv").set_index(["impl", "launch"])
    for name in ("core", "core-ring", "core-all"):
        for launch in ("plain", "graph"):
            assert table.loc[(name, launch), "samples"] == peers.SAMPLES
    assert table.loc[("core", "plain"), "ratio"] == 1


def test_a_rival_is_compared_with_the_step_that_has_its_candidates(output: Path) -> None:
    pytest.importorskip("jax", reason="jax is not installed: make bare-test has it")
    table = pd.read_csv(output / "gpu_peers.csv").set_index(["impl", "launch"])
    assert table.loc[("jax", "plain"), "ratio_to"] == "core, plain"
    assert table.loc[("jax", "plain"), "versions"].startswith("jax ")


def test_the_recorded_instructions_are_those_of_the_emulator(output: Path) -> None:
    device = vectors.device_of(vectors.load(output / "vectors.npz"))
    assert device["name"] == "emulated device"
