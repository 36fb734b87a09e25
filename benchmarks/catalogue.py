"""How long the ranks of queries among a whole catalogue take, and how much memory.

``retrieval_ranks`` beside what people write: one matrix of all scores, blocks of documents
whose best are merged by ``top_k``, and TensorFlow Recommenders' ``FactorizedTopK`` where
it is installed (``pip install --no-deps tensorflow-recommenders tf-keras``). All are given
the same rows of unit length and find the same recall@100, before they are timed. They run
interleaved after a warm-up; the peak is of a process of its own.

    python -m benchmarks.catalogue --output catalogue.csv
    python -m benchmarks.catalogue --quick
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from negative_cosine import retrieval_ranks

from benchmarks import cpu_steps, machine, peak_memory, report
from benchmarks.checks import WrongResultError
from benchmarks.cpu_steps import CPU, THREADS
from benchmarks.measurements import Row
from benchmarks.problem import Step
from benchmarks.rounds import Times, num_rounds, quartiles, run, time_rounds
from examples.peak_memory import fresh_process

K = 100
OURS = "retrieval_ranks"
BLOCK = 4096  # documents that the others score at once
LARGEST_MATRIX = 2**31  # bytes
LARGE = 1_000_000  # documents from which on the check is the warm-up of a single round
NO_LIMIT = 1e9  # seconds
RECOMMENDERS = "tensorflow_recommenders"
TITLE = "Ranks of queries among a whole catalogue on the CPU"


@dataclass(frozen=True)
class Sizes:
    """A number of queries and of documents, and their length."""

    queries: int
    docs: int
    dim: int = 64


USUAL = [Sizes(10_000, docs) for docs in (10_000, 100_000, LARGE)]
QUICK = USUAL[:1]
Rows = tuple[tf.Tensor, tf.Tensor, tf.Tensor]  # queries, positives and the catalogue
Recall = Callable[[], tf.Tensor]  # the share of ranks below K


@functools.lru_cache(maxsize=1)
def rows_of(sizes: Sizes) -> Rows:
    """Documents, and queries that are noisy pictures of one each, all of unit length."""
    random = np.random.default_rng(0)
    docs = random.standard_normal((sizes.docs, sizes.dim), np.float32)
    own = random.integers(sizes.docs, size=sizes.queries)
    noise = random.standard_normal((sizes.queries, sizes.dim), np.float32)
    unit = [tf.math.l2_normalize(x, axis=1) for x in (docs[own] + 2 * noise, docs)]
    return unit[0], tf.gather(unit[1], own), unit[1]


def recall(ranks: tf.Tensor) -> tf.Tensor:
    """The share of ranks below K."""
    return tf.reduce_mean(tf.cast(ranks < K, tf.float32))


def ours(rows: Rows) -> Recall:
    """This package's."""
    return lambda: recall(retrieval_ranks(*rows))


def matrix(rows: Rows) -> Recall:
    """Every score at once, compared with the positive's."""

    @tf.function(autograph=False)
    def run(query: tf.Tensor, positive: tf.Tensor, corpus: tf.Tensor) -> tf.Tensor:
        own = tf.reduce_sum(query * positive, axis=1, keepdims=True)
        scores = tf.matmul(query, corpus, transpose_b=True)
        above = tf.cast(scores > own + 1e-6, tf.float32)
        return recall(tf.reduce_sum(above, axis=1))

    return lambda: run(*rows)


def blocks_and_top_k(rows: Rows) -> Recall:
    """The best K so far, merged with those of each block."""

    @tf.function(autograph=False)
    def run(query: tf.Tensor, positive: tf.Tensor, corpus: tf.Tensor) -> tf.Tensor:
        docs = corpus.shape[0]

        def merge(start: tf.Tensor, best: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            block = corpus[start : start + BLOCK]
            scores = tf.matmul(query, block, transpose_b=True)
            found = tf.math.top_k(scores, tf.minimum(K, tf.shape(block)[0])).values
            best = tf.math.top_k(tf.concat([best, found], axis=1), K).values
            return start + BLOCK, best

        best = tf.fill([query.shape[0], K], query.dtype.min)
        _, best = tf.while_loop(
            lambda start, _: start < docs, merge, (0, best), parallel_iterations=1
        )
        own = tf.reduce_sum(query * positive, axis=1)
        return tf.reduce_mean(tf.cast(own + 1e-6 >= best[:, -1], tf.float32))

    return lambda: run(*rows)


def factorized_top_k(rows: Rows) -> Recall:
    """TensorFlow Recommenders' metric, of the catalogue as a dataset of blocks."""
    # Its metrics are of Keras 2, and it looks for that when it is imported.
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    from tensorflow_recommenders.metrics import FactorizedTopK

    query, positive, corpus = rows
    candidates = tf.data.Dataset.from_tensor_slices(corpus).batch(BLOCK)
    metric = FactorizedTopK(candidates, ks=(K,))

    def run() -> tf.Tensor:
        metric.reset_states()
        metric.update_state(query, positive)
        return metric.result()[0]

    return run


WAYS: dict[str, Callable[[Rows], Recall]] = {
    OURS: ours,
    "one matrix": matrix,
    "blocks and top_k": blocks_and_top_k,
    "FactorizedTopK": factorized_top_k,
}


def ways_of(sizes: Sizes) -> list[str]:
    """The ways that are installed, and whose memory is there."""
    names = list(WAYS)
    if 4 * sizes.queries * sizes.docs > LARGEST_MATRIX:
        names.remove("one matrix")
    if importlib.util.find_spec(RECOMMENDERS) is None:
        names.remove("FactorizedTopK")
    return names


def make_step(way: str, sizes: Sizes) -> Step:
    """A way as the measurements run it."""
    with tf.device(CPU):
        find = WAYS[way](rows_of(sizes))
    return Step(find, lambda found: found.numpy(), lambda found: [found.numpy()])


def check(steps: dict[str, Step]) -> None:
    """Raises ``WrongResultError`` where a way's recall is not that of the others."""
    recalls = {way: float(step.outputs(step.run())[0]) for way, step in steps.items()}
    for way, found in recalls.items():
        if abs(found - recalls[OURS]) > 1e-3:
            raise WrongResultError(f"{way} found recall@{K} {found}, not {recalls[OURS]}")


def growth_here(way: str, sizes: Sizes, threads: int) -> int:
    """The growth of this process's memory in a run after another."""
    peak_memory.limit_tensorflow(threads)
    return peak_memory.growth_of(make_step(way, sizes), warm_ups=1)


def peak_bytes(way: str, sizes: Sizes) -> int:
    """The same in a fresh process."""
    with fresh_process() as pool:
        return pool.submit(growth_here, way, sizes, THREADS).result()


def measure(sizes: Sizes, rounds: int) -> list[Row]:
    """A row for each way, all timed together."""
    steps = {way: make_step(way, sizes) for way in ways_of(sizes)}
    check(steps)
    if sizes.docs >= LARGE:
        times = {way: np.array([1e3 * run(step, 1)]) for way, step in steps.items()}
    else:
        times, _ = time_rounds(steps, rounds, 1, NO_LIMIT)
    found = [
        {
            "way": way,
            "queries": sizes.queries,
            "docs": sizes.docs,
            "dim": sizes.dim,
            **figures(times[way], times[OURS]),
        }
        for way in steps
    ]
    rows_of.cache_clear()
    for row in found:
        row["peak_bytes"] = peak_bytes(row["way"], sizes)
        row["recommenders"] = machine.version("tensorflow-recommenders")
    return found


def figures(times: Times, own: Times) -> Row:
    """The median and the quartiles of a way's time, and of its ratio to this package's."""
    lower, median, upper = quartiles(times)
    return {
        "seconds": median / 1e3,
        "seconds_q25": lower / 1e3,
        "seconds_q75": upper / 1e3,
        "ratio": float(np.nanmedian(times / own)),
        "rounds": num_rounds(times),
    }


def cell(row: report.Record) -> str:
    """Time, ratio and peak."""
    peak = report.digits(row["peak_bytes"] / 1e6)
    return f"{report.digits(row['seconds'])} ({report.times(row['ratio'])}), {peak}"


def view(results: Any) -> report.Table:
    """A row for each way, a column for each number of documents."""
    cells: dict[tuple[report.Names, str], str] = {
        ((row["way"],), f"N = {row['docs']:,}"): cell(row)
        for row in results.to_dict("records")
    }
    return report.cross_table(["seconds (ratio), peak in MB"], cells)


def measure_all(rounds: int, quick: bool) -> list[Row]:
    """Every size."""
    return [row for sizes in (QUICK if quick else USUAL) for row in measure(sizes, rounds)]


def main(words: Sequence[str] | None = None) -> None:
    """Measures, prints and, where asked to, writes a CSV."""
    cpu_steps.run(
        words,
        description=(__doc__ or "").splitlines()[0],
        quick=f"few rounds, and {QUICK[0].docs:,} documents alone",
        measure=measure_all,
        view=view,
        title=TITLE,
    )


if __name__ == "__main__":
    main()
