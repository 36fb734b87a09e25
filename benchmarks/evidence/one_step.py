"""Runs one family's step: for a profiler to look at its launches.

The step runs twice: when it is prepared, and once more. A profiler that listens for it is
told to begin between the two.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
from collections.abc import Sequence

from benchmarks.evidence.command import CORES, load_core
from benchmarks.evidence.families import FAMILIES, Rows, prepare


def start_profiler() -> None:
    """As cudaProfilerStart does it: by the driver, for the current context."""
    with contextlib.suppress(OSError):  # no driver, no device, no profiler
        ctypes.CDLL("libcuda.so.1").cuProfilerStart()


def main(words: Sequence[str] | None = None) -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("family", choices=list(FAMILIES))
    parser.add_argument("--core", choices=CORES, default=CORES[0])
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args(words)
    run = FAMILIES[arguments.family]
    run = run.smaller() if arguments.small else run
    rows = Rows(run.batch_size, run.dim)
    step = prepare(load_core(arguments.core), run, rows, training=True)
    start_profiler()
    step.launch()
    step.wait()


if __name__ == "__main__":
    main()
