"""What a replica's training step on the CPU costs beside its draws, for 1 to 16 replicas.

With ``cross_replica=True`` a replica of N draws K candidates for each of its B queries from
the N * B documents that it gathered. Timed here is that step alone, without the gathering:
the loss and both gradients, in a traced function. It returns a gradient of each document,
most of them zero. So the same rounds time a function that only writes zeros of their size.

    python -m benchmarks.replica_cost --output replica_cost.csv
    python -m benchmarks.replica_cost --quick
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tqdm import tqdm

from benchmarks import cpu_steps, report, step_cost
from benchmarks.cpu_steps import CPU, SECONDS_A_ROUND
from benchmarks.gpu.gpu_model import Size
from benchmarks.measurements import Row
from benchmarks.problem import Step, random_problem
from benchmarks.rounds import Times, num_rounds, quartiles, time_rounds

DIM = 128
STEPS = 10  # of each way in a round
REPLICAS = (1, 2, 4, 8, 16)
WAYS = {"shuffle": "fused", "ring": "fused-ring"}  # by their samplers
TITLE = "A replica's training step on the CPU, B x K x D in float32"

Key = tuple[str, int]  # what is timed, and the number of replicas


@dataclass(frozen=True)
class Replica:
    """What one replica has: B queries with their documents, and K draws a query."""

    rows: int
    negatives: int
    dim: int = DIM

    def among(self, replicas: int) -> Size:
        """Its step where so many replicas gather their documents."""
        others = (replicas - 1) * self.rows
        return Size(self.rows, self.negatives, self.dim, more_docs=others)


USUAL = (Replica(1024, 20), Replica(1024, 100), Replica(4096, 20), Replica(4096, 100))
QUICK = USUAL[:1]


def make_steps(sampler: str, replica: Replica, numbers: Sequence[int]) -> dict[Key, Step]:
    """For each number of replicas the step, and what only writes as many zeros."""
    steps: dict[Key, Step] = {}
    for replicas in numbers:
        problem = random_problem(replica.among(replicas))
        steps["step", replicas] = step_cost.training(WAYS[sampler], problem)
        steps["zeros", replicas] = step_cost.zeros(problem, written=True)
    return steps


def figures(times: Mapping[Key, Times], replicas: int) -> Row:
    """A step's time, its share of zeros, and how the rest compares with one replica's."""
    step, zeros = times["step", replicas], times["zeros", replicas]
    alone = times["step", 1] - times["zeros", 1]
    row: Row = {}
    for name, rounds in {
        "step_ms": step,
        "zeros_share": zeros / step,
        "growth": (step - zeros) / alone,
    }.items():
        row[f"{name}_q25"], row[name], row[f"{name}_q75"] = quartiles(rounds)
    return {**row, "rounds": num_rounds(step)}


def measure(
    sampler: str, replica: Replica, numbers: Sequence[int], rounds: int
) -> list[Row]:
    """A row for each number of replicas. Its arrays are gone when it returns."""
    with tf.device(CPU):
        steps = make_steps(sampler, replica, numbers)
        times, _ = time_rounds(steps, rounds, STEPS, rounds * SECONDS_A_ROUND)
    del steps
    gc.collect()  # traced functions are in cycles, and hold their inputs
    return [
        {
            "sampler": sampler,
            "batch_size": replica.rows,
            "num_negatives": replica.negatives,
            "dim": replica.dim,
            "replicas": replicas,
            **figures(times, replicas),
        }
        for replicas in numbers
    ]


def measure_all(rounds: int, quick: bool) -> list[Row]:
    """Every row, or with ``quick`` those of the smallest step."""
    wanted = [
        (sampler, replica) for replica in (QUICK if quick else USUAL) for sampler in WAYS
    ]
    return [
        row
        for sampler, replica in tqdm(wanted, desc="steps", leave=False)
        for row in measure(sampler, replica, REPLICAS, rounds)
    ]


def cell(row: report.Record) -> str:
    """A step's time, and how the rest of it compares with one replica's."""
    return f"{report.digits(row['step_ms'])} ({report.times(row['growth'])})"


def view(results: Any) -> report.Table:
    """A row for each step, a column for each number of replicas."""
    cells: dict[tuple[report.Names, str], str] = {}
    for row in results.to_dict("records"):
        size = f"{row['batch_size']} x {row['num_negatives']} x {row['dim']}"
        name = (row["sampler"], size)
        cells[name, f"{row['replicas']} replicas"] = cell(row)
    return report.cross_table(["step, ms (the rest)", "B x K x D"], cells)


def main(words: Sequence[str] | None = None) -> None:
    """Measures, prints and, where asked to, writes a CSV."""
    cpu_steps.run(
        words,
        description=(__doc__ or "").splitlines()[0],
        quick="few rounds, of the smallest step alone",
        measure=measure_all,
        view=view,
        title=TITLE,
    )


if __name__ == "__main__":
    main()
