"""Each block of code of each page is tried by a test; test_commands.py has the commands."""

from __future__ import annotations

import re
import textwrap

import pytest
from negative_cosine._fixes import REINSTALL, with_fix
from negative_cosine._releases import release_problem

from tests.docs import test_documents, test_horovod, test_migration
from tests.support.checkout import ROOT
from tests.support.documents import blocks, pages

# An indented block has none: it is for a shell, as test_commands.py holds. test_house.py
# has the drawing, and a text is a formula or what something prints.
LANGUAGES = {"", "shell", "python", "cmake", "mermaid", "text"}


def texts(page: str, language: str) -> list[str]:
    """The blocks of a page in one language, without a list's indentation."""
    return [
        textwrap.dedent(block.text) for block in blocks(page) if block.language == language
    ]


@pytest.mark.parametrize("page", pages())
def test_a_block_says_what_it_is(page: str) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES


@pytest.mark.parametrize("page", pages())
def test_a_block_of_python_is_run_by_a_test(page: str) -> None:
    run = test_migration.blocks_that_run() | {test_horovod.BLOCK}
    assert {*texts(page, "python")} <= run.union(test_documents.blocks_that_run(page))


def test_cmake_has_what_a_block_of_it_calls() -> None:
    (block,) = (block for page in pages() for block in texts(page, "cmake"))
    (folder,) = re.findall(r"add_subdirectory\((\S+)", block)
    defined = re.findall(r"function\((\w+)", (ROOT / folder / "CMakeLists.txt").read_text())
    called = re.findall(r"^(\w+)\(", block, re.MULTILINE)
    assert {*called} - {*defined} == {"add_subdirectory"}


def test_the_warning_that_a_page_shows_is_the_one_that_is_given() -> None:
    (shown,) = texts("docs/versions.md", "text")
    reason = with_fix(release_problem({"tensorflow": "2.20.0"}, "2.21.0"), REINSTALL)
    assert shown.split() == f"negative_cosine uses the slower reference: {reason}".split()
