"""How the documents show results of one machine or more, and of files that are older."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import report, update_documents

STEP_COST, END_TO_END = (
    f"benchmarks/results/{name}*.csv" for name in ("step_cost", "end_to_end")
)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the documents take result files from, empty."""
    folder = tmp_path / "benchmarks" / "results"
    folder.mkdir(parents=True)
    monkeypatch.setattr(update_documents, "ROOT", tmp_path)
    return folder


def write(path: Path, vectors: str, *rows: dict[str, Any]) -> None:
    pd.DataFrame(rows).assign(cpu_kernels=vectors).to_csv(path, index=False)


def cost(name: str, ratio: float, reached: str = "yes") -> dict[str, Any]:
    """A row of step_cost.csv."""
    figures = {"ratio": ratio, "q25": ratio - 0.5, "q75": ratio + 0.5}
    return {
        "row": name,
        "sizes": "8x4x128",
        **figures,
        "target": "at most 2",
        "reached": reached,
    }


def lines(name: str) -> list[list[str]]:
    """The cells of a table, its columns' names first."""
    head, _, *rows = update_documents.markdown_table(name).splitlines()
    return [line.strip("| ").split(" | ") for line in (head, *rows)]


def test_one_machines_ratios_are_headed_by_its_vectors(results: Path) -> None:
    write(results / "step_cost.csv", "avx512", cost("ring", 2.5), cost("all", 1.5, "no"))
    assert lines(STEP_COST) == [
        ["row", "sizes", "target", "ratio, AVX-512", "reached, AVX-512"],
        ["ring", "8x4x128", "at most 2", "2.5 (2..3)", "yes"],
        ["all", "8x4x128", "at most 2", "1.5 (1..2)", "no"],
    ]


def test_two_machines_ratios_are_side_by_side_with_dashes_where_one_has_no_row(
    results: Path,
) -> None:
    write(results / "step_cost_avx2.csv", "avx2", cost("all", 1.5), cost("jax", 3.5))
    write(results / "step_cost.csv", "avx512", cost("ring", 2.5), cost("all", 4.5))
    head, *rows = lines(STEP_COST)
    assert head[3:] == [
        *("ratio, AVX-512", "reached, AVX-512"),
        *("ratio, AVX2", "reached, AVX2"),
    ]
    assert [[row[0], row[3], row[5]] for row in rows] == [
        ["ring", "2.5 (2..3)", "-"],
        ["all", "4.5 (4..5)", "1.5 (1..2)"],
        ["jax", "-", "3.5 (3..4)"],
    ]


def test_the_steps_of_a_whole_model_show_k_and_the_share_of_the_loss(results: Path) -> None:
    times = {"step_ms": 30.0, "step_ms_q25": 29.0, "step_ms_q75": 32.0, "share": 0.25}
    rows = [
        {"impl": impl, "num_negatives": count, **times}
        for impl, count in (("fused", 20), ("fused-all", None), ("floor", None))
    ]
    write(results / "end_to_end.csv", "avx512", *rows)
    assert lines(END_TO_END) == [
        ["loss", "K", "step, ms, AVX-512", "of it the loss, AVX-512"],
        ["fused", "20", "30 (29..32)", "25%"],
        ["fused, all", "-", "30 (29..32)", "25%"],
        ["mean of query * doc, the floor", "-", "30 (29..32)", "25%"],
    ]


def test_a_result_file_that_is_not_there_is_named(results: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"step_cost\*\.csv"):
        update_documents.markdown_table(STEP_COST)


@pytest.mark.parametrize(
    ("docs", "name"),
    [
        ({}, "B=64, K=4, D=32"),  # a file of before there was the column
        ({"num_docs": 64}, "B=64, K=4, D=32"),
        ({"num_docs": 500}, "B=64, K=4, D=32, C=500"),
    ],
)
def test_a_size_names_its_documents_where_they_are_more_than_the_queries(
    docs: dict[str, int], name: str
) -> None:
    row = {"batch_size": 64, "num_negatives": 4, "dim": 32, **docs}
    assert report.size_name(row) == name


def test_implementations_are_rows_and_sizes_columns() -> None:
    common = {"num_negatives": 4, "dim": 32, "mode": "train", "ratio": 1.0}
    times = (("fused", 8, 2.0), ("fused", 64, 3.0), ("in-batch", 64, 4.0))
    rows = [
        {**common, "impl": impl, "batch_size": rows, "median_ms": milliseconds}
        for impl, rows, milliseconds in times
    ]
    assert report.by_size("train")(pd.DataFrame(rows)) == (
        ["implementation", "B=8, K=4, D=32", "B=64, K=4, D=32"],
        [["fused", "2 (1.0)", "3 (1.0)"], ["full in-batch softmax", "-", "4 (1.0)"]],
    )
