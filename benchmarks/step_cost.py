"""What a training step on the CPU costs beside what it is held against, as ratios.

A step is the loss and both gradients through TensorFlow, in a traced function unless a row
says that it is eager. Each row compares the steps of a few implementations, which run
interleaved after a warm-up: a round gives one ratio, and the table the median and the
quartiles of the rounds, and whether the median reaches its target.

    python -m benchmarks.step_cost --output step_cost.csv
    python -m benchmarks.step_cost --quick
"""

from __future__ import annotations

import functools
import gc
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from negative_cosine import _probes, fused_negative_cosine_loss
from tqdm import tqdm

from benchmarks import cpu_steps, machine, report, tensorflow_ways
from benchmarks.checks import draw_candidates
from benchmarks.cpu_steps import CPU, SECONDS_A_ROUND, THREADS
from benchmarks.gpu.gpu_model import Size
from benchmarks.limits import missing_packages
from benchmarks.measurements import Row
from benchmarks.problem import Array, Problem, Step, random_problem
from benchmarks.rounds import Times, num_rounds, quartiles, time_rounds
from benchmarks.tensorflow_ways import Outputs
from benchmarks.ways import WAYS, make_step

DIM = 128
CACHE_LINE = 64  # bytes
# Of each way in a round: together some hundredths of a second or more.
SMALL_STEPS, STEPS, LARGE_STEPS = 200, 10, 2
TITLE = "Training steps on the CPU, B x K x D in float32"

AllTimes = Mapping[str, Times]
Ratio = Callable[[AllTimes], Times]  # of the ways' times: one a round
MakeSteps = Callable[[], dict[str, Step]]
Function = Callable[[tf.Tensor, tf.Tensor], Outputs]  # of the query and the doc


@dataclass(frozen=True)
class Target:
    """What the median of a ratio should be: a bound from above or from below."""

    value: float
    is_lowest: bool = False

    def is_reached(self, median: float) -> bool:
        """Whether a median is on the right side of the bound."""
        return median >= self.value if self.is_lowest else median <= self.value

    def __str__(self) -> str:
        return f"{'at least' if self.is_lowest else 'at most'} {self.value:g}"


@dataclass(frozen=True)
class Comparison:
    """A row: the steps that are timed together, and their ratio.

    ``make_steps`` makes the inputs too, so that they live no longer than the row is timed.
    """

    name: str
    sizes: str
    make_steps: MakeSteps
    ratio: Ratio
    target: Target
    steps: int = STEPS
    is_long: bool = False  # left out by --quick


def quotient(way: str, other: str) -> Ratio:
    """How long a way takes, in times of another."""
    return lambda times: times[way] / times[other]


def above_zeros(times: AllTimes) -> Times:
    """What a step takes beyond writing zeros, in times of only reading its rows."""
    return (times["step"] - times["zeros"]) / times["reading"]


def per_row(rows: int, other_rows: int) -> Ratio:
    """How long a row of the one batch takes, in times of a row of the other."""
    return lambda times: times["step"] / rows / (times["other"] / other_rows)


def times_faster(way: str) -> Ratio:
    """How many times faster a way is than the fastest of the others, by their medians."""

    def ratio(times: AllTimes) -> Times:
        others = [other for name, other in times.items() if name != way]
        return min(others, key=lambda other: float(np.nanmedian(other))) / times[way]

    return ratio


def tensorflow_step(function: Function, problem: Problem) -> Step:
    """Calls a function of TensorFlow on inputs that stay where they are."""
    with tf.device(CPU):
        query, doc = tf.constant(problem.query), tf.constant(problem.doc)
    return Step(
        lambda: function(query, doc), tensorflow_ways.wait_for, tensorflow_ways.outputs
    )


def with_gradients(loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> Function:
    """The loss and both gradients, not traced."""

    def function(query: tf.Tensor, doc: tf.Tensor) -> Outputs:
        with tf.device(CPU), tf.GradientTape() as tape:
            tape.watch([query, doc])
            value = loss(query, doc)
        return (value, *map(tf.convert_to_tensor, tape.gradient(value, [query, doc])))

    return function


def zeros(problem: Problem, written: bool) -> Step:
    """What no step can do without: it returns a loss and two gradients, all zeros.

    ``written`` says that each call writes them anew, as a step must. Otherwise they are
    constants of the graph, which TensorFlow wrote beforehand: the least of all functions.
    """
    zero = tf.constant(0.0) if written else 0.0

    @tf.function(autograph=False)
    def function(query: tf.Tensor, doc: tf.Tensor) -> Outputs:
        with tf.device(CPU):
            return (
                tf.fill([], zero),
                *(tf.fill(rows.shape, zero) for rows in (query, doc)),
            )

    return tensorflow_step(function, problem)


def from_a_cache_line(rows: Array) -> Array:
    """A copy of the rows that starts at a cache line, as TensorFlow's tensors do."""
    memory = np.empty(rows.nbytes + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    copy = memory[start : start + rows.nbytes].view(rows.dtype).reshape(rows.shape)
    copy[...] = rows
    return copy


def reading(problem: Problem, table: Array) -> Step:
    """Only reads the rows of a step: as gather_way does, but those of the step's draws."""
    own = np.arange(len(problem.query), dtype=np.int32)[:, None]
    indices = np.hstack([own, table]).ravel()
    matrices = [from_a_cache_line(rows) for rows in (problem.doc, problem.query)]

    def run() -> list[float]:
        return [_probes.read_rows(matrix, indices, THREADS) for matrix in matrices]

    return Step(run, lambda sums: None, lambda sums: [np.array(sum(sums))])


def training(way: str, problem: Problem) -> Step:
    """A way's training step, traced."""
    return make_step(way, True, problem, "cpu", THREADS)


def training_of(size: Size, ways: Iterable[str]) -> dict[str, Step]:
    """The training steps of some ways on one batch."""
    problem = random_problem(size)
    return {way: training(way, problem) for way in ways}


def eager_of(size: Size, ways: Iterable[str]) -> dict[str, Step]:
    """The same of ways of TensorFlow, not traced."""
    problem = random_problem(size)

    def step(way: str) -> Step:
        options = {"num_negatives": size.num_negatives, "candidates": None}
        loss = functools.partial(tensorflow_ways.LOSSES[WAYS[way].loss], **options)
        return tensorflow_step(with_gradients(loss), problem)

    return {way: step(way) for way in ways}


def shuffle_to_reading(rows: int, count: int) -> Comparison:
    """``shuffle``, less the writing of zeros, to the reading of its rows."""
    size = Size(rows, count, DIM)

    def make_steps() -> dict[str, Step]:
        candidates = draw_candidates(size, "shuffle")
        problem = random_problem(size, candidates)
        return {
            "step": training("fused", problem),
            "zeros": zeros(problem, written=True),
            "reading": reading(problem, candidates.table),
        }

    name = "shuffle without its zeros, to reading rows"
    return Comparison(name, str(size), make_steps, above_zeros, Target(1.6))


def shuffle_per_row(rows: int, other_rows: int, count: int = 20) -> Comparison:
    """``shuffle`` where the rows are no power of two, to where they are, per row."""
    sizes = Size(rows, count, DIM), Size(other_rows, count, DIM)

    def make_steps() -> dict[str, Step]:
        step, other = (training("fused", random_problem(size)) for size in sizes)
        return {"step": step, "other": other}

    name = "shuffle per row, to a power of two of rows"
    both = f"{rows} to {sizes[1]}"
    return Comparison(name, both, make_steps, per_row(rows, other_rows), Target(1.1))


def seed_to_indices(size: Size) -> Comparison:
    """``shuffle`` that draws by a seed, to the same draws when they are given."""

    def make_steps() -> dict[str, Step]:
        candidates = draw_candidates(size, "shuffle")
        problem = random_problem(size, candidates)
        loss = functools.partial(
            fused_negative_cosine_loss,
            negative_indices=tf.constant(candidates.table),
            implementation="native",
        )
        given = tf.function(with_gradients(loss), autograph=False)
        return {
            "seed": training("fused", problem),
            "given": tensorflow_step(given, problem),
        }

    name = "shuffle by a seed, to its draws given"
    return Comparison(name, str(size), make_steps, quotient("seed", "given"), Target(1.2))


def ring_to_shuffle(size: Size, faster: float) -> Comparison:
    """How many times faster ``ring`` is."""
    ways = ("fused-ring", "fused")
    return Comparison(
        "ring, times faster than shuffle",
        str(size),
        functools.partial(training_of, size, ways),
        times_faster("fused-ring"),
        Target(faster, is_lowest=True),
    )


def all_to_softmax(rows: int, rivals: Sequence[str], whose: str) -> Comparison:
    """How many times faster ``all`` is than the fastest full softmax of a framework."""
    size = Size(rows, rows - 1, DIM)
    return Comparison(
        f"all, times faster than {whose} softmax",
        str(size),
        functools.partial(training_of, size, ("fused-all", *rivals)),
        times_faster("fused-all"),
        Target(1.5, is_lowest=True),
        steps=LARGE_STEPS,
    )


def all_to_softmaxes(rows: int) -> list[Comparison]:
    """The same for each framework that is installed."""
    rivals = {"TensorFlow's": ("in-batch", "in-batch-xla"), "JAX's": ("jax-in-batch",)}
    return [
        all_to_softmax(rows, ways, whose)
        for whose, ways in rivals.items()
        if not any(problem for way in ways for problem in missing_packages(WAYS[way]))
    ]


def smallest_steps(rows: int) -> list[Comparison]:
    """A step on a few rows, where what starts it counts for most."""
    size = Size(rows, 4, DIM)
    ways = ("fused", "vectorised")

    def to_zeros() -> dict[str, Step]:
        problem = random_problem(size)
        return {
            "fused": training("fused", problem),
            "zeros": zeros(problem, written=False),
        }

    eager = functools.partial(eager_of, size, ways)
    traced = functools.partial(training_of, size, ways)
    to_vectorised = quotient("fused", "vectorised")
    vectorised = "to vectorised TensorFlow"
    found: list[tuple[str, MakeSteps, Ratio, float]] = [
        (f"eager step, {vectorised}", eager, to_vectorised, 1.0),
        (f"traced step, {vectorised}", traced, to_vectorised, 1.0),
        ("traced step, to returning zeros", to_zeros, quotient("fused", "zeros"), 1.3),
    ]
    return [
        Comparison(name, str(size), make_steps, ratio, Target(target), SMALL_STEPS)
        for name, make_steps, ratio, target in found
    ]


def long(comparison: Comparison) -> Comparison:
    """A row that takes long: fewer steps in a round, and none with --quick."""
    return replace(comparison, steps=LARGE_STEPS, is_long=True)


def comparisons() -> list[Comparison]:
    """All rows, in the order of the table."""
    return [
        shuffle_to_reading(4096, 20),
        shuffle_to_reading(8192, 50),
        shuffle_per_row(4100, 4096),
        long(shuffle_per_row(70_000, 65_536)),
        seed_to_indices(Size(512, 50, 64, more_docs=128 * 512)),
        ring_to_shuffle(Size(8192, 50, DIM), faster=2.5),
        long(ring_to_shuffle(Size(65_536, 50, DIM), faster=5.0)),
        *all_to_softmaxes(4096),
        *map(long, all_to_softmaxes(8192)),
        *smallest_steps(8),
        *smallest_steps(64),
    ]


def figures(ratios: Times) -> dict[str, Any]:
    """The median and the quartiles of the rounds in which every way took part."""
    lower, median, upper = quartiles(ratios)
    return {"ratio": median, "q25": lower, "q75": upper, "rounds": num_rounds(ratios)}


def measure(comparison: Comparison, rounds: int) -> Row:
    """A row of results. Its arrays are gone when it returns."""
    with tf.device(CPU):
        times, _ = time_rounds(
            comparison.make_steps(), rounds, comparison.steps, rounds * SECONDS_A_ROUND
        )
    gc.collect()  # traced functions are in cycles, and hold their inputs
    found = figures(comparison.ratio(times))
    reached = comparison.target.is_reached(found["ratio"])
    return {
        "row": comparison.name,
        "sizes": comparison.sizes,
        **found,
        "target": str(comparison.target),
        "reached": "yes" if reached else "no",
        **versions(times),
    }


def versions(names: Iterable[str]) -> dict[str, str]:
    """Those of the packages that the ways among some steps import."""
    ways = (WAYS[name] for name in names if name in WAYS)
    return {package: machine.version(package) for way in ways for package in way.packages}


view = report.by_vectors(
    names={name: operator.itemgetter(name) for name in ("row", "sizes", "target")},
    figures={
        "ratio": lambda row: report.with_quartiles(row["ratio"], row["q25"], row["q75"]),
        "reached": operator.itemgetter("reached"),
    },
)


def measure_all(rounds: int, quick: bool) -> list[Row]:
    """Every row, or with ``quick`` those that do not take long."""
    wanted = [row for row in comparisons() if not (quick and row.is_long)]
    return [measure(row, rounds) for row in tqdm(wanted, desc="rows", leave=False)]


def main(words: Sequence[str] | None = None) -> None:
    """Measures, prints and, where asked to, writes a CSV."""
    cpu_steps.run(
        words,
        description=(__doc__ or "").splitlines()[0],
        quick="few rounds, without the largest batches",
        measure=measure_all,
        view=view,
        title=TITLE,
    )


if __name__ == "__main__":
    main()
