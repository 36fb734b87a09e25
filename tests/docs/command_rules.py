"""How a test tries a command of a page: a rule for each program, which fails or returns.

Few commands are run to their end. What takes minutes, a GPU or a download is tried as far
as it is cheap: a program's own parser reads its words, ``make`` says what it would do, and
so on.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import io
import os
import re
import runpy
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import pytest
import tomli

from tests.support import cores
from tests.support.checkout import ROOT
from tests.support.documents import pages
from tests.support.shell import SUBSTITUTED, Command

# Of seconds: test_commands.py runs them to their end, so that no rule has to try them.
RUN = (
    "python -m negative_cosine",
    "python -m pybind11 --cmakedir",
    "python tools/include_graph.py",
    "python tools/include_graph.py --folders",
)
# What nothing here can try, and why.
OF_OTHERS = {
    "dot -Tsvg -o includes.svg": "Graphviz, which pip does not install, draws the picture",
    "python -m build": "named for how it hides the environment, not for a reader to run",
}

MAKEFILE = (ROOT / "Makefile").read_text()
PYPROJECT = tomli.loads((ROOT / "pyproject.toml").read_text())
# What may read a variable, and the endings of its files.
READERS = ("cmake", "csrc", "python", "benchmarks", "tests")
SOURCES = (".py", ".cmake", ".txt", ".cc", ".h", ".cu", ".cuh")

# The options that the pages need; those of pytest that are not here no test knows.
PYTEST = argparse.ArgumentParser("pytest", allow_abbrev=False)
PYTEST.add_argument("--core", choices=cores.NAMES)
PYTEST.add_argument("files", nargs="*", type=Path)


@functools.cache
def all_sources() -> str:
    """The text of what may read a variable: these tests of the pages do not."""
    files = [ROOT / name for name in ("CMakeLists.txt", "Makefile", "setup.py")]
    files += [file for name in READERS for file in (ROOT / name).rglob("*")]
    own = Path(__file__).parent
    sources = [one for one in files if one.suffix in SOURCES or one.name == "Makefile"]
    return "".join(one.read_text() for one in sources if own not in one.parents)


def is_read(variable: str) -> bool:
    """Whether something besides a page names the variable."""
    return bool(re.search(rf"\b{variable}\b", all_sources()))


def complaint(parser: argparse.ArgumentParser, words: Sequence[str]) -> str:
    """What a program says of its words; nothing where it takes them."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            parser.parse_args(words)
        except SystemExit:
            return said.getvalue()
    return ""


def assert_takes(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Fails with what the program says."""
    said = complaint(parser, words)
    assert not said, said


# --- Python ------------------------------------------------------------------------------


def check_python(command: Command) -> None:
    """The program is there, and its own parser takes the words."""
    program, words = program_and_words(command)
    if program == ("-m", "pytest"):
        check_pytest(command._replace(words=program[1:] + words))
    elif command.text not in RUN:
        assert_takes(parser_of(program), words)


def program_and_words(command: Command) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The module or the file that Python runs, and what it is given."""
    after = 3 if command.words[1] == "-m" else 2
    return command.words[1:after], command.words[after:]


@functools.cache
def parser_of(program: tuple[str, ...]) -> argparse.ArgumentParser:
    """What reads a program's command line: the program runs here until it asks for that."""
    *is_module, name = program
    is_there = module_exists(name) if is_module else (ROOT / name).exists()
    assert is_there, f"there is no {name}"

    def stop(parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        raise SystemExit(parser)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # that tests have imported it too
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        patch.setattr(sys, "argv", [name])
        patch.setattr(sys, "path", list(sys.path))
        try:
            start(program)
        except SystemExit as end:
            if isinstance(end.code, argparse.ArgumentParser):
                end.code.allow_abbrev = False
                return end.code
        except ModuleNotFoundError as error:
            pytest.skip(str(error))  # of a package that not every environment has
    pytest.fail(f"{name} does not read its command line with argparse")


def module_exists(name: str) -> bool:
    """Whether Python finds the module."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of a package on the way
        return False


def start(program: tuple[str, ...]) -> None:
    """Runs a module or a file as a program of its own."""
    if program[0] == "-m":
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(str(ROOT / program[0]), run_name="__main__")


def check_pytest(command: Command) -> None:
    """The files are there, and the options are known."""
    assert_takes(PYTEST, command.words[1:])
    for file in PYTEST.parse_args(command.words[1:]).files:
        assert (ROOT / file).exists(), f"there is no {file}"


# --- make and CMake ----------------------------------------------------------------------


def check_make(command: Command) -> None:
    """The Makefile has the targets, and something reads the variables."""
    for word in command.words[1:]:
        name, is_variable, _ = word.partition("=")
        if is_variable:
            assert is_read(name), f"nothing reads {name}"
    done = dry_run(command.words)
    assert done.returncode == 0, done.stderr


@functools.cache
def dry_run(words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """What make would do, apart from the make that may run the tests."""
    others = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    return subprocess.run(
        [*words, "--dry-run"], cwd=ROOT, env=others, capture_output=True, text=True
    )


def check_cmake(command: Command) -> None:
    """CMake configures what it is to configure, and builds what a page configures."""
    if command.words[1] == "--build":
        configured = f"-B {command.words[2]} "
        is_there = any(configured in (ROOT / page).read_text() for page in pages())
        assert is_there, f"no page has {configured}"
        return
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [word if word != "-B" else f"-B{folder}" for word in filled_in(command)],
            cwd=ROOT,
            env={**os.environ, "PATH": tools},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr


def filled_in(command: Command) -> list[str]:
    """The words with what a shell puts into them, and without the folder after -B."""
    asked = [sys.executable, "-m", "pybind11", "--cmakedir"]
    found = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    words = [word.replace(SUBSTITUTED, found.strip()) for word in command.words]
    del words[words.index("-B") + 1]
    return words


# --- pip and the rest --------------------------------------------------------------------


def check_pip(command: Command) -> None:
    """Options are pip's; extras, groups and packages are those of pyproject.toml."""
    action, *words = command.words[1:]
    while words:
        word = words.pop(0)
        if word == "--group":
            group = words.pop(0)
            assert group in PYPROJECT["dependency-groups"], f"there is no group {group}"
        elif word.startswith("-"):
            assert has_option(pip_help(action), word), f"pip {action} has no {word}"
        else:
            check_requirement(word)


def check_requirement(requirement: str) -> None:
    """It is this project, from its sources or a wheel, or what this project names."""
    name, _, extras = requirement.rstrip("]").partition("[")
    if name == "." or name.endswith(".whl"):
        for extra in filter(None, extras.split(",")):
            is_there = extra in PYPROJECT["project"]["optional-dependencies"]
            assert is_there, f"there is no extra {extra}"
    else:
        is_there = requirement in (*declared_requirements(), "pre-commit")
        assert is_there, f"pyproject.toml does not name {requirement}"


def declared_requirements() -> set[str]:
    """Everything that pyproject.toml asks for, with and without its versions."""
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    groups = PYPROJECT["dependency-groups"].values()
    listed: list[str] = sum([*extras, *groups], PYPROJECT["build-system"]["requires"])
    return {*listed, *(re.split("[<>=]", one)[0] for one in listed)}


@functools.cache
def pip_help(action: str) -> str:
    """What pip says of one of its actions."""
    asked = [sys.executable, "-m", "pip", action, "--help"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout


def has_option(text: str, option: str) -> bool:
    """Whether a program's help names an option."""
    return bool(re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text))


def check_folder(command: Command) -> None:
    """The folder is in the repository, or the Makefile makes it."""
    (folder,) = command.words[1:]
    made = re.findall(r"^\w+ \?= (\S+)$", MAKEFILE, re.MULTILINE)
    is_there = (ROOT / folder).is_dir() or folder in made
    assert is_there, f"neither the repository nor make has the folder {folder}"


def check_pre_commit(command: Command) -> None:
    """There is something to install."""
    assert command.words[1:] == ("install",)
    assert (ROOT / ".pre-commit-config.yaml").exists()


RULES: dict[str, Callable[[Command], None]] = {
    "cd": check_folder,
    "cmake": check_cmake,
    "make": check_make,
    "pip": check_pip,
    "pre-commit": check_pre_commit,
    "pytest": check_pytest,
    "python": check_python,
    "python3": check_python,
}
