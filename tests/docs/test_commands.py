"""Each command of each page can be given as it stands there.

An indented block is commands alone: what else a page shows is fenced, and its language
says what it is (see test_blocks.py). What stands in backticks is a command where it begins
with a program that command_rules.py knows, or with a file of Python.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.docs.command_rules import (
    OF_OTHERS,
    PYTEST,
    RULES,
    RUN,
    check_python,
    complaint,
    has_option,
    is_read,
    parser_of,
    pip_help,
    program_and_words,
)
from tests.support import cores
from tests.support.checkout import ROOT
from tests.support.documents import blocks, pages, spans
from tests.support.shell import Command, commands

# What stands for a word of the reader's own, and one that will do.
PLACEHOLDERS = {"NAME": cores.NAMES[0], "STEP": "device"}

SPANS = [span for page in pages() for span in spans(page)]
BLOCKS = [block for page in pages() for block in blocks(page)]


def as_given(command: Command) -> Command:
    """The command with a reader's own words; a file of Python is for Python to run."""
    words = [PLACEHOLDERS.get(word, word) for word in command.words]
    if command.program.endswith(".py") and len(words) > 1:
        words.insert(0, "python")
    return command._replace(words=tuple(words))


def commands_in_blocks() -> list[Command]:
    """All lines of the blocks for a shell."""
    shell = [block for block in BLOCKS if block.language in ("", "shell")]
    return [command for block in shell for command in commands(block)]


def commands_in_backticks() -> list[Command]:
    """Those of more than a program's name, which says no more than that there is one."""
    found = [as_given(command) for span in SPANS for command in commands(span)]
    return [one for one in found if one.program in RULES and len(one.words) > 1]


def options_in_backticks() -> list[Command]:
    """Those that stand by themselves, some with their values."""
    found = [span for span in SPANS if span.text.startswith("--")]
    return [as_given(command) for span in found for command in commands(span)]


COMMANDS = [*commands_in_blocks(), *commands_in_backticks()]
TEXTS = [command.text for command in COMMANDS]
# Those with a parser of their own.
PROGRAMS = [
    program_and_words(command)
    for command in COMMANDS
    if RULES.get(command.program) == check_python
    if "pytest" not in command.words and command.text not in (*RUN, *OF_OTHERS)
]
OF_PYTEST = (("pytest",), ())


def variables() -> list[str]:
    """All that a page sets, and all of this project's that one names."""
    text = "".join((ROOT / page).read_text() for page in pages())
    named = re.findall(r"\bNEGATIVE_COSINE_[A-Z]\w*", text)
    alone = re.findall(r"`([A-Z][A-Z0-9_]+)=[^`\n]*`", text)
    return sorted({*named, *alone}.union(*(command.variables for command in COMMANDS)))


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_of_a_page_can_be_given(command: Command) -> None:
    if command.text not in OF_OTHERS:
        assert command.program in RULES, "no test knows how to try this command"
        RULES[command.program](command)


@pytest.mark.parametrize("text", RUN)
def test_a_quick_command_of_a_page_runs(text: str) -> None:
    assert text in TEXTS
    command = [sys.executable, *text.split()[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("text", OF_OTHERS)
def test_what_is_not_tried_is_still_on_a_page(text: str) -> None:
    assert text in TEXTS


@pytest.mark.parametrize("option", options_in_backticks(), ids=str)
def test_an_option_in_backticks_is_one_of_a_program_of_the_pages(option: Command) -> None:
    of_pip = has_option(pip_help("install"), option.text)
    assert of_pip or any(is_taken(option, *program) for program in (OF_PYTEST, *PROGRAMS))


def is_taken(option: Command, program: tuple[str, ...], words: tuple[str, ...]) -> bool:
    """Whether a program takes an option, alone or after the words of a page."""
    parser = PYTEST if program == OF_PYTEST[0] else parser_of(program)
    said = [complaint(parser, (*before, *option.words)) for before in ((), words)]
    # A page may name an option without the values that it needs.
    return any(one == "" or f"argument {option.text}: expected" in one for one in said)


@pytest.mark.parametrize("variable", variables())
def test_something_reads_a_variable_of_a_page(variable: str) -> None:
    assert is_read(variable)
