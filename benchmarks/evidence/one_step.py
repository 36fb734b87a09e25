"""Runs one family's step: for a profiler to look at the launches behind the first ones.

The step runs twice: when it is prepared, and once more.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks.evidence.command import CORES, load_core
from benchmarks.evidence.families import FAMILIES, Rows, prepare


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
    step.launch()
    step.wait()


if __name__ == "__main__":
    main()
