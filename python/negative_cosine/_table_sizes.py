"""The sizes that ``sample_negatives`` takes: checked now, or where a graph runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from negative_cosine._inputs import (
    MOST,
    candidate_checks,
    check_num_negatives,
    check_size,
)


@dataclass(frozen=True)
class TableSizes:
    """Sizes of a table of candidates, and assertions for those that are not known yet.

    These are scalar int32 tensors, all others are ints.
    """

    batch_size: int | tf.Tensor
    num_candidates: int | tf.Tensor
    num_negatives: int | tf.Tensor
    checks: list[Any]


def check_table_sizes(
    batch_size: Any, num_candidates: Any, num_negatives: Any, sampler: str
) -> TableSizes:
    """The public arguments; ``ValueError`` for what is wrong as far as it is known."""
    rows = check_size("batch_size", batch_size)
    docs = check_size("num_candidates", num_candidates)
    if isinstance(rows, int) and isinstance(docs, int):
        if docs < rows:
            raise ValueError(
                f"num_candidates must be at least batch_size = {rows}, got {docs}"
            )
        count = check_num_negatives(num_negatives, sampler, docs, "num_candidates")
        return TableSizes(rows, docs, max(docs - 1, 0) if count is None else count, [])
    count = check_num_negatives(num_negatives, sampler, None)
    checks = _size_checks(rows, docs)
    docs = tf.cast(docs, tf.int32)
    if count is None:
        return TableSizes(tf.cast(rows, tf.int32), docs, tf.maximum(docs - 1, 0), checks)
    checks += candidate_checks(sampler, count, docs, False, "num_candidates")
    return TableSizes(tf.cast(rows, tf.int32), docs, count, checks)


def _size_checks(rows: int | tf.Tensor, docs: int | tf.Tensor) -> list[Any]:
    """That the sizes are in their range and in order."""
    rows, docs = tf.cast(rows, tf.int64), tf.cast(docs, tf.int64)
    message = "0 <= batch_size <= num_candidates < 2**31 must hold, got batch_size and"
    in_order = tf.reduce_all([rows >= 0, docs >= rows, docs <= MOST])
    return [tf.debugging.Assert(in_order, [message, "num_candidates", rows, docs])]
