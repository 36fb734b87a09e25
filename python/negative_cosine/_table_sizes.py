"""The sizes that ``sample_negatives`` takes: checked now, or where a graph runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from negative_cosine._num_negatives import candidate_checks, check_num_negatives
from negative_cosine._options import MOST, is_integer, without_array
from negative_cosine._runtime_checks import Check
from negative_cosine._tensors import (
    INDEX_DTYPES,
    how_to_tell_the_rank,
    is_tensor,
    to_tensor,
)


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
    rows = _check_size("batch_size", batch_size)
    docs = _check_size("num_candidates", num_candidates)
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
    # With fewer documents than rows the sampler would never find a row's document.
    docs = tf.maximum(tf.maximum(docs, rows), 1)
    return TableSizes(rows, docs, docs - 1 if count is None else count, checks)


def _check_size(name: str, value: Any) -> int | tf.Tensor:
    """A size: an int where its value is known, else a scalar int32 or int64 tensor."""
    hint = ""
    size = without_array(value)
    if is_tensor(value):
        tensor = to_tensor(name, value)
        hint = how_to_tell_the_rank(name, tensor, "[]")
        if tensor.dtype in INDEX_DTYPES and tensor.shape.rank == 0:
            size = without_array(tf.get_static_value(tensor))
            if size is None:
                return tensor
    if not is_integer(size) or not 0 <= size <= MOST:
        raise ValueError(
            f"{name} must be an integer in [0, 2**31), or a scalar int32 or int64 tensor "
            f"with such a value, got {value!r}{hint}"
        )
    return int(size)


def _size_check(rows: int | tf.Tensor, docs: int | tf.Tensor) -> Check:
    """That the sizes are in their range, and the rows not more than the documents."""
    rows, docs = tf.cast(rows, tf.int64), tf.cast(docs, tf.int64)
    message = "0 <= batch_size <= num_candidates < 2**31 must hold, got batch_size and"
    return Check(
        tf.reduce_all([rows >= 0, docs >= rows, docs <= MOST]),
        [message, "num_candidates", rows, docs],
    )
