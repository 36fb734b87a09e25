"""How the documents show what a GPU has measured, and that nothing was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import update_documents
from benchmarks.evidence import kernels, ncu, peers, report, tables
from benchmarks.gpu import gpu_predictions, gpu_samplers, tile_shape
from benchmarks.report import Table

H100 = {
    "device": "NVIDIA H100 80GB HBM3",
    "driver": "580.65.06",
    "toolkit": "13.0",
    "commit": "1a2b3c4",
}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that the documents take result files from, empty."""
    folder = tmp_path / "benchmarks" / "results"
    folder.mkdir(parents=True)
    monkeypatch.setattr(report, "RESULTS", folder)
    monkeypatch.setattr(update_documents, "ROOT", tmp_path)
    report.measured_times.cache_clear()
    yield folder
    report.measured_times.cache_clear()


def write(path: Path, columns: tuple[str, ...], *rows: dict[str, Any]) -> None:
    table = tables.Table(path, columns, H100)
    for row in rows:
        table.add(row)


USUAL = {
    "source": "shuffle",
    "dtype": "bfloat16",
    "mode": "train",
    "statistics": True,
    "batch_size": 8192,
    "num_negatives": 50,
    "dim": 128,
    "launch": "graph",
    "cache": "warm",
    "median_us": 61.4,
}


@pytest.mark.parametrize("name", update_documents.MEASURED_ON_A_GPU)
def test_without_its_file_a_table_says_that_nothing_was_measured(
    name: str, results: Path
) -> None:
    command = "gpu_tensorflow" if name.endswith("tensorflow.json") else "gpu_evidence"
    assert update_documents.markdown_table(name) == (
        f"*Not measured yet: `python -m benchmarks.{command}` writes {name} on a "
        "machine with a GPU.*"
    )


def predictions() -> Table:
    view = update_documents.TABLES["benchmarks/results/gpu_samplers.csv"]
    return view(gpu_samplers.predictions())


def test_predictions_stand_alone_until_something_was_measured(results: Path) -> None:
    columns, _ = predictions()
    assert tuple(columns) == gpu_samplers.COLUMNS


def test_what_was_measured_stands_beside_what_was_predicted(results: Path) -> None:
    other_launch = {**USUAL, "launch": "plain", "median_us": 99.0}
    write(results / "gpu.csv", kernels.COLUMNS, USUAL, other_launch)
    columns, lines = predictions()
    assert list(columns) == [*gpu_samplers.COLUMNS, "H100 SXM measured, µs"]
    measured = {(line[0], line[1]): line[-1] for line in lines}
    assert measured["50", "shuffle"] == "61"
    assert measured["50", "ring"] == "-"


def test_a_step_is_found_by_its_mode_and_size(results: Path) -> None:
    size = {"batch_size": 4096, "num_negatives": 20, "mode": "forward"}
    write(results / "gpu.csv", kernels.COLUMNS, {**USUAL, **size, "median_us": 12.6})
    view = update_documents.TABLES["benchmarks/results/gpu_predictions.csv"]
    _, lines = view(gpu_predictions.predictions())
    found = {tuple(line[:3]): line[-1] for line in lines}
    assert found["4096 x 20 x 128", "bfloat16", "forward"] == "13"
    assert found["4096 x 20 x 128", "bfloat16", "train"] == "-"


def test_the_kernels_are_shown_as_graphs_plainly_and_with_flushed_caches(
    results: Path,
) -> None:
    variants = (("plain", "warm", 70.0), ("graph", "flushed", 80.0))
    rows = [
        {**USUAL, "launch": launch, "cache": cache, "median_us": median}
        for launch, cache, median in variants
    ]
    write(results / "gpu.csv", kernels.COLUMNS, USUAL, *rows)
    table = update_documents.markdown_table("benchmarks/results/gpu.csv")
    assert table.splitlines()[-1] == (
        "| shuffle | bfloat16 | train | 50 | 61.4 | 70 | 80 |"
    )


def test_rivals_are_shown_with_their_ratio_and_memory(results: Path) -> None:
    common = {"mode": "train", "batch_size": 8192, "num_negatives": 50, "dim": 128}
    common |= {"dtype": "bfloat16", "peak_bytes": 123_400_000, "label": "PyTorch"}
    plain = {"launch": "plain", "median_us": 900.0, "ratio": 14.25}
    graph = {"launch": "graph", "median_us": 700.0, "ratio": 11.5}
    write(results / "gpu_peers.csv", peers.COLUMNS, {**common, **plain}, common | graph)
    table = update_documents.markdown_table("benchmarks/results/gpu_peers.csv")
    assert table.splitlines()[-1] == (
        "| 8192 x 50 x 128 | bfloat16 | train | PyTorch | 900 | 14.2 | 700 | 11.5 | 123.4 |"
    )


def test_a_profile_is_shown_by_what_bounds_the_kernel(results: Path) -> None:
    row = {
        "family": "tiles, 16 bits",
        "kernel": "forward_tiles_kernel<TileShape<(int)128>>",
        "duration_us": 123.4,
        "tensor_pipe_percent": 41.5,
        "issue_slots_percent": 33.2,
        "l2_percent": 12.0,
        "occupancy_percent": 6.2,
        "stall_1": "math_pipe_throttle 2.00",
    }
    write(results / "gpu_ncu.csv", ncu.COLUMNS, row)
    table = update_documents.markdown_table("benchmarks/results/gpu_ncu.csv")
    assert table.splitlines()[-1] == (
        "| tiles, 16 bits | forward_tiles_kernel | 123 | 42% | 33% | 12% | - | 6% | "
        "math_pipe_throttle 2.00 |"
    )


def test_the_checks_are_shown_with_what_they_found(results: Path) -> None:
    def part(name: str, outcome: str, reason: str = "", **facts: Any) -> dict[str, Any]:
        return {"name": name, "outcome": outcome, "reason": reason, "facts": facts}

    def step(name: str, *parts: Any, outcome: str = "passed") -> dict[str, Any]:
        return {"step": name, "outcome": outcome, "reason": "no time", "parts": parts}

    steps = [
        step("device", part("copies", "passed", rate=2.98e12, seconds=1.5)),
        step("suite", part("test_rows", "failed", "2 failed: a\nb", passed=308, failed=2)),
        step("sanitizer", outcome="left out"),
        step("kernels", part("a run", "passed")),
    ]
    (results / "gpu_checks.json").write_text(json.dumps({"steps": steps}))
    table = update_documents.markdown_table("benchmarks/results/gpu_checks.json")
    assert table.splitlines()[2:] == [
        "| device | copies | passed | rate 2.98e+12 |",
        "| suite | test_rows | failed | 2 failed: a |",
        "| sanitizer |  | left out | no time |",
    ]


def test_the_steps_through_tensorflow_are_shown_with_how_many_parts_passed(
    results: Path,
) -> None:
    parts = [{"outcome": "passed"}, {"outcome": "failed"}]
    steps = [
        {"step": "fit", "outcome": "failed", "parts": parts, "seconds": 23.4},
        {"step": "times", "outcome": "left out", "parts": [], "seconds": 0.0},
    ]
    (results / "gpu_tensorflow.json").write_text(json.dumps({"steps": steps}))
    table = update_documents.markdown_table("benchmarks/results/gpu_tensorflow.json")
    assert table.splitlines()[2:] == [
        "| fit | failed | 1 of 2 | 23 |",
        "| times | left out | - | 0 |",
    ]


def kernels_shown(name: str) -> set[str]:
    """The first cells of a table of the documents."""
    table = update_documents.markdown_table(f"benchmarks/results/{name}")
    _, _, *lines = table.splitlines()
    return {line.split(" | ")[0].removeprefix("| ") for line in lines}


def test_of_the_machine_code_rows_in_one_warp_are_shown() -> None:
    shown = kernels_shown("machine_code.csv")
    assert "forward, bfloat16, 32 lanes x 1 packets x 1 warps" in shown
    assert "gradient, float32, 32 lanes x 8 packets x 1 warps" in shown
    assert all(kernel.endswith(" x 1 warps") for kernel in shown)


def test_of_the_tiles_loops_each_length_is_shown_once_for_each_pass() -> None:
    lengths = [row_bytes // 2 for row_bytes in tile_shape.ROWS_OF_TILES]
    assert kernels_shown("tile_code.csv") == {
        f"{name}, bfloat16 x {length}, tall"
        for name in ("forward", "gradient")
        for length in lengths
    }


def test_files_of_a_dry_run_are_no_results() -> None:
    for name in update_documents.MEASURED_ON_A_GPU:
        path = update_documents.ROOT / name
        text = path.read_text() if path.exists() else ""
        assert "emulated device" not in text
        assert '"dry_run": true' not in text


def test_every_column_of_a_file_is_named_once() -> None:
    for columns in (kernels.COLUMNS, peers.COLUMNS, ncu.COLUMNS):
        assert len({*columns, *tables.FACTS}) == len(columns) + len(tables.FACTS)
    assert pd.Index(tables.FACTS).is_unique
