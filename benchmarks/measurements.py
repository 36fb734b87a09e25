"""The measurements of a benchmark: a row a way, pass, size and dtype."""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from tqdm import tqdm

from benchmarks import cuda_core, gpu_model, machine, peak_memory
from benchmarks.gpu_model import PASSES, Device, Size
from benchmarks.rounds import summary, time_rounds

Row = dict[str, Any]

# It computes another loss, about which the sampled loss's floor says nothing.
WITHOUT_FLOOR = "full in-batch softmax"


def make_row(
    size: Size,
    way: str,
    training: bool,
    times: tuple[list[float], list[float]],
    device: Device | None,
    peak_bytes: float = math.nan,
) -> Row:
    """A row of results.

    ``times`` are the way's own and the fused op's of the same rounds; ``device`` says how
    quickly this machine copies, where that was measured.
    """
    figures = summary(*times)
    floor = math.nan
    if device and way != WITHOUT_FLOOR:
        floor = 1e3 * gpu_model.floor_seconds(size, training, device)
    return {
        "way": way,
        "pass": PASSES[training],
        "batch_size": size.batch_size,
        "num_negatives": size.num_negatives,
        "dim": size.dim,
        "dtype": size.dtype,
        **figures,
        "peak_bytes": peak_bytes,
        "floor_ms": floor,
        "share_of_floor": floor / figures["median_ms"],
    }


def predicted_milliseconds(row: Row, device_name: str) -> float:
    """What gpu_model said of a fused row, if it knows the device."""
    device = gpu_model.find_device(device_name)
    if device is None or not row["way"].startswith("fused"):
        return math.nan
    size = Size(row["batch_size"], row["num_negatives"], row["dim"], row["dtype"])
    return 1e3 * gpu_model.predicted_seconds(size, row["pass"] == "step", device)


def with_facts(rows: list[Row], facts: dict[str, Any]) -> list[Row]:
    """The rows with what they ran on, and the prediction for it."""
    return [
        {**row, "predicted_ms": predicted_milliseconds(row, facts["device"]), **facts}
        for row in rows
    ]


def measure_peaks(
    ways: Iterable[str], arguments: argparse.Namespace, size: Size
) -> dict[str, list[int]]:
    """The peak memory of each way's loss and step; without the ways that have no room."""
    import tensorflow as tf

    peak_bytes = {
        "cpu": peak_memory.cpu_peak_bytes,
        "gpu": peak_memory.gpu_peak_bytes,
    }[arguments.device]
    peaks = {}
    for way in tqdm(ways, desc="memory", leave=False):
        try:
            peaks[way] = peak_bytes(way, size, arguments.threads)
        except tf.errors.ResourceExhaustedError:
            print(f"{size}, {size.dtype}, {way}: out of memory, left out", file=sys.stderr)
    return peaks


def measure_with_tensorflow(
    arguments: argparse.Namespace, size: Size, device: Device | None
) -> list[Row]:
    """Every way and pass at one size."""
    from benchmarks.ways import WAYS, make_step, wait_for

    peaks = measure_peaks(dict.fromkeys(arguments.ways or WAYS), arguments, size)
    ways = list(peaks)
    keys = list(itertools.product(ways, (False, True)))
    steps = {key: make_step(*key, size, arguments.device) for key in keys}
    times = time_rounds(steps, wait_for, arguments.rounds, arguments.steps)

    def pair(way: str, training: bool) -> tuple[list[float], list[float]]:
        return times[way, training], times["fused", training]

    return [
        make_row(size, way, training, pair(way, training), device, peak)
        for way in ways
        for training, peak in zip((False, True), peaks[way], strict=True)
    ]


def on_cpu(arguments: argparse.Namespace, sizes: Sequence[Size]) -> list[Row]:
    """The measurements on the CPU."""
    rows = []
    for size in sizes:
        rows += measure_with_tensorflow(arguments, size, machine.measured_cpu(size))
    return with_facts(rows, machine.cpu_facts(arguments.threads))


def on_gpu(arguments: argparse.Namespace, sizes: Sequence[Size]) -> list[Row]:
    """The measurements on TensorFlow's first GPU."""
    try:
        core = cuda_core.load_core()
    except cuda_core.NoDeviceError as error:
        print(f"no floor: {error}", file=sys.stderr)
        device, facts = None, machine.tensorflow_gpu_facts()
    else:
        device, facts = machine.measured_gpu(core), machine.gpu_facts(core)
    rows = []
    for size in sizes:
        rows += measure_with_tensorflow(arguments, size, device)
    return with_facts(rows, {**facts, **machine.tensorflow_facts()})


def without_tensorflow(
    core: Any, arguments: argparse.Namespace, sizes: Sequence[Size]
) -> list[Row]:
    """The CUDA core's passes by themselves."""
    device = machine.measured_gpu(core)
    rows = []
    for size, training in itertools.product(sizes, (False, True)):
        times = cuda_core.time_passes(
            core, size, training, arguments.rounds, arguments.steps
        )
        rows.append(make_row(size, "fused, core alone", training, (times, times), device))
    return with_facts(rows, machine.gpu_facts(core))
