"""What the benchmarks of training steps on the CPU share: options, the table, the CSV."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from benchmarks import bench, command_line, machine, report
from benchmarks.measurements import Row
from benchmarks.tables import print_table

THREADS = 2
CPU = "/cpu:0"
ROUNDS, QUICK_ROUNDS = 25, 7
SECONDS_A_ROUND = 2.0  # a way that takes longer sits out some rounds


def make_parser(description: str, quick: str) -> argparse.ArgumentParser:
    """Every option, and what it is by default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--rounds",
        type=command_line.count,
        help=f"default: {ROUNDS}, with --quick {QUICK_ROUNDS}",
    )
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--output", type=Path, metavar="CSV")
    parser.set_defaults(device="cpu", threads=THREADS)
    return parser


def with_facts(rows: list[Row]) -> pd.DataFrame:
    """The results with what they ran on."""
    facts = machine.cpu_facts(THREADS) | {"package": machine.version("negative-cosine")}
    return report.complete(pd.DataFrame(rows).assign(**facts))


def run(
    words: Sequence[str] | None,
    *,
    description: str,
    quick: str,
    measure: Callable[[int, bool], list[Row]],
    view: report.View,
    title: str,
) -> None:
    """Measures, prints and, where asked to, writes a CSV.

    ``measure`` is given the number of rounds, and whether ``--quick`` is there, of which
    ``quick`` says what it leaves out.
    """
    parser = make_parser(description, quick)
    arguments = parser.parse_args(words)
    if arguments.output:
        bench.make_writable(parser, arguments.output)
    bench.start_tensorflow(parser, arguments)
    rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    results = with_facts(measure(rounds, arguments.quick))
    print_table(title, *view(results))
    if arguments.output:
        results.to_csv(arguments.output, index=False)
