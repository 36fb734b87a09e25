"""Reads the lines that a page tells its reader to give to a shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from tests.support.documents import Piece

BETWEEN = ("&&", "||", "|", ";")  # two commands of a line
SUBSTITUTED = "SUBSTITUTED"  # in the place of what $(...) prints
SUBSTITUTION = re.compile(r"\$\(([^()]*)\)")
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


class Command(NamedTuple):
    """One command: the variables that are set for it, and its words."""

    where: str
    variables: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def program(self) -> str:
        """Its name alone; that of .venv is meant by a page that names no folder too."""
        return self.words[0].removeprefix(".venv/bin/") if self.words else ""

    @property
    def text(self) -> str:
        """The words as one line."""
        return shlex.join(self.words)

    def __str__(self) -> str:
        """What a test is called by."""
        return f"{self.where} {' '.join((*self.variables, *self.words))}"


def commands(piece: Piece) -> Iterator[Command]:
    """The commands of a block or a line: those within $(...) come before their line's."""
    for line in piece.text.replace("\\\n", " ").splitlines():
        for inner in SUBSTITUTION.findall(line):
            yield from commands(piece._replace(text=inner))
        words: list[str] = []
        for word in (*split(SUBSTITUTION.sub(SUBSTITUTED, line)), BETWEEN[0]):
            if word not in BETWEEN:
                words.append(word)
            elif words:
                yield command(piece.where, words)
                words = []


def split(line: str) -> list[str]:
    """A line's words; prose with an apostrophe alone is one word, which no program is."""
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return [line]


def command(where: str, words: list[str]) -> Command:
    """A command of its words."""
    first = next((n for n, word in enumerate(words) if not ASSIGNMENT.match(word)), None)
    names = [word.partition("=")[0] for word in words[:first]]
    return Command(where, tuple(names), tuple(words[len(names) :]))
