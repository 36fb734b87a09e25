"""Checks of values that are never right, for the reference.

The native op does the same for itself, in ``csrc/cpu/candidates/``.
"""

from __future__ import annotations

import tensorflow as tf

from negative_cosine._inputs import LossInputs
from negative_cosine._row_inputs import HOW_TO_PAD
from negative_cosine._runtime_checks import Check


def value_checks(inputs: LossInputs) -> list[Check]:
    """For values that are never right.

    XLA omits them. There an index outside ``[0, C)`` is dropped and never read, as on a
    GPU, and the loss of a wrong logQ is infinite.
    """
    checks = []
    if inputs.negative_indices is not None:
        checks.append(_index_check(inputs.negative_indices, tf.shape(inputs.doc)[0]))
    if inputs.doc_log_q is not None:
        checks.append(_log_q_check(inputs.doc_log_q))
    return checks


def _index_check(table: tf.Tensor, docs: tf.Tensor) -> Check:
    bad = tf.logical_or(table < 0, table >= tf.cast(docs, table.dtype))
    first = _first_true(tf.reshape(bad, [-1]))
    columns = tf.cast(tf.maximum(tf.shape(table)[1], 1), first.dtype)
    return Check(
        tf.logical_not(tf.reduce_any(bad)),
        [
            "negative_indices must be in [0, C), the row numbers of doc; got C, value, "
            "position",
            docs,
            _value_at(first, tf.reshape(table, [-1])),
            first // columns,
            first % columns,
            HOW_TO_PAD,
        ],
    )


def _log_q_check(log_q: tf.Tensor) -> Check:
    is_right = log_q >= log_q.dtype.min
    position = _first_true(~is_right)
    return Check(
        tf.reduce_all(is_right),
        [
            "doc_log_q must be finite, or infinity for a document that is never a "
            "candidate; got value, position",
            _value_at(position, log_q),
            position,
            "minus infinity is log(0): estimate every probability above 0",
        ],
    )


def _first_true(conditions: tf.Tensor) -> tf.Tensor:
    """The position of the first that holds; the number of them where none does."""
    return tf.argmax(tf.cast(tf.concat([conditions, [True]], axis=0), tf.int32))


def _value_at(position: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The value at a position, ``[1]``; 0 for the position after the last.

    Not by a slice: XLA needs its ends when it compiles, and would compile again for each
    new position.
    """
    padded = tf.concat([values, tf.zeros([1], values.dtype)], axis=0)
    return tf.gather(padded, position[tf.newaxis])
