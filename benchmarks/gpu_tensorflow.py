"""Evidence of the op through TensorFlow on a GPU, in one command of about five minutes.

    python -m benchmarks.gpu_tensorflow --output FOLDER [--minutes N] [--only STEP ...]

It reports the machine, runs the tests marked `gpu`, trains Keras models, places the op in
all ways, times it beside TensorFlow's own, and in what time remains runs the tests that
take longest. Each step is processes of its own: what one breaks, the others do not see
(benchmarks/steps.py). At the end a table says what passed, failed and was left out, and
why; the exit status is 1 if anything failed. FOLDER gets

    gpu_tensorflow.json     every step, test and fit, with what it found
    gpu_tensorflow.csv      the times
    gpu_tensorflow.log      all output
    gpu_tensorflow.jsonl    the same findings line by line as they came, if the run is ended

`--dry-run` takes all of it through on a machine without a GPU: on the CPU, at small sizes,
the tests only collected.

Where CUDA's libraries are missing (TensorFlow sees a GPU, but has no cuBLAS or cuDNN) this
is tried first, and what needs them is left out by name. On a machine that has no network
and takes TensorFlow and the built package as files, unpacked to /tmp/tf and /tmp/op:

    . /tmp/tf/env.sh; export PYTHONPATH=/tmp/op:$PYTHONPATH
    python3 -m benchmarks.gpu_tensorflow --output "$OUT" --commit HASH
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import measurements, report
from benchmarks.command_line import positive
from benchmarks.steps import Outcome, any_failed, print_summary, run_steps
from benchmarks.tensorflow_evidence.facts import facts
from benchmarks.tensorflow_evidence.plan import STEPS, Run, plan

NAME = "gpu_tensorflow"


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_tensorflow",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--minutes",
        type=positive,
        default=5.0,
        help="of the whole run: what is not done by then is left out; default: 5",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=STEPS,
        default=list(STEPS),
        metavar="STEP",
        help=f"of {', '.join(STEPS)}",
    )
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, small")
    parser.add_argument("--commit", help="what the results say; default: what git says")
    return parser


def set_environment(dry_run: bool) -> None:
    """What the steps' processes inherit."""
    # TensorFlow's warnings go into the log: which of CUDA's libraries it misses.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "1"
    os.environ["TQDM_DISABLE"] = "1"
    if dry_run:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def rows_of_times(outcomes: Sequence[Outcome], run_facts: dict[str, Any]) -> pd.DataFrame:
    """The rows that the steps measured, with the facts."""
    parts = [part for outcome in outcomes for part in outcome.parts]
    rows = [row for part in parts for row in part.facts.get("rows", [])]
    return pd.DataFrame(measurements.with_facts(rows, run_facts))


def without_rows(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON has it: the rows of times are in the CSV."""
    found = asdict(outcome)
    for part in found["parts"]:
        part["facts"].pop("rows", None)
    return found


def write(folder: Path, run_facts: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    """The results so far: what comes next may end the run."""
    content = {**run_facts, "steps": [without_rows(outcome) for outcome in outcomes]}
    (folder / f"{NAME}.json").write_text(json.dumps(content, indent=1))
    rows_of_times(outcomes, run_facts).to_csv(folder / f"{NAME}.csv", index=False)


def main(words: Sequence[str] | None = None) -> None:
    """Runs the steps."""
    arguments = make_parser().parse_args(words)
    arguments.output = arguments.output.resolve()
    arguments.output.mkdir(parents=True, exist_ok=True)
    set_environment(arguments.dry_run)
    began = time.strftime("%Y-%m-%d %H:%M:%S %z")
    run_facts = {**facts(arguments.dry_run, arguments.commit), "began": began}
    run = Run(arguments.dry_run)
    write(arguments.output, run_facts, [])
    log = arguments.output / f"{NAME}.log"
    for outcome in run_steps(plan(run, arguments.only), arguments.minutes, log):
        run.outcomes.append(outcome)
        write(arguments.output, run_facts, run.outcomes)
    times = rows_of_times(run.outcomes, run_facts)
    if len(times):
        report.show(times)
    print_summary(run.outcomes)
    sys.exit(int(any_failed(run.outcomes)))


if __name__ == "__main__":
    main()
