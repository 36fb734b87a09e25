"""A batch dealt out to replicas, and the one that a single device would have.

The joined batch has every replica's queries in order, then its documents: first the
positives of all, then the other documents of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss

from tests.support import oracle
from tests.support.cases import DTYPES, Array

D, K = 6, 5
# What belongs to a document, and so to the joined documents.
OF_DOCS = ("doc", "doc_ids", "doc_log_q")

Part = dict[str, Any]  # arguments of the loss, by name
Sizes = Sequence[tuple[int, int]]  # queries and documents of each replica


def random_part(sizes: tuple[int, int], dtype: str, replica: int) -> Part:
    """One replica's arguments, by name."""
    rows, docs = sizes
    random = np.random.default_rng([replica, rows, docs])
    real = np.float64 if dtype == "float64" else np.float32
    return {
        "query": random.normal(size=(rows, D)).astype(DTYPES[dtype]),
        "doc": random.normal(size=(docs, D)).astype(DTYPES[dtype]),
        "sample_weight": random.uniform(0.5, 2, rows).astype(real),
        "doc_log_q": np.log(random.uniform(0.01, 1, docs)).astype(real),
        "doc_ids": random.integers(0, 4, docs),
        "query_ids": random.integers(0, 3, rows).astype(np.int32),
    }


def numbers_of_docs(sizes: Sizes) -> list[Array]:
    """For each replica, where its documents stand in the joined batch."""
    numbers = []
    next_positive, next_other = 0, sum(rows for rows, _ in sizes)
    for rows, docs in sizes:
        others = docs - rows
        numbers.append(
            np.r_[
                next_positive : next_positive + rows, next_other : next_other + others
            ].astype(int)
        )
        next_positive, next_other = next_positive + rows, next_other + others
    return numbers


def own_first(sizes: Sizes, replica: int) -> Array:
    """The joined batch's documents in the order in which a replica gathers them."""
    numbers = numbers_of_docs(sizes)
    return np.concatenate(numbers[replica:] + numbers[:replica])


def join(parts: Sequence[Any], sizes: Sizes, of_docs: bool) -> Array:
    """The replicas' arrays as the joined batch's."""
    joined = np.concatenate([np.asarray(part) for part in parts])
    if not of_docs:
        return joined
    in_order = np.empty_like(joined)
    in_order[np.concatenate(numbers_of_docs(sizes))] = joined
    return in_order


def judge(
    parts: Sequence[Part], sizes: Sizes, table: Array, **options: Any
) -> oracle.Result:
    """The oracle's result for the joined batch."""
    joined: dict[str, Any] = {
        name: join([part[name] for part in parts], sizes, name in OF_DOCS)
        for name in parts[0]
    }
    query, doc = (joined.pop(name).astype(np.float64) for name in ("query", "doc"))
    return oracle.negative_cosine_loss(query, doc, table, **joined, **options)


def loss_and_gradients(tensors: dict[str, tf.Tensor], **options: Any) -> dict[str, Any]:
    """What a replica computes in ``Strategy.run``."""
    watched = {name: tensors[name] for name in ("query", "doc")}
    watched["temperature"] = tf.constant(0.7, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(watched)
        loss, stats = fused_negative_cosine_loss(
            **{**tensors, **watched}, return_stats=True, cross_replica=True, **options
        )
    gradients = tape.gradient(loss, watched)
    return {
        "loss": loss,
        **stats._asdict(),
        **{f"{n}_gradient": gradients[n] for n in gradients},
    }


def run_on_replicas(
    strategy: Any, parts: Sequence[Part], mode: str, **options: Any
) -> list[Part]:
    """Each local replica's results, by name."""

    def deal(name: str) -> Any:
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group][name])
        )

    def step(tensors: dict[str, Any]) -> Any:
        return strategy.run(loss_and_gradients, args=(tensors,), kwargs=options)

    if mode == "graph":
        step = tf.function(step, autograph=False, reduce_retracing=True)
    results = step({name: deal(name) for name in parts[0]})
    by_name = {
        name: strategy.experimental_local_results(value) for name, value in results.items()
    }
    count = len(by_name["loss"])
    return [
        {name: np.asarray(values[replica]) for name, values in by_name.items()}
        for replica in range(count)
    ]
