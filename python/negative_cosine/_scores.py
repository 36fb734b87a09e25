"""Scores of queries and documents: cosines or inner products, as products of rows.

A document that equals the positive must have the positive's score. Two products of equal
rows may differ in their last digits, since TensorFlow adds up a matrix's rows in orders
that depend on its size. So scores count as equal within the rounding of a product, as they
do in ``_reference.py``.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from negative_cosine._unit_rows import unit_rows

SIMILARITIES = ("cosine", "dot")

# Rows in a product that the positives' scores are the diagonals of.
_PAIRS = 64
# Of a sum of D products: its rounding grows with the root of D, and is not below this.
_LEAST_ROUNDING = 4.0


def scored_rows(rows: tf.Tensor, similarity: str, dtype: tf.DType) -> tf.Tensor:
    """Rows whose products are the scores; of NaN where a row holds NaN or infinity."""
    if similarity == "cosine":
        unit = unit_rows(rows, dtype)
        return unit.rows + unit.nan[:, tf.newaxis]
    rows = tf.cast(rows, dtype)
    return rows + tf.reduce_sum(rows - rows, axis=1, keepdims=True)


def every_score(query: tf.Tensor, doc: tf.Tensor) -> tf.Tensor:
    """``[B, n]`` scores of rows that ``scored_rows`` made."""
    return tf.matmul(query, doc, transpose_b=True)


def pair_scores(query: tf.Tensor, positive: tf.Tensor) -> tf.Tensor:
    """``[B]``: the score of each query and its own document.

    By products of matrices too: a GPU may round their elements to ten bits, and then must
    round these alike.
    """
    count, columns = tf.shape(query)[0], tf.shape(query)[1]
    padding = [[0, -count % _PAIRS], [0, 0]]
    query, positive = (
        tf.reshape(tf.pad(rows, padding), [-1, _PAIRS, columns])
        for rows in (query, positive)
    )
    diagonals = tf.linalg.diag_part(tf.matmul(query, positive, transpose_b=True))
    return tf.reshape(diagonals, [-1])[:count]


def highest_equal(query: tf.Tensor, positive: tf.Tensor) -> tf.Tensor:
    """``[B]``: up to which score a document ranks no higher than the positive.

    NaN where the positive's score is none, so that no comparison with it holds.
    """
    return pair_scores(query, positive) + _rounding(query, positive)


def lowest_equal(query: tf.Tensor, positive: tf.Tensor) -> tf.Tensor:
    """``[B]``: from which score on a document ranks no lower than the positive."""
    return pair_scores(query, positive) - _rounding(query, positive)


def _rounding(query: tf.Tensor, positive: tf.Tensor) -> tf.Tensor:
    """What two products of equal rows may differ by.

    NaN where the products are beyond the largest number.
    """
    sizes = tf.reduce_sum(tf.abs(query * positive), axis=1)
    columns = tf.cast(tf.shape(query)[1], sizes.dtype)
    last_place = float(np.finfo(query.dtype.as_numpy_dtype).eps)
    rounding = tf.maximum(tf.sqrt(columns), _LEAST_ROUNDING) * last_place * sizes
    return rounding + (sizes - sizes)
