"""The kernels' own times, over sizes, types and samplers: gpu.csv.

A step is timed by CUDA events as it is launched plainly and as a recorded graph replays
it: the difference is what the host takes. With the inputs in the L2 cache, as the step
before has left them, and with other bytes there; to write these takes the device so long
that the host is ahead of it, and its time does not show.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.evidence.command import load_core, parse
from benchmarks.evidence.device import facts
from benchmarks.evidence.families import Rows, Run, prepare
from benchmarks.evidence.tables import Table
from benchmarks.gpu.gpu_model import MODES, parse_size
from benchmarks.steps import part

FILE = "gpu.csv"
COLUMNS = (
    "source",
    "dtype",
    "mode",
    "statistics",
    "batch_size",
    "num_negatives",
    "dim",
    "launch",
    "cache",
    "median_us",
    "q20_us",
    "q80_us",
    "samples",
    "steps",
    "bytes_beside_inputs",
)

USUAL = Run("shuffle", "bfloat16", 8192, 50, 128)
SOURCES = ("shuffle", "ring", "all", "indices")
DTYPES = ("bfloat16", "float16", "float32", "float64")
# Not powers of two alone, nor multiples of a tile.
BATCH_SIZES = (512, 1000, 2048, 4100, 8192, 10000, 20000, 32768, 65536)
COUNTS = (4, 10, 20, 50, 100, 200, 500, 1000)
DIMS = (32, 50, 64, 100, 128, 200, 256, 384, 512, 768, 1024)
PREDICTED = ("4096x20x128", "8192x64x256", "65536x50x128")

SAMPLES = 30
LEAST_SAMPLE_MS = 0.3  # the events' own resolution is half a microsecond
MOST_STEPS = 50
MOST_STEP_MS = 40.0  # of a training step: slower ones are timed by fewer variants
WARM_UP_MS = 3.0
STRIDE_OF_SMALL = 7  # of a dry run: every seventh


def runs() -> Iterator[Run]:
    """What is timed; what the documents show first."""
    for text, dtype in itertools.product(PREDICTED, ("bfloat16", "float32")):
        size = parse_size(text)
        yield Run("shuffle", dtype, size.batch_size, size.num_negatives, size.dim)
    for source in SOURCES:
        yield replace(USUAL, source=source)
    for count in COUNTS:
        yield replace(USUAL, source="ring", num_negatives=count)
    for source, dtype in itertools.product(SOURCES, DTYPES):
        yield replace(USUAL, source=source, dtype=dtype)
    for source in ("ring", "all"):
        yield replace(USUAL, source=source, dtype="float32", tf32=True)
        yield replace(USUAL, source=source, statistics=False)
    for batch_size, source in itertools.product(BATCH_SIZES, SOURCES):
        yield replace(USUAL, source=source, batch_size=batch_size)
    for dim, source in itertools.product(DIMS, ("all", "shuffle", "ring", "indices")):
        yield replace(USUAL, source=source, dim=dim)
    for dim in DIMS:
        yield replace(USUAL, source="all", dim=dim, dtype="float32", tf32=True)
        yield replace(USUAL, dim=dim, dtype="float32")
    for count, source in itertools.product(COUNTS, ("shuffle", "indices")):
        yield replace(USUAL, source=source, num_negatives=count)
    yield replace(USUAL, statistics=False)


def unique(found: Iterable[Run]) -> list[Run]:
    """Each once; ``all`` has every other document for its candidates."""
    every = (
        replace(run, num_negatives=run.batch_size - 1) if run.source == "all" else run
        for run in found
    )
    return list(dict.fromkeys(every))


def unique_runs() -> list[Run]:
    """All that there is to time."""
    return unique(runs())


def steps_for(milliseconds: float) -> int:
    """So many that a sample is longer than what measuring it takes."""
    return max(1, min(MOST_STEPS, int(LEAST_SAMPLE_MS / milliseconds) + 1))


def quantiles(times: Sequence[float]) -> dict[str, Any]:
    """Median and spread of milliseconds, in microseconds."""
    low, median, high = 1e3 * np.quantile(times, (0.2, 0.5, 0.8))
    return {
        "median_us": round(median, 2),
        "q20_us": round(low, 2),
        "q80_us": round(high, 2),
        "samples": len(times),
    }


def time_variants(step: Any, flush_bytes: int) -> Iterator[dict[str, Any]]:
    """The step launched plainly and as a graph, with warm caches and with other bytes."""
    (first,) = step.milliseconds(samples=1, steps=1)
    warm_up = int(WARM_UP_MS / max(first, 1e-3)) + 1
    step.milliseconds(samples=1, steps=min(warm_up, 200))
    (once,) = step.milliseconds(samples=1, steps=steps_for(first))
    for launch, cache in itertools.product(("graph", "plain"), ("warm", "flushed")):
        if once > MOST_STEP_MS and (launch, cache) != ("graph", "warm"):
            continue  # neither the host nor the caches count for these
        flushed = cache == "flushed"
        steps = 1 if flushed else steps_for(once)
        times = step.milliseconds(
            samples=SAMPLES,
            steps=steps,
            how=launch,
            flush_bytes=flush_bytes if flushed else 0,
        )
        yield {"launch": launch, "cache": cache, "steps": steps, **quantiles(times)}


def check(step: Any) -> None:
    """Whether what is timed is a loss: finite, and the same however it is launched.

    The tests of the kernels compare the numbers; here no launch may be left out.
    """
    losses = []
    for how in ("plain", "graph"):
        step.spoil_results()
        step.launch(1, how)
        losses.append(step.results()["loss"])
    assert np.isfinite(losses[0]).all(), f"the loss is {losses[0]}"
    assert losses[0].tobytes() == losses[1].tobytes(), f"launches differ: {losses}"


def time_run(core: Any, run: Run, rows: Rows, table: Table, flush_bytes: int) -> None:
    """All rows of the file for one run."""
    for training in (True, False):
        step = prepare(core, run, rows, training)
        check(step)
        common = {
            **run.columns,
            "mode": MODES[training],
            "bytes_beside_inputs": step.bytes_beside_inputs,
        }
        for variant in time_variants(step, flush_bytes):
            table.add({**common, **variant})


def time_runs(arguments: argparse.Namespace, file: str, wanted: list[Run]) -> None:
    """Times every run; one that fails is a part that failed."""
    core = load_core(arguments.core)
    table = Table(arguments.output / file, COLUMNS, facts(core))
    if arguments.small:
        wanted = list(dict.fromkeys(run.smaller() for run in wanted))[::STRIDE_OF_SMALL]
    largest = [max(getattr(run, name) for run in wanted) for name in ("batch_size", "dim")]
    rows = Rows(*largest)
    flush_bytes = 4096 if arguments.small else 4 * core.device_info()["l2_bytes"]
    for run in wanted:
        with part(str(run)):
            time_run(core, run, rows, table, flush_bytes)


def main(words: Sequence[str] | None = None) -> None:
    """Times what there is to time."""
    time_runs(parse(__doc__ or "", words), FILE, unique_runs())


if __name__ == "__main__":
    main()
