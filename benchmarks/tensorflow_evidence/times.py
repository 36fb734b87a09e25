"""The step through TensorFlow, timed beside TensorFlow's own ways, each checked first.

One problem a process. A way of TensorFlow's that does not run here is left out by name; one
of this package's has failed.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from typing import Any

import tensorflow as tf

from benchmarks import checks
from benchmarks.gpu.gpu_model import Size
from benchmarks.limits import reason_to_leave_out
from benchmarks.measurements import Row, Task, baseline_of, make_row
from benchmarks.problem import Step, random_problem
from benchmarks.rounds import summary, time_rounds
from benchmarks.steps import LeftOutError, part
from benchmarks.tensorflow_evidence.child import (
    kind_of,
    make_parser,
    needing_a_library,
    start_tensorflow,
)
from benchmarks.tensorflow_evidence.timings import (
    COMPILED,
    OURS,
    SMALL,
    TIMINGS,
    Timing,
    part_name,
)
from benchmarks.ways import WAYS, make_step

ROUNDS = {"cpu": 3, "gpu": 9}  # on the CPU it is a dry run
STEPS = {"cpu": 5, "gpu": 200}
SECONDS = 1.5  # of a way and mode: slow ones take fewer steps
MEMORY_LIMIT = 40.0  # GiB
THREADS = 2  # of the checks' host side


def why_left_out(task: Task, size: Size, device: str, without: set[str]) -> str:
    """Why a way is not tried, "" if it is."""
    if task[0] in without:
        return "it was left out with --without: it or what it needs failed before"
    return reason_to_leave_out(*task, size, device, MEMORY_LIMIT) or ""


def checked_step(task: Task, size: Size, device: str) -> Step:
    """The step to time, once its results were compared with what is right."""
    # TensorFlow's own ways need libraries that may be missing; this package's need none.
    may_lack_one = contextlib.nullcontext() if task[0] in OURS else needing_a_library()
    with may_lack_one:
        checks.check(*task, size.dtype, device, THREADS)
        step = make_step(*task, random_problem(size), device, THREADS)
        step.wait_for(step.run())
    return step


def peak_bytes(step: Step, device: str) -> float:
    """What TensorFlow's allocator counts for a step that ran before; of a GPU alone."""
    if device == "cpu":
        return math.nan
    before = tf.config.experimental.get_memory_info("GPU:0")["current"]
    tf.config.experimental.reset_memory_stats("GPU:0")
    step.wait_for(step.run())
    return float(tf.config.experimental.get_memory_info("GPU:0")["peak"] - before)


def prepare(
    timing: Timing, device: str, without: set[str]
) -> tuple[dict[Task, Step], dict[Task, float]]:
    """The steps that run, and the peak memory of each; every task is a part."""
    steps: dict[Task, Step] = {}
    peaks: dict[Task, float] = {}
    for task in timing.tasks():
        with part(part_name(task)):
            if reason := why_left_out(task, timing.size, device, without):
                raise LeftOutError(reason)
            step = checked_step(task, timing.size, device)
            peaks[task] = peak_bytes(step, device)
            steps[task] = step
    return steps, peaks


def measure(
    case: str, size: Size, device: str, steps: dict[Task, Step], peaks: dict[Task, float]
) -> list[Row]:
    """The rows of a table."""
    times, plans = time_rounds(steps, ROUNDS[device], STEPS[device], SECONDS)
    baseline = baseline_of([name for name, _ in steps])
    rows = []
    for task in steps:
        figures = summary(times[task], times.get((baseline, task[1])))
        figures |= {"steps": plans[task].steps, "ratio_to": baseline}
        rows.append(make_row(case, size, task, figures, peak_bytes=peaks[task]))
    return rows


def main() -> None:
    """One problem."""
    parser = make_parser(__doc__)
    parser.add_argument("problem", choices=TIMINGS)
    parser.add_argument("--without", nargs="+", default=[], metavar="WAY")
    arguments: Any = parser.parse_args()
    device = kind_of(start_tensorflow(arguments.dry_run))
    WAYS.update(COMPILED)
    timing = TIMINGS[arguments.problem]
    if arguments.dry_run:
        timing = replace(timing, size=SMALL)
    steps, peaks = prepare(timing, device, set(arguments.without))
    with part("times") as facts:
        if not steps:
            raise LeftOutError("no way runs here")
        facts["rows"] = measure(arguments.problem, timing.size, device, steps, peaks)


if __name__ == "__main__":
    main()
