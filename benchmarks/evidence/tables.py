"""Result files: rows that are on the disk as soon as they are known."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# What every row says of where it comes from.
FACTS = ("device", "driver", "toolkit", "commit")


class Table:
    """A CSV that is written row by row, so that an end at any time leaves what there is."""

    def __init__(
        self, path: Path, columns: Sequence[str], facts: Mapping[str, Any]
    ) -> None:
        self.path, self.columns, self.facts = path, (*columns, *facts), dict(facts)
        self._write([dict(zip(self.columns, self.columns, strict=True))], "w")

    def add(self, row: Mapping[str, Any]) -> None:
        """A row; a column that it does not name is empty."""
        self._write([{**row, **self.facts}], "a")

    def _write(self, rows: Sequence[Mapping[str, Any]], mode: str) -> None:
        with self.path.open(mode, newline="") as file:
            csv.DictWriter(file, self.columns).writerows(rows)
