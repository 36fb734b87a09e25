"""A run in steps, each a process of its own with a time limit.

A step that fails, hangs or crashes is passed over and named, and what it had found until
then is kept. The run:

    steps = [Step("copies", [sys.executable, "-m", "benchmarks.copies"], limit=30)]
    outcomes = []
    for outcome in run_steps(steps, minutes=5, log=Path("run.log")):
        outcomes.append(outcome)  # and write them: what comes next may end the run
    print_summary(outcomes)

``steps`` may be a generator that looks at the outcomes before it makes the next step. All
output goes into the log. A step's program, where it has several parts, reports each:

    with part("within the L2") as facts:
        facts["bandwidth"] = measure()

An exception ends the part, not the program: it is failed, or left out by LeftOutError.

Parts are lines of JSON in a file beside the log, the first written when a part begins: so
the one that was running when the process ended has a name.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

PASSED, FAILED, LEFT_OUT, RUNNING = "passed", "failed", "left out", "running"

PARTS_FILE = "BENCHMARK_STEP_PARTS"  # the environment variable that says where parts go
ROOT = Path(__file__).parent.parent  # where steps run
FEWEST_SECONDS = 2.0  # a step is not begun with less time
SECONDS_TO_DIE = 5.0  # after each signal
LONGEST_REASON = 200  # characters
# What TensorFlow and Keras put into and around the line that says what went wrong.
INSIDE = re.compile(r"\x1b\[[0-9;]*m|\{\{function_node [^}]*\}\} ")
WHERE = re.compile(
    r"\s*$|.*Graph execution error:|Detected at node|\s+File \"|\s*\[\["
    r"|.*Exception encountered when|Arguments received|\s+• "
)
MOST_LINES, MOST_NAMES = 12, 3  # reasons of a step in the summary, parts for each


@dataclass(frozen=True)
class Step:
    """A program to run, and the seconds that it may take; or why it is left out."""

    name: str
    command: Sequence[str]
    limit: float
    left_out: str = ""


@dataclass(frozen=True)
class Part:
    """What a step says of a part of its work: its outcome, why, and what it found."""

    name: str
    outcome: str
    reason: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a step ended, and its parts."""

    step: str
    outcome: str
    reason: str = ""
    seconds: float = 0.0
    parts: list[Part] = field(default_factory=list)

    def part(self, name: str) -> Part | None:
        """The part of that name, None if the step did not come to it."""
        return next((part for part in self.parts if part.name == name), None)


class LeftOutError(Exception):
    """Raised in a part that cannot run here, which is no fault: the message says why."""


@contextlib.contextmanager
def part(name: str) -> Iterator[dict[str, Any]]:
    """In a step's program: a part of its work. What is put into the dict is kept with it.

    An exception ends the part, not the program.
    """
    facts: dict[str, Any] = {}
    report_part(Part(name, RUNNING))
    began = time.monotonic()
    try:
        yield facts
    except LeftOutError as error:
        outcome, reason = LEFT_OUT, str(error)
    except Exception as error:
        traceback.print_exc()
        outcome, reason = FAILED, f"{type(error).__name__}: {error}"
    else:
        outcome, reason = PASSED, ""
    facts["seconds"] = round(time.monotonic() - began, 3)
    report_part(Part(name, outcome, reason, facts))


def report_part(part: Part) -> None:
    """Writes a line of JSON to the run's file, or prints it where no run started this."""
    line = json.dumps(vars(part), default=str)
    path = os.environ.get(PARTS_FILE)
    if path is None:
        print(line, flush=True)
        return
    with open(path, "a") as file:
        file.write(f"{line}\n")


def run_steps(steps: Iterable[Step], minutes: float, log: Path) -> Iterator[Outcome]:
    """Runs one after the other, and gives each outcome as it comes.

    When the minutes are over, the running step is stopped and the others are left out.
    """
    log.write_bytes(b"")
    parts_file(log).write_bytes(b"")
    deadline = time.monotonic() + 60 * minutes
    with _ending_at_sigterm():
        for step in steps:
            print(f"{step.name} ...", flush=True)
            remaining = deadline - time.monotonic()
            over = f"the {minutes:g} minutes of the run were over"
            if step.left_out or remaining < FEWEST_SECONDS:
                outcome = Outcome(step.name, LEFT_OUT, step.left_out or over)
            else:
                outcome = run_step(step, log, remaining, over)
            print(
                f"    {outcome.outcome}  {first_line(outcome.reason)}".rstrip(), flush=True
            )
            yield outcome


def parts_file(log: Path) -> Path:
    """Where the steps of a run report their parts."""
    return log.with_suffix(".jsonl")


def run_step(step: Step, log: Path, remaining: float, over: str) -> Outcome:
    """Runs one step; stops it at its limit, or before because the run's time is over."""
    parts_start = append(parts_file(log), f"\n{json.dumps({'step': step.name})}\n")
    log_start = append(log, f"\n=== {step.name}: {shlex.join(step.command)}\n")
    began = time.monotonic()
    limit = min(step.limit, remaining)
    try:
        status = run_command(step.command, limit, log)
    except OSError as error:  # no such program
        return Outcome(step.name, LEFT_OUT, f"{error.filename}: {error.strerror}")
    seconds = round(time.monotonic() - began, 1)
    if status is not None:
        how, why = how_it_ended(status, last_line(log, log_start))
    elif limit < step.limit:
        how, why = LEFT_OUT, f"stopped after {limit:.0f} s: {over}"
    else:
        how, why = FAILED, f"stopped: took longer than {limit:g} s"
    parts = read_parts(parts_file(log), parts_start, how, why)
    if status == 1 and parts_that(parts, FAILED):
        why = ""  # the parts say it, as tests do
    return judge(Outcome(step.name, how, why, seconds, parts))


def judge(outcome: Outcome) -> Outcome:
    """The outcome of a step whose process ended so, with its parts taken into account."""
    failed, left_out = (parts_that(outcome.parts, how) for how in (FAILED, LEFT_OUT))
    if failed:
        count = f"{len(failed)} of {len(outcome.parts)} parts failed"
        reasons = filter(None, (count, outcome.reason))
        return replace(outcome, outcome=FAILED, reason="; ".join(reasons))
    if outcome.outcome == PASSED and left_out == outcome.parts != []:
        return replace(outcome, outcome=LEFT_OUT, reason=left_out[0].reason)
    return outcome


def run_command(command: Sequence[str], limit: float, log: Path) -> int | None:
    """The exit status, minus the number of a signal that ended it; None at the limit.

    The command is the head of a process group of its own, so that nothing that it started
    outlives it. Python prints at once, and where it was when a signal ends it.
    """
    python = {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
    environment = {**os.environ, **python, PARTS_FILE: str(parts_file(log).resolve())}
    with log.open("ab") as output:
        process = _start(command, environment, output)
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            _signal_group(process, signal.SIGABRT)
            return None
        finally:
            _signal_group(process, signal.SIGKILL)


def _start(
    command: Sequence[str], environment: dict[str, str], output: BinaryIO
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        preexec_fn=_in_a_group_of_its_own,
    )


def _in_a_group_of_its_own() -> None:
    """Runs in the new process. It writes no core: one with a GPU mapped takes minutes."""
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # nobody is left
        os.killpg(process.pid, number)
    with contextlib.suppress(subprocess.TimeoutExpired):  # a driver may hold it for good
        process.wait(SECONDS_TO_DIE)


@contextlib.contextmanager
def _ending_at_sigterm() -> Iterator[None]:
    """Ends this program by an exception when it is told to end, so that a step ends too."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def how_it_ended(status: int, line: str) -> tuple[str, str]:
    """The outcome of an exit status, and why: a signal, or the last line of output."""
    if status == 0:
        return PASSED, ""
    if status < 0:
        return FAILED, f"ended by signal {-status}, {signal.strsignal(-status)}"
    return FAILED, f"exit status {status}: {line}"


def append(path: Path, text: str) -> int:
    """Writes at the end of a file, and says where that now is."""
    with path.open("a") as file:
        file.write(text)
        return file.tell()


def text_from(path: Path, start: int) -> str:
    """What was written into a file since."""
    with path.open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace")


def last_line(path: Path, start: int) -> str:
    """The last line that is not empty."""
    lines = [line for line in text_from(path, start).splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"


def first_line(reason: str) -> str:
    """Of a reason for a table: the first that says what happened, and not where."""
    lines = INSIDE.sub("", reason).strip().splitlines()
    wanted = [line for line in lines if not WHERE.match(line)]
    return (wanted or lines or [""])[0].strip()[:LONGEST_REASON]


def read_parts(path: Path, start: int, how: str, why: str) -> list[Part]:
    """The parts of a step, each as it was reported last.

    One that was running when the process ended has the outcome of the process.
    """
    parts: dict[str, Part] = {}
    for line in filter(str.strip, text_from(path, start).splitlines()):
        found = parse_part(line)
        parts[found.name] = found
    if how == PASSED:
        how, why = FAILED, "the process ended inside of it, with exit status 0"
    return [
        replace(part, outcome=how, reason=why) if part.outcome == RUNNING else part
        for part in parts.values()
    ]


def parse_part(line: str) -> Part:
    """A line that a step wrote; one that is no part becomes a failed part that says so."""
    try:
        found = Part(**json.loads(line))
    except (ValueError, TypeError):
        found = Part("", "")
    known = found.outcome in (PASSED, FAILED, LEFT_OUT, RUNNING)
    if known and isinstance(found.name, str) and isinstance(found.facts, dict):
        return found
    return Part("its report", FAILED, f"a line of it is no part in JSON: {line[:80]!r}")


def any_failed(outcomes: Iterable[Outcome]) -> bool:
    """Whether a run should end with an exit status other than 0."""
    return any(outcome.outcome == FAILED for outcome in outcomes)


def print_summary(outcomes: Sequence[Outcome]) -> None:
    """The parts that did not pass, then a table of the steps: how each ended, and why."""
    for outcome in outcomes:
        for line in lines_of_parts(outcome):
            print(line)
    table = Table("step", "outcome", "parts passed", "seconds", "why")
    for outcome in outcomes:
        passed = f"{len(parts_that(outcome.parts, PASSED))} of {len(outcome.parts)}"
        cells = (
            outcome.step,
            outcome.outcome,
            passed if outcome.parts else "",
            f"{outcome.seconds:.1f}",
            first_line(outcome.reason),
        )
        table.add_row(*map(escape, cells))
    Console(width=120).print(table)


def lines_of_parts(outcome: Outcome) -> Iterator[str]:
    """The failed parts of a step and those left out, one line for each reason."""
    if outcome.outcome == LEFT_OUT:
        return  # the step says it for all of them
    names: dict[tuple[str, str], list[str]] = {}
    for how in (FAILED, LEFT_OUT):
        for part in parts_that(outcome.parts, how):
            names.setdefault((how, first_line(part.reason)), []).append(part.name)
    for (how, reason), parts in list(names.items())[:MOST_LINES]:
        more = f" and {len(parts) - MOST_NAMES} more" if len(parts) > MOST_NAMES else ""
        yield f"{how}: {outcome.step}: {'; '.join(parts[:MOST_NAMES])}{more}: {reason}"
    if len(names) > MOST_LINES:
        yield f"{outcome.step}: {len(names) - MOST_LINES} more reasons: see the log"


def parts_that(parts: Iterable[Part], outcome: str) -> list[Part]:
    """The parts of one outcome."""
    return [part for part in parts if part.outcome == outcome]
