"""Times a training step (loss and both gradients) of this loss against what it replaces.

All ways run in one process after a warm-up, interleaved: in each round each way takes a
few steps in a row, as training does, so that a change in the machine's speed meets all
of them. The table gives the median and the 20% and 80% quantiles of the rounds; the CSV
also says what it ran on.

    python -m benchmarks.training_step --output benchmarks/results/training_step.csv
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf
from negative_cosine import _core, fused_negative_cosine_loss
from tqdm import tqdm

from benchmarks.baselines import article_loss, in_batch_softmax_loss, vectorised_loss
from benchmarks.tables import print_table

Step = Callable[[], object]


def fused_loss(query: tf.Tensor, doc: tf.Tensor, num_negatives: int) -> tf.Tensor:
    """This package's loss, seed and sampling included."""
    return fused_negative_cosine_loss(query, doc, num_negatives, implementation="native")


def reference_loss(query: tf.Tensor, doc: tf.Tensor, num_negatives: int) -> tf.Tensor:
    """This package's reference."""
    return fused_negative_cosine_loss(query, doc, num_negatives, implementation="reference")


WAYS = {
    "fused": (fused_loss, False),
    "fused, loss only": (fused_loss, False),
    "article's code, right axis": (article_loss, False),
    "article's code, right axis, XLA": (article_loss, True),
    "vectorised TensorFlow": (vectorised_loss, False),
    "vectorised TensorFlow, XLA": (vectorised_loss, True),
    "full in-batch softmax": (in_batch_softmax_loss, False),
    "reference": (reference_loss, False),
}


COLUMNS = ("way", "median, ms", "20%..80%, ms", "times the fused")


def make_step(name: str, arguments: argparse.Namespace) -> Step:
    """A step on data that stays where it is: only the loss and its gradients run."""
    loss_function, jit = WAYS[name]
    random = np.random.default_rng(0)
    shape = (arguments.batch_size, arguments.dim)
    query = tf.constant(random.normal(size=shape), arguments.dtype)
    doc = tf.constant(random.normal(size=shape), arguments.dtype)

    @tf.function(jit_compile=jit, autograph=False)
    def step(query: tf.Tensor, doc: tf.Tensor) -> object:
        if name.endswith("loss only"):
            return loss_function(query, doc, arguments.num_negatives)
        with tf.GradientTape() as tape:
            tape.watch([query, doc])
            loss = loss_function(query, doc, arguments.num_negatives)
        return loss, tape.gradient(loss, [query, doc])

    return lambda: step(query, doc)


def measure(arguments: argparse.Namespace) -> pd.DataFrame:
    """One row a way: its median and quantiles in milliseconds."""
    steps = {name: make_step(name, arguments) for name in arguments.ways or WAYS}
    milliseconds: dict[str, list[float]] = {name: [] for name in steps}
    for step in tqdm(steps.values(), desc="warm-up", leave=False):
        for _ in range(3):
            step()
    for _ in tqdm(range(arguments.rounds), desc="rounds", leave=False):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(arguments.steps):
                step()
            elapsed = time.perf_counter() - start
            milliseconds[name].append(1e3 * elapsed / arguments.steps)
    fused = np.array(milliseconds["fused"])
    return pd.DataFrame(
        {
            "way": name,
            "batch_size": arguments.batch_size,
            "num_negatives": arguments.num_negatives,
            "dim": arguments.dim,
            "dtype": arguments.dtype,
            "median_ms": np.median(times),
            "q20_ms": np.quantile(times, 0.2),
            "q80_ms": np.quantile(times, 0.8),
            "times_the_fused": np.median(np.array(times) / fused),
            "rounds": arguments.rounds,
            "steps_a_round": arguments.steps,
            "threads": arguments.threads,
            "cpu_kernels": _core.instruction_set(),
            "tensorflow": tf.__version__,
        }
        for name, times in milliseconds.items()
    )


def show(results: pd.DataFrame) -> None:
    """Prints the table."""
    first = results.iloc[0]
    title = (
        f"Training step, B={first.batch_size}, K={first.num_negatives}, "
        f"D={first.dim}, {first['dtype']}, {first.threads} threads, {first.cpu_kernels}"
    )
    print_table(title, COLUMNS, map(cells, results.to_dict("records")))


def cells(row: Mapping[Any, Any]) -> list[str]:
    """A row of results as the table shows it."""
    spread = f"{row['q20_ms']:.2f}..{row['q80_ms']:.2f}"
    times = f"{row['times_the_fused']:.1f}"
    return [row["way"], f"{row['median_ms']:.2f}", spread, times]


def main() -> None:
    """Measures, prints and, with --output, writes a CSV."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--num-negatives", type=int, default=20)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=5, help="of each way in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ways", nargs="*", choices=list(WAYS), metavar="WAY")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.ways and "fused" not in arguments.ways:
        parser.error("--ways must include 'fused', which the others are compared with")
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    results = measure(arguments)
    show(results)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        results.to_csv(arguments.output, index=False)


if __name__ == "__main__":
    main()
