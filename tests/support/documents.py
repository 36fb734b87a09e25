"""The pages of the repository: their blocks of code, and what stands in backticks."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

from tests.support.checkout import ROOT

PATTERNS = ("*.md", "docs/**/*.md", "tools/**/*.md")  # where there are pages so far
NOT_A_PAGE = "CHANGELOG.md"  # what it says was so at the time
BLOCK = re.compile(
    r"^ *```([^\n]*)\n(.*?)^ *```$|(?<=\n\n)((?: {4}[^\n]*\n)+)", re.MULTILINE | re.DOTALL
)
SPAN = re.compile(r"`([^`]+)`")


class Piece(NamedTuple):
    """A part of a page: a block of code, or what stands in backticks."""

    page: str
    line: int
    language: str  # of a fenced block
    text: str

    @property
    def where(self) -> str:
        """Such as README.md:30."""
        return f"{self.page}:{self.line}"


def python_blocks(text: str) -> list[str]:
    """The Python blocks of a document, or of a part of it, in their order."""
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def pages() -> list[str]:
    """Every Markdown file that git has, but the changelog."""
    listed = ["git", "ls-files", "*.md"]
    try:
        done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
        found = done.stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):  # no git, or sources without history
        files = [file for pattern in PATTERNS for file in ROOT.glob(pattern)]
        found = sorted(file.relative_to(ROOT).as_posix() for file in files)
    return [page for page in found if page != NOT_A_PAGE]


def blocks(page: str) -> Iterator[Piece]:
    """The blocks of a page; an indented one has no language."""
    text = (ROOT / page).read_text()
    for match in BLOCK.finditer(text):
        language, fenced, indented = match.groups(default="")
        line = text.count("\n", 0, match.start()) + 1 + bool(fenced)
        yield Piece(page, line, language, fenced or indented)


def spans(page: str) -> Iterator[Piece]:
    """What stands in backticks outside of blocks, each on one line."""
    text = (ROOT / page).read_text()
    prose = BLOCK.sub(lambda match: "\n" * match[0].count("\n"), text)
    for match in SPAN.finditer(prose):
        line = prose.count("\n", 0, match.start()) + 1
        yield Piece(page, line, "", " ".join(match[1].split()))
