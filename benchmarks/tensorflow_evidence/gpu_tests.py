"""The tests marked `gpu`, in groups: what matters most first, each group a process.

A group has workers of pytest-xdist, so that a test which ends its process takes none of the
others with it. tests/benchmarks/test_gpu_tensorflow.py sees that every test is in one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

PREFIX = "tests/cuda/test_gpu.py::test_on_a_gpu_"
ROWS = f"{PREFIX}every_shape_and_dtype_matches_the_oracle"
TILES = f"{PREFIX}tiles_match_the_oracle"
DTYPES = ("float32", "bfloat16", "float16", "float64")
PLUGIN = "benchmarks.tensorflow_evidence.parts_plugin"


def one_shape(mode: str) -> list[str]:
    """Every dtype and every source of candidates, at one shape."""
    rows = [f"{ROWS}[{mode}-shape12-{source}" for source in ("shuffle", "indices")]
    tiles = [f"{TILES}[{mode}-128-{source}" for source in ("ring", "all")]
    return [f"{name}-{dtype}]" for dtype in DTYPES for name in rows + tiles]


@dataclass(frozen=True)
class Group:
    """Tests to run together, without some of them.

    ``limit`` is the seconds of all, ``longest`` those of one, after which its worker ends.
    ``needs`` are the probes (probes.py) without which they cannot run.
    """

    name: str
    tests: Sequence[str]
    limit: float
    workers: int = 4
    longest: float = 30
    needs: Sequence[str] = ()
    without: Sequence[str] = ()


SHORT = (
    Group("one shape", [*one_shape("eager"), *one_shape("graph")], 75),
    Group("XLA", [f"{PREFIX}a_compiled_function_matches_the_oracle"], 75, needs=["xla"]),
    Group(
        "options and bits",
        [
            f"{PREFIX}each_option_matches_the_oracle",
            f"{PREFIX}two_runs_give_the_same_bits",
            f"{PREFIX}float32_products_are_rounded_where_tensorflow_allows_it",
            f"{PREFIX}an_index_outside_the_documents_is_dropped",
        ],
        45,
    ),
    Group(
        "every shape",
        [ROWS, TILES],
        75,
        workers=8,
        without=[*one_shape("eager"), *one_shape("graph")],
    ),
)

LONG = (
    Group(
        "benchmark of the core",
        ["tests/benchmarks/test_benchmarks.py::test_the_core_alone_runs_on_a_gpu"],
        30,
        workers=0,
    ),
    Group(
        "benchmark",
        ["tests/benchmarks/test_benchmarks.py::test_the_benchmark_runs_on_a_gpu"],
        90,
        workers=0,
        needs=["matmul", "xla"],
    ),
    Group("sanitizer", [f"{PREFIX}the_sanitizer_finds_nothing"], 90, longest=80),
    Group(
        "2^31 elements",
        [
            f"{PREFIX}more_than_two_to_the_31_elements_give_what_the_last_rows_give_alone",
        ],
        90,
        workers=0,
    ),
)


def pytest_command(tests: Sequence[str], *options: str) -> list[str]:
    """Runs tests and reports each as a part."""
    quiet = ["-q", "--tb=short", "-p", "no:cacheprovider"]
    return [sys.executable, "-m", "pytest", *quiet, "-p", PLUGIN, *options, *tests]


def command_of(group: Group) -> list[str]:
    """Runs a group."""
    workers = (
        [f"--numprocesses={group.workers}", f"--longest-test={group.longest:g}"]
        if group.workers
        else []
    )
    left_out = [f"--deselect={test}" for test in group.without]
    return pytest_command(group.tests, *workers, *left_out)


def collecting_command() -> list[str]:
    """Finds the tests of every group, and fails if one is not there."""
    tests = dict.fromkeys(test for group in (*SHORT, *LONG) for test in group.tests)
    return pytest_command(list(tests), "--collect-only")
