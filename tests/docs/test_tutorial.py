"""docs/tutorial.ipynb runs, and what it says of its numbers is so."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tools.run_notebook import Notebook, printed_by, run_notebook

STORED = ROOT / "docs" / "tutorial.ipynb"


# What takes long to make is made by one process.
pytestmark = pytest.mark.xdist_group("tutorial")


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Notebook:
    """The notebook as it runs here, in a process of its own."""
    copy = tmp_path_factory.mktemp("tutorial") / STORED.name
    shutil.copy(STORED, copy)
    command = [sys.executable, "-m", "tools.run_notebook", str(copy)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    notebook: Notebook = json.loads(copy.read_text())
    return notebook


def printed(notebook: Notebook) -> list[str]:
    """What each cell of code printed."""
    cells = notebook["cells"]
    return [printed_by(cell) for cell in cells if cell["cell_type"] == "code"]


def recalls(notebook: Notebook, name: str) -> dict[str, float]:
    """The recall@10 that a model of the notebook had, for both kinds of queries."""
    line = rf"^{name} +(as they come|one a document) +recall@10 ([\d.]+)"
    found = re.findall(line, "".join(printed(notebook)), re.MULTILINE)
    assert len(found) == 2
    return {kind: float(value) for kind, value in found}


def test_the_tutorial_is_stored_with_what_its_cells_print(tutorial: Notebook) -> None:
    def without_numbers(texts: list[str]) -> list[str]:
        return [re.sub(r"[\d.]+", "0", re.sub(r"\[.*\]", "[]", text)) for text in texts]

    stored = json.loads(STORED.read_text())
    assert without_numbers(printed(stored)) == without_numbers(printed(tutorial))


def test_logq_helps_the_queries_as_they_come_and_not_one_of_each(
    tutorial: Notebook,
) -> None:
    without, with_it = recalls(tutorial, "50 negatives"), recalls(tutorial, "with logQ")
    assert with_it["as they come"] > without["as they come"]
    assert with_it["one a document"] < without["one a document"]


def test_both_kinds_of_queries_are_better_after_the_hard_negatives(
    tutorial: Notebook,
) -> None:
    before, after = recalls(tutorial, "with logQ"), recalls(tutorial, "hard negatives")
    assert after["as they come"] > before["as they come"]
    assert after["one a document"] > before["one a document"]


def test_a_cell_sees_the_names_of_those_before_it_and_stores_what_it_prints(
    tmp_path: Path,
) -> None:
    sources = (["x = 1"], ["print(x)\n", "print(2)"])
    cells = [{"cell_type": "code", "source": source, "outputs": []} for source in sources]
    text = {"cell_type": "markdown", "source": ["text"]}
    done = run_notebook({"cells": [*cells, text]})["cells"]
    assert [printed_by(cell) for cell in done[:2]] == ["", "1\n2\n"]
    assert done[2] == text
