"""The measurements of a benchmark: a row a case, way, mode, size and dtype."""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks import checks, cuda_core, machine, peak_memory
from benchmarks.gpu import gpu_model, gpu_samplers
from benchmarks.gpu.gpu_model import MODES, Device, Size
from benchmarks.limits import reason_to_leave_out
from benchmarks.problem import random_problem
from benchmarks.rounds import Times, summary, time_rounds
from benchmarks.ways import BASELINE, WAYS, make_step, row_bytes

Row = dict[str, Any]
Task = tuple[str, bool]  # a way, and whether it trains

# What gpu_samplers predicts: the kernels, through TensorFlow and by themselves.
PREDICTED = (
    *(BASELINE, "fused-ring", "fused-all"),
    *("core", "core-ring", "core-all"),
)


def make_row(
    case: str,
    size: Size,
    task: Task,
    figures: Mapping[str, Any],
    floor: float = math.nan,
    peak_bytes: float = math.nan,
) -> Row:
    """A row of results."""
    way, training = task
    return {
        "case": case,
        "impl": way,
        "mode": MODES[training],
        "batch_size": size.batch_size,
        "num_negatives": size.num_negatives,
        "dim": size.dim,
        "num_docs": size.num_docs,
        "dtype": size.dtype,
        **figures,
        "peak_bytes": peak_bytes,
        "row_bytes": row_bytes(size, training),
        "floor_ms": floor,
        "share_of_floor": floor / figures["median_ms"],
    }


def predicted_milliseconds(row: Row, device_name: str) -> float:
    """What was said of a row of the kernels beforehand, if the device is known."""
    device = gpu_model.find_device(device_name)
    has_more_docs = row["num_docs"] > row["batch_size"]
    if device is None or row["impl"] not in PREDICTED or has_more_docs:
        return math.nan
    size = Size(row["batch_size"], row["num_negatives"], row["dim"], row["dtype"])
    training = row["mode"] == MODES[True]
    sampler = WAYS[row["impl"]].sampler
    return 1e3 * gpu_samplers.seconds(sampler, size, training, device)


def prediction_or_nan(row: Row, device_name: str) -> float:
    """The same, NaN if the model fails: what was measured must not be lost by that."""
    try:
        return predicted_milliseconds(row, device_name)
    except Exception as error:
        print(f"no prediction for {row['impl']}: {error!r}", file=sys.stderr)
        return math.nan


def with_facts(rows: list[Row], facts: dict[str, Any]) -> list[Row]:
    """The rows with what they ran on, and the prediction for it."""
    return [
        {**row, "predicted_ms": prediction_or_nan(row, facts["device"]), **facts}
        for row in rows
    ]


def leave_out(task: Task, size: Size, reason: object) -> None:
    """Says that a way is left out, and why."""
    way, training = task
    # A library's message may go on for pages about its own inside.
    line = (str(reason).strip() or type(reason).__name__).splitlines()[0]
    text = f"{size}, {size.dtype}, {way}, {MODES[training]}: left out: {line}"
    tqdm.write(text, file=sys.stderr)  # beside the bars, not into them


@functools.cache
def why_it_does_not_run(
    task: Task, dtype: str, device: str, threads: int, more_docs: int = 0
) -> str:
    """Checks a way's results once, and says why it cannot run here, "" if it can.

    Raises:
        checks.WrongResultError: it computes something else than the oracle.
    """
    # A missing native kernel or compiler; and whatever another library raises where its
    # kernels do not get along with what is installed.
    failures = Exception if WAYS[task[0]].packages else RuntimeError
    try:
        checks.check(*task, dtype, device, threads, more_docs)
    except checks.WrongResultError:
        raise
    except failures as error:
        return str(error) or type(error).__name__
    return ""


def runnable(arguments: argparse.Namespace, size: Size) -> list[Task]:
    """The ways and modes that run at a size, all of them checked."""
    tasks = []
    wanted = list(itertools.product(arguments.impl, arguments.training))
    device, threads = arguments.device, arguments.threads
    more_docs = checks.more_docs_of_check(size)
    for task in tqdm(wanted, desc="checks", leave=False):
        reason = reason_to_leave_out(
            *task, size, device, arguments.memory_limit
        ) or why_it_does_not_run(task, size.dtype, device, threads, more_docs)
        if reason:
            leave_out(task, size, reason)
        else:
            tasks.append(task)
    return tasks


def measure_peaks(
    tasks: Sequence[Task], arguments: argparse.Namespace, size: Size
) -> dict[Task, float]:
    """The peak memory of each task; without those that have no room."""
    if arguments.without_memory:
        return dict.fromkeys(tasks, math.nan)
    peak_bytes = {
        "cpu": peak_memory.cpu_peak_bytes,
        "gpu": peak_memory.gpu_peak_bytes,
    }[arguments.device]
    peaks: dict[Task, float] = {}
    ways = dict.fromkeys(way for way, _ in tasks)
    for way in tqdm(ways, desc="memory", leave=False):
        group = [task for task in tasks if task[0] == way]
        modes = [training for _, training in group]
        try:
            found = peak_bytes(way, modes, size, arguments.threads)
        except (MemoryError, BrokenProcessPool):
            for task in group:
                leave_out(task, size, "out of memory")
        else:
            peaks.update(zip(group, found, strict=True))
    return peaks


def baseline_of(ways: Sequence[str]) -> str:
    """The way that ratios are to: the fused op, or else the first."""
    return BASELINE if BASELINE in ways else ways[0]


def floor_milliseconds(
    task: Task, size: Size, device: Device | None, times: Mapping[Task, Times]
) -> float:
    """What a way that gathers its rows cannot be quicker than, NaN if it is not known.

    On the CPU reading the rows was timed beside the ways; of a GPU ``device`` says how
    quickly it copies, for a batch's own documents. The other ways share rows between
    queries.
    """
    way, training = task
    if not WAYS[way].gathers or (device is not None and size.more_docs):
        return math.nan
    if device is not None:
        return 1e3 * gpu_model.floor_seconds(size, training, device)
    gather = times.get(("gather", training))
    return math.nan if gather is None else float(np.nanmedian(gather))


def measure_size(
    arguments: argparse.Namespace, case: str, size: Size, device: Device | None
) -> list[Row]:
    """Every way and mode at one size."""
    peaks = measure_peaks(runnable(arguments, size), arguments, size)
    inputs = random_problem(size)
    steps = {
        task: make_step(*task, inputs, arguments.device, arguments.threads)
        for task in peaks
    }
    times, plans = time_rounds(
        steps, arguments.repeat, arguments.steps, arguments.time_limit
    )
    baseline = baseline_of(arguments.impl)
    rows = []
    for task, peak in peaks.items():
        figures = summary(times[task], times.get((baseline, task[1])))
        figures |= {"steps": plans[task].steps, "ratio_to": baseline}
        floor = floor_milliseconds(task, size, device, times)
        rows.append(make_row(case, size, task, figures, floor, peak))
    return rows


def measure_sizes(
    arguments: argparse.Namespace, device: Device | None, facts: dict[str, Any]
) -> list[Row]:
    """The measurements of every case."""
    rows = []
    for case, size in arguments.problems:
        rows += measure_size(arguments, case, size, device)
    packages = {package for row in rows for package in WAYS[row["impl"]].packages}
    versions = {package: machine.version(package) for package in packages}
    return with_facts(rows, {**facts, **versions})


def on_cpu(arguments: argparse.Namespace) -> list[Row]:
    """The measurements on the CPU."""
    return measure_sizes(arguments, None, machine.cpu_facts(arguments.threads))


def on_gpu(arguments: argparse.Namespace) -> list[Row]:
    """The measurements on the first GPU that TensorFlow, or else CUDA, has."""
    with_tensorflow = not arguments.without_tensorflow
    try:
        core = cuda_core.load_core()
    except cuda_core.NoDeviceError as error:
        if not with_tensorflow:
            raise
        print(f"no floor: {error}", file=sys.stderr)
        device, facts = None, machine.tensorflow_gpu_facts()
    else:
        device, facts = machine.measured_gpu(core), machine.gpu_facts(core)
    if with_tensorflow:
        facts |= machine.tensorflow_facts()
    return measure_sizes(arguments, device, facts)
