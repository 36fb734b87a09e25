"""Proves and measures the CUDA kernels on a machine with a GPU, by one command.

    make bare BARE_PYTHON=python3.12 NEGATIVE_COSINE_CUDA_ARCHITECTURES=90   # anywhere
    cd build/bare && python3 -m benchmarks.gpu_evidence --output results     # there

It needs no TensorFlow. Correctness comes first: what instructions do, the tests of the
kernels, compute-sanitizer; then the times of the kernels and of what people use instead,
and what a profiler counts. A step that fails, hangs or crashes is reported and passed
over, and each result is on the disk as soon as it is known. Copied into
``benchmarks/results``, the files are what the documents take their tables from.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a file, which puts its folder on the path
    sys.path[0] = str(Path(__file__).parent.parent)

from benchmarks.command_line import positive
from benchmarks.evidence.command import words_for
from benchmarks.machine import commit
from benchmarks.steps import Outcome, Step, any_failed, print_summary, run_steps

# The most seconds that each step may take: about half as much again as an H100 needs, with
# 16 processors beside it. Where the minutes do not suffice for all, the last ones are cut
# short.
LIMITS = {
    "device": 40.0,
    "vectors": 20.0,
    "suite": 130.0,
    "sanitizer": 60.0,
    "kernels": 80.0,
    "warpgroups": 30.0,
    "peers": 250.0,
    "ncu": 150.0,
}
CHECKS = "gpu_checks.json"
LOG = "log.txt"


def make_steps(arguments: argparse.Namespace) -> list[Step]:
    """The steps that were asked for, in their order."""
    core = "emulated" if arguments.dry_run else "device"
    words = words_for(arguments.output, core, arguments.dry_run)
    return [
        Step(name, [sys.executable, "-m", f"benchmarks.evidence.{name}", *words], limit)
        for name, limit in LIMITS.items()
        if name in arguments.only
    ]


def write_checks(outcomes: Sequence[Outcome], path: Path) -> None:
    """All that is known of the steps until now."""
    steps = [dataclasses.asdict(outcome) for outcome in outcomes]
    path.write_text(json.dumps({"commit": commit(), "steps": steps}, indent=1))


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--minutes", type=positive, default=9.0, metavar="N")
    parser.add_argument(
        "--only", nargs="+", choices=list(LIMITS), default=list(LIMITS), metavar="STEP"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="small sizes, with the tests' emulator in the device's place",
    )
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Runs the steps; the exit status is 1 if one of them failed."""
    arguments = parse(words)
    arguments.output = arguments.output.resolve()
    arguments.output.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    for outcome in run_steps(
        make_steps(arguments), arguments.minutes, arguments.output / LOG
    ):
        outcomes.append(outcome)
        write_checks(outcomes, arguments.output / CHECKS)
    print_summary(outcomes)
    sys.exit(1 if any_failed(outcomes) else 0)


if __name__ == "__main__":
    main()
