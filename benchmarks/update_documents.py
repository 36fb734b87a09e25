"""Writes the documents' tables from the result files that they name: `make results`.

A table stands between `<!-- table: PATH -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import gpu_model, report
from examples import two_tower

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

Cells = Callable[[Mapping[Any, Any]], list[str]]
TABLES: dict[str, tuple[tuple[str, ...], Cells]] = {
    "examples/results/scores.csv": (two_tower.COLUMNS, two_tower.cells),
    "benchmarks/results/cpu.csv": (report.COLUMNS, report.cells),
    "benchmarks/results/gpu_predictions.csv": (gpu_model.COLUMNS, gpu_model.cells),
}


def markdown_table(path: str) -> str:
    """The table of a result file, in Markdown."""
    columns, cells = TABLES[path]
    records = pd.read_csv(ROOT / path).to_dict("records")
    separator = ["---"] + ["---:"] * (len(columns) - 1)
    rows = [list(columns), separator, *(cells(record) for record in records)]
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
