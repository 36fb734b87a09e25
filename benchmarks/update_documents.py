"""Writes the documents' tables from the result files that they name: `make results`.

A table is between `<!-- table: PATH -->` and `<!-- end -->`; `PATH#VIEW` is one of
several views of a file. A PATH with a star is of several files, of other machines or other
vectors. What only a machine with a GPU can write may be missing: then a sentence says so.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import (
    catalogue,
    end_to_end,
    errors,
    replica_bytes,
    replica_cost,
    report,
    step_cost,
    weight_rounding,
)
from benchmarks.evidence import report as evidence
from benchmarks.gpu import (
    gpu_predictions,
    gpu_samplers,
    machine_code,
    tile_code,
    warpgroup_code,
    warpgroup_model,
)
from benchmarks.report import Record, Table
from examples import scores

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

View = Callable[[Any], Table]  # of a file's rows, or of what it holds in JSON

NOT_MEASURED = (
    "*Not measured yet: `python -m benchmarks.{command}` writes {path} on a machine "
    "with a GPU.*"
)


def row_by_row(
    columns: Sequence[str],
    cells: Callable[[Record], list[str]],
    shows: Callable[[Record], bool] = lambda record: True,
) -> View:
    """A view that shows each row of a file, or some of them, as a row."""

    def view(results: pd.DataFrame) -> Table:
        records = filter(shows, results.to_dict("records"))
        return columns, [*map(cells, records)]

    return view


def as_it_is(results: pd.DataFrame) -> Table:
    """The view of a file whose columns are a table's."""
    return [*results.columns], results.astype(str).to_numpy().tolist()


TABLES: dict[str, View] = {
    "examples/results/scores.csv": scores.view,
    "examples/results/large_batch/scores.csv": scores.view,
    "examples/results/movielens/scores.csv": scores.view,
    "benchmarks/results/cpu.csv#short": row_by_row(
        report.SHORT_COLUMNS, report.short_cells, report.is_short
    ),
    "benchmarks/results/cpu.csv#usual": row_by_row(
        report.COLUMNS, report.cells, report.is_usual
    ),
    "benchmarks/results/cpu.csv#forward": report.by_size("forward"),
    "benchmarks/results/cpu.csv#train": report.by_size("train"),
    "benchmarks/results/cpu.csv#rows": row_by_row(
        report.ROW_COLUMNS, report.row_cells, report.is_bound_by_rows
    ),
    "benchmarks/results/bfloat16.csv": row_by_row(report.DTYPE_COLUMNS, report.dtype_cells),
    "benchmarks/results/errors.csv": errors.by_case,
    "benchmarks/results/more_docs.csv": report.by_size("train"),
    "benchmarks/results/step_cost*.csv": step_cost.view,
    "benchmarks/results/end_to_end*.csv": end_to_end.view,
    "benchmarks/results/gpu_predictions.csv": evidence.beside_measured(
        gpu_predictions.COLUMNS, gpu_predictions.cells, lambda row: ("shuffle", row["mode"])
    ),
    "benchmarks/results/gpu_samplers.csv": evidence.beside_measured(
        gpu_samplers.COLUMNS, gpu_samplers.cells, lambda row: (row["sampler"], "train")
    ),
    "benchmarks/results/gpu_wins.csv": row_by_row(
        gpu_samplers.WIN_COLUMNS, gpu_samplers.win_cells
    ),
    "benchmarks/results/machine_code.csv": row_by_row(
        machine_code.COLUMNS, machine_code.cells, machine_code.is_documented
    ),
    "benchmarks/results/tile_code.csv": row_by_row(
        tile_code.COLUMNS, tile_code.cells, tile_code.is_documented
    ),
    "benchmarks/results/warpgroup_code.csv": row_by_row(
        warpgroup_code.COLUMNS, warpgroup_code.cells, warpgroup_code.is_documented
    ),
    "benchmarks/results/warpgroups.csv": row_by_row(
        warpgroup_model.COLUMNS, warpgroup_model.cells
    ),
    "benchmarks/results/catalogue.csv": catalogue.view,
    "benchmarks/results/weight_rounding.csv": weight_rounding.view,
    "benchmarks/results/replica_bytes.csv": row_by_row(
        replica_bytes.COLUMNS, replica_bytes.cells
    ),
    "benchmarks/results/replica_cost.csv": replica_cost.view,
    "tools/version_matrix.csv": as_it_is,
    "tools/wheel.csv": as_it_is,
    "tools/wheel_of_all.csv": as_it_is,
    "examples/results/vector_index.csv": as_it_is,
}
# Written by benchmarks/gpu_evidence.py alone, the last by benchmarks/gpu_tensorflow.py.
MEASURED_ON_A_GPU: dict[str, View] = {
    "benchmarks/results/gpu_checks.json": evidence.checks,
    "benchmarks/results/gpu.csv": evidence.kernels,
    "benchmarks/results/gpu_peers.csv": evidence.peers,
    "benchmarks/results/gpu_ncu.csv": evidence.profiles,
    "benchmarks/results/gpu_tensorflow.json": evidence.steps,
}


def markdown_table(name: str) -> str:
    """The view of a result file, in Markdown."""
    path, _, _ = name.partition("#")
    if name in MEASURED_ON_A_GPU and not (ROOT / path).exists():
        return NOT_MEASURED.format(path=path, command=command_of(path))
    view = {**TABLES, **MEASURED_ON_A_GPU}[name]
    columns, rows = view(read_results(path))
    separator = ["---"] + ["---:"] * (len(columns) - 1)
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [list(columns), separator, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def command_of(path: str) -> str:
    """Which of the benchmarks writes a file on a machine with a GPU."""
    return "gpu_tensorflow" if "gpu_tensorflow" in path else "gpu_evidence"


def read_results(name: str) -> Any:
    """What a file of JSON holds, or a CSV's rows: with a star those of several CSVs."""
    path = ROOT / name
    if path.suffix != ".csv":
        return json.loads(path.read_text())
    files = sorted(ROOT.glob(name)) or [path]  # the error names what is not there
    return pd.concat(map(pd.read_csv, files), ignore_index=True)


def with_tables(text: str) -> str:
    """The text with every table written anew."""
    return re.sub(
        r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{markdown_table(match[2])}\n{match[3]}",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    for document in DOCUMENTS:
        document.write_text(with_tables(document.read_text()))
