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
from negative_cosine._runtime_checks import Check


@dataclass(frozen=True)
class TableSizes:
    """Sizes of a table of candidates, and checks of those that are not known yet.

    These are scalar int32 tensors, all others are ints.
    """

    batch_size: int | tf.Tensor
    num_candidates: int | tf.Tensor
    num_negatives: int | tf.Tensor
    checks: list[Check]


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
    checks = [_size_check(rows, docs)]
    rows, docs = tf.cast(rows, tf.int32), tf.cast(docs, tf.int32)
    if count is not None:
        checks += candidate_checks(sampler, count, docs, False, "num_candidates")
    # Among fewer documents than rows the sampler would look for a row's for ever.
    docs = tf.maximum(tf.maximum(docs, rows), 1)
    return TableSizes(rows, docs, docs - 1 if count is None else count, checks)


def _size_check(rows: int | tf.Tensor, docs: int | tf.Tensor) -> Check:
    """That the sizes are in their range, and the rows not more than the documents."""
    rows, docs = tf.cast(rows, tf.int64), tf.cast(docs, tf.int64)
    message = "0 <= batch_size <= num_candidates < 2**31 must hold, got batch_size and"
    return Check(
        tf.reduce_all([rows >= 0, docs >= rows, docs <= MOST]),
        [message, "num_candidates", rows, docs],
    )
