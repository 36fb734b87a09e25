"""Writes the documents' tables from the result files that they name: `make results`.

A table stands between `<!-- table: PATH -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmarks import gpu_model, machine_code, report
from examples import two_tower

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

Record = Mapping[Any, Any]


class Table(NamedTuple):
    """How a document shows a result file."""

    columns: tuple[str, ...]
    cells: Callable[[Record], list[str]]
    shows: Callable[[Record], bool] = lambda record: True


TABLES = {
    "examples/results/scores.csv": Table(two_tower.COLUMNS, two_tower.cells),
    "benchmarks/results/cpu.csv": Table(report.COLUMNS, report.cells),
    "benchmarks/results/gpu_predictions.csv": Table(gpu_model.COLUMNS, gpu_model.cells),
    "benchmarks/results/machine_code.csv": Table(
        machine_code.COLUMNS, machine_code.cells, machine_code.is_documented
    ),
}


def markdown_table(path: str) -> str:
    """The table of a result file, in Markdown."""
    table = TABLES[path]
    records = filter(table.shows, pd.read_csv(ROOT / path).to_dict("records"))
    separator = ["---"] + ["---:"] * (len(table.columns) - 1)
    rows = [list(table.columns), separator, *map(table.cells, records)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def with_tables(text: str) -> str:
    """The text with every table written anew."""
    return re.sub(
        r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{markdown_table(match[2])}\n{match[3]}",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(with_tables(document.read_text()))
