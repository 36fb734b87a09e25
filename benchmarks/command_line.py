"""The command line of benchmarks/bench.py."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.cases import CASES, DEFAULT, UNNAMED
from benchmarks.gpu.gpu_model import MODES, SIZE_FORM, Size, parse_size
from benchmarks.gpu.tile_shape import BYTES
from benchmarks.limits import default_memory_limit
from benchmarks.ways import WAYS

# A GPU's step takes microseconds, and what stops the clock once a round nearly a thousand.
STEPS = {"cpu": 5, "gpu": 500}


def count(text: str) -> int:
    """A number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number of 1 or more, got {text!r}")
    return int(text)


def positive(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def make_parser(description: str) -> argparse.ArgumentParser:
    """Every option, and what it is by default."""
    parser = argparse.ArgumentParser(description=description)
    add_what_runs(parser)
    add_how_long(parser)
    parser.add_argument("--output", type=Path, metavar="CSV")
    return parser


def add_what_runs(parser: argparse.ArgumentParser) -> None:
    """The options that choose problems and implementations."""
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--case", nargs="+", choices=list(CASES), metavar="CASE", help=f"of {list(CASES)}"
    )
    sizes.add_argument(
        "--sizes",
        nargs="+",
        type=parse_size,
        metavar=SIZE_FORM,
        help="C documents, where there are more than the B of the batch",
    )
    parser.add_argument(
        "--dtypes", nargs="+", choices=list(BYTES), help="default: the case's own"
    )
    parser.add_argument(
        "--impl",
        nargs="+",
        choices=list(WAYS),
        metavar="IMPL",
        help=f"default: all of {list(WAYS)}",
    )
    parser.add_argument("--mode", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--device", choices=list(STEPS), help="default: cpu")
    parser.add_argument(
        "--without-tensorflow",
        action="store_true",
        help="on a GPU, what needs none: the CUDA core, PyTorch, JAX",
    )
    parser.add_argument(
        "--without-memory", action="store_true", help="do not measure peak memory"
    )


def add_how_long(parser: argparse.ArgumentParser) -> None:
    """The options that bound time and memory."""
    parser.add_argument("--repeat", type=count, default=15, help="rounds")
    parser.add_argument("--steps", type=count, help=f"of each way in a round: {STEPS}")
    parser.add_argument("--threads", type=count, default=2, help="of the CPU")
    parser.add_argument(
        "--time-limit",
        type=positive,
        default=20.0,
        metavar="SECONDS",
        help="of a way, mode and size: slow ones take fewer steps, at least three",
    )
    parser.add_argument(
        "--memory-limit",
        type=positive,
        default=default_memory_limit(),
        metavar="GIB",
        help="ways that would take more are left out; default: half of this machine's",
    )


def parse(
    parser: argparse.ArgumentParser, command_line: Sequence[str] | None
) -> argparse.Namespace:
    """The arguments, checked; with ``problems`` and ``training`` for cases and modes."""
    arguments = parser.parse_args(command_line)
    if arguments.without_tensorflow:
        check_without_tensorflow(parser, arguments)
    arguments.device = arguments.device or (
        "gpu" if arguments.without_tensorflow else "cpu"
    )
    arguments.steps = arguments.steps or STEPS[arguments.device]
    arguments.impl = list(dict.fromkeys(arguments.impl or default_ways(arguments)))
    arguments.training = [
        MODES.index(mode) == 1 for mode in MODES if mode in arguments.mode
    ]
    arguments.problems = problems(arguments)
    return arguments


def check_without_tensorflow(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace
) -> None:
    """Ends the program where something is asked for that needs TensorFlow."""
    if arguments.device == "cpu":
        parser.error("--without-tensorflow times the CUDA core: there is no cpu for it")
    unfit = [name for name in arguments.impl or [] if WAYS[name].needs_tensorflow]
    if unfit:
        fit = ", ".join(default_ways(arguments))
        parser.error(f"{', '.join(unfit)} need TensorFlow; without it there are {fit}")


def default_ways(arguments: argparse.Namespace) -> list[str]:
    """All ways, or those that run on a GPU without TensorFlow."""
    if not arguments.without_tensorflow:
        return list(WAYS)
    on_gpu = [name for name in WAYS if WAYS[name].only_on != "cpu"]
    return [name for name in on_gpu if not WAYS[name].needs_tensorflow]


def problems(arguments: argparse.Namespace) -> list[tuple[str, Size]]:
    """The names of cases and their sizes, in every dtype that was asked for."""
    if arguments.sizes:
        found = [(UNNAMED, size) for size in arguments.sizes]
    else:
        cases = dict.fromkeys(arguments.case or [DEFAULT])
        found = [(case, size) for case in cases for size in CASES[case]]
    if not arguments.dtypes:
        return found
    return list(
        dict.fromkeys(
            (case, replace(size, dtype=dtype))
            for case, size in found
            for dtype in arguments.dtypes
        )
    )
