"""In a graph that does not know its sizes they are checked before anything needs them.

TensorFlow runs ops in any order that their inputs allow, and reports the first that fails:
an op beside a check would sometimes fail before it, with words of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf
from negative_cosine import (
    hardest_negatives,
    reference_negative_cosine_loss,
    retrieval_ranks,
    sample_negatives,
    top_documents,
)

FLOATS, IDS = tf.float32, tf.int64
REDUCTIONS = {"All", "Any"}  # their second tensor holds axes


def of_unknown_sizes(dtype: tf.DType, rank: int) -> tf.TensorSpec:
    return tf.TensorSpec([None] * rank, dtype)


CATALOGUE = {
    "query": of_unknown_sizes(FLOATS, 2),
    "corpus": of_unknown_sizes(FLOATS, 2),
    "corpus_ids": of_unknown_sizes(IDS, 1),
    "excluded_ids": of_unknown_sizes(IDS, 2),
}
BATCH = {
    "query": of_unknown_sizes(FLOATS, 2),
    "doc": of_unknown_sizes(FLOATS, 2),
    "doc_ids": of_unknown_sizes(IDS, 1),
    "query_ids": of_unknown_sizes(IDS, 1),
    "doc_log_q": of_unknown_sizes(FLOATS, 1),
    "scale": of_unknown_sizes(FLOATS, 0),
}
WEIGHTED = {**BATCH, "sample_weight": of_unknown_sizes(FLOATS, 1)}
SEED = {"seed": of_unknown_sizes(IDS, 1)}


def loss(sampler: str) -> Callable[..., Any]:
    return functools.partial(
        reference_negative_cosine_loss,
        num_negatives=None if sampler == "all" else 3,
        sampler=sampler,
    )


CALLS: dict[str, tuple[Callable[..., Any], dict[str, tf.TensorSpec]]] = {
    "retrieval_ranks": (
        retrieval_ranks,
        {
            **CATALOGUE,
            "positive": of_unknown_sizes(FLOATS, 2),
            "positive_ids": of_unknown_sizes(IDS, 1),
        },
    ),
    "top_documents": (functools.partial(top_documents, k=3), CATALOGUE),
    "hardest_negatives": (functools.partial(hardest_negatives, k=3), BATCH),
    "shuffle": (loss("shuffle"), {**WEIGHTED, **SEED}),
    "ring": (loss("ring"), {**WEIGHTED, **SEED}),
    "all": (loss("all"), WEIGHTED),
    "negative_indices": (
        reference_negative_cosine_loss,
        {**WEIGHTED, "negative_indices": of_unknown_sizes(IDS, 2)},
    ),
    "sample_negatives": (
        functools.partial(sample_negatives, num_negatives=3),
        {
            "batch_size": of_unknown_sizes(IDS, 0),
            "num_candidates": of_unknown_sizes(IDS, 0),
            **SEED,
        },
    ),
}


def upstream_of(op: tf.Operation) -> set[tf.Operation]:
    """All ops that must have run before."""
    seen: set[tf.Operation] = set()
    waiting = [op]
    while waiting:
        last = waiting.pop()
        before = {*(tensor.op for tensor in last.inputs), *last.control_inputs} - seen
        seen |= before
        waiting += before
    return seen


def is_size_check(op: tf.Operation) -> bool:
    is_check = op.type == "Assert" or "AssertGuard" in op.name
    return is_check and any(before.type == "Shape" for before in upstream_of(op))


def can_fail_by_size(op: tf.Operation) -> bool:
    """Whether it joins several computed tensors that are no scalars."""
    computed = [x for x in op.inputs if x.op.type != "Const" and x.shape.rank != 0]
    return len(computed) > 1 and op.type not in REDUCTIONS


@pytest.mark.parametrize("name", CALLS)
def test_ops_that_sizes_can_break_run_after_the_checks_of_sizes(name: str) -> None:
    call, specs = CALLS[name]
    function = tf.function(lambda arguments: call(**arguments), autograph=False)
    ops = function.get_concrete_function(specs).graph.get_operations()
    checks = {op for op in ops if is_size_check(op)}
    assert checks
    for_the_checks = checks.union(*map(upstream_of, checks))
    too_early = [
        op.name
        for op in ops
        if op not in for_the_checks
        and can_fail_by_size(op)
        and not checks <= upstream_of(op)
    ]
    assert not too_early
