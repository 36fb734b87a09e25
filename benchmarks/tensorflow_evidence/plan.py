"""The steps of a run in their order; what a step can be is decided by those before it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.steps import FAILED, PASSED, Outcome, Step
from benchmarks.tensorflow_evidence import gpu_tests
from benchmarks.tensorflow_evidence.gpu_tests import Group
from benchmarks.tensorflow_evidence.timings import NEED_MATMUL, NEED_XLA, TIMINGS, way_of

ATTEMPTS = ("", ", again", ", once more")  # each without the ways that ended the last
NO_GPU = "TensorFlow sees no GPU: see the step report"


@dataclass(frozen=True)
class Run:
    """Whether it is a dry run, and the outcomes so far."""

    dry_run: bool
    outcomes: list[Outcome] = field(default_factory=list)

    def program(self, name: str, limit: float, module: str, *words: str) -> Step:
        """A step of this package's own."""
        command = [sys.executable, "-m", f"benchmarks.tensorflow_evidence.{module}", *words]
        return Step(name, [*command, *(["--dry-run"] if self.dry_run else [])], limit)

    def outcome(self, name: str) -> Outcome | None:
        """The last outcome of a step of that name."""
        found = [outcome for outcome in self.outcomes if outcome.step == name]
        return found[-1] if found else None

    def why_not(self, *probes: str) -> str:
        """Why what needs the probed libraries is left out; "" where nothing is known."""
        for probe in probes:
            outcome = self.outcome(f"report: {probe}")
            if outcome is not None and outcome.outcome != PASSED:
                reasons = [part.reason for part in outcome.parts if part.reason]
                return f"{probe} does not run here: {[*reasons, outcome.reason][0]}"
        return ""

    def sees_no_gpu(self) -> bool:
        """Whether the report says so."""
        outcome = self.outcome("report")
        devices = outcome.part("devices") if outcome else None
        return devices is not None and devices.outcome == FAILED


def report(run: Run) -> Iterator[Step]:
    """The machine, and which of CUDA's libraries work."""
    yield run.program("report", 60, "probes", "report")
    for probe in () if run.sees_no_gpu() else ("matmul", "cudnn", "xla"):
        yield run.program(f"report: {probe}", 40, "probes", probe)


def tests(run: Run) -> Iterator[Step]:
    """The tests marked gpu that are quick; in a dry run all are collected."""
    if run.dry_run:
        yield Step("tests: collected", gpu_tests.collecting_command(), 60)
    else:
        yield from groups_of_tests(run, gpu_tests.SHORT)


def groups_of_tests(run: Run, groups: Sequence[Group]) -> Iterator[Step]:
    """Each group a step."""
    for group in groups:
        command, why = gpu_tests.command_of(group), run.why_not(*group.needs)
        yield Step(f"tests: {group.name}", command, group.limit, left_out=why)


def fit(run: Run) -> Iterator[Step]:
    """Keras's training, traced and compiled."""
    towers = ["--without-matmul"] if run.why_not("matmul") else []
    yield run.program("fit", 60, "fit", *towers)
    if why := run.why_not("xla"):
        yield Step("fit, XLA", [], 0, left_out=why)
    else:
        yield run.program("fit, XLA", 75, "fit", "--compiled", *towers)


def placement(run: Run) -> Iterator[Step]:
    """Devices, batch sizes, several steps at once."""
    options = ["--without-xla"] if run.why_not("xla") else []
    yield run.program("placement", 45, "placement", *options)


def times(run: Run) -> Iterator[Step]:
    """The times of each problem. A way that ends its process is left out from then on."""
    needs = {"matmul": NEED_MATMUL, "xla": NEED_XLA}
    without = [way for probe in needs if run.why_not(probe) for way in needs[probe]]
    for problem in list(TIMINGS)[: 1 if run.dry_run else None]:
        for attempt in ATTEMPTS:
            name = f"times: {problem}{attempt}"
            options = ["--without", *without] if without else []
            yield run.program(name, 90, "times", problem, *options)
            culprits = ways_that_ended(run.outcome(name))
            if not culprits:
                break
            without += culprits


def ways_that_ended(outcome: Outcome | None) -> list[str]:
    """The ways during which a step's process ended: parts that have no end of their own."""
    if outcome is None or outcome.outcome != FAILED:
        return []
    unfinished = [part for part in outcome.parts if "seconds" not in part.facts]
    return list(filter(None, (way_of(part.name) for part in unfinished)))


def long_tests(run: Run) -> Iterator[Step]:
    """The tests that take longest, in the time that remains."""
    if not run.dry_run:
        yield from groups_of_tests(run, gpu_tests.LONG)


STEPS: dict[str, Callable[[Run], Iterator[Step]]] = {
    "report": report,
    "tests": tests,
    "fit": fit,
    "placement": placement,
    "times": times,
    "long": long_tests,
}


def plan(run: Run, only: Sequence[str]) -> Iterator[Step]:
    """The steps that are wanted."""
    for name in STEPS:
        if name not in only:
            continue
        if run.sees_no_gpu():
            yield Step(name, [], 0, left_out=NO_GPU)
        else:
            yield from STEPS[name](run)
