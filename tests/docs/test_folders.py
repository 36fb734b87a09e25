"""Each folder keeps to its purpose: the product, its tools, tests, benchmarks, examples."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import ROOT

SOURCES = (".py", ".pyi", ".h", ".cc", ".cuh", ".cu")


def sources(folder: str) -> list[Path]:
    """The sources under a folder."""
    found = [path for path in (ROOT / folder).rglob("*") if path.suffix in SOURCES]
    assert found, folder
    return found


def imported_modules(path: Path) -> Iterator[str]:
    """The full names of the modules that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module or "."
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("folder", ["benchmarks", "tests", "tools"])
def test_examples_import_nothing_else_of_the_repository(folder: str) -> None:
    for path in sources("examples"):
        assert folder not in {name.split(".")[0] for name in imported_modules(path)}, path


@pytest.mark.parametrize("folder", ["csrc", "python"])
def test_the_product_names_no_emulator(folder: str) -> None:
    for path in sources(folder):
        assert "emulat" not in path.read_text().lower(), path


def test_the_emulator_does_not_name_this_project() -> None:
    for path in [*sources("tools/cuda_emulator"), ROOT / "tools/cuda_emulator/README.md"]:
        assert "negative_cosine" not in path.read_text().lower(), path


def test_every_folder_of_the_tests_says_in_one_line_what_it_is_for() -> None:
    folders = [path for path in (ROOT / "tests").iterdir() if any(path.glob("*.py"))]
    assert len(folders) > 5
    for folder in folders:
        (line,) = (folder / "__init__.py").read_text().splitlines()
        assert ast.get_docstring(ast.parse(line)), folder
