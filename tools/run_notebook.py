"""Runs a notebook's code in this process, cell after cell, and stores what it prints.

    python -m tools.run_notebook docs/tutorial.ipynb

What a notebook shows is what `print` writes: no kernel is started, and nothing of Jupyter
is needed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from pathlib import Path
from typing import Any

Notebook = dict[str, Any]


def run_notebook(notebook: Notebook) -> Notebook:
    """The notebook with the outputs of this run."""
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = []
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            printed = io.StringIO()
            code = compile("".join(cell["source"]), f"cell {number}", "exec")
            with contextlib.redirect_stdout(printed):
                exec(code, names)
            cell = {**cell, "outputs": outputs_of(printed.getvalue())}
        cells.append(cell)
    return {**notebook, "cells": cells}


def outputs_of(printed: str) -> list[dict[str, Any]]:
    """What a cell printed, as a notebook stores it."""
    if not printed:
        return []
    lines = printed.splitlines(keepends=True)
    return [{"name": "stdout", "output_type": "stream", "text": lines}]


def printed_by(cell: dict[str, Any]) -> str:
    """What a cell of code printed when it was stored."""
    return "".join("".join(output["text"]) for output in cell["outputs"])


def main(path: Path) -> None:
    """Runs the notebook, and writes it with its outputs."""
    notebook = run_notebook(json.loads(path.read_text()))
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("notebook", type=Path)
    main(parser.parse_args().notebook)
