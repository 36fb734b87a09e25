"""Other programs that a step runs: pytest, compute-sanitizer, ncu."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.steps import ROOT, LeftOutError

SECONDS_TO_DIE = 5.0


def find_tool(name: str, whose: str) -> str:
    """A program's path.

    Raises:
        LeftOutError: it is not on PATH.
    """
    path = shutil.which(name)
    if path is None:
        raise LeftOutError(f"{name} is not on PATH: {whose} has it")
    return path


def run_tool(
    command: Sequence[str], limit: float, variables: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """A program's exit status and all that it said.

    It stays in the step's process group, which ends with the step. At the limit it is
    killed with whatever it started.

    Raises:
        TimeoutError: it took longer than ``limit`` seconds.
    """
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(variables or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        for pid in (*descendants(process.pid), process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        raise TimeoutError(f"took longer than {limit:g} s; {last_words(process)}") from None
    return process.returncode, output


def last_words(process: subprocess.Popen[str]) -> str:
    """What a killed program had said."""
    try:
        output, _ = process.communicate(timeout=SECONDS_TO_DIE)
    except subprocess.TimeoutExpired:  # a driver may hold it for good
        return "it cannot be killed"
    return f"its last words: {output[-300:]!r}"


def descendants(pid: int) -> Iterator[int]:
    """The processes that a process started, and those that these started."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            # Behind the name, which may hold anything, come the state and the parent.
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == pid:
                child = int(stat.parent.name)
                yield child
                yield from descendants(child)
