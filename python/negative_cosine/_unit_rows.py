"""Rows at unit length, in plain TensorFlow: the one formula for what has no direction.

The native op does the same for itself, in ``csrc/core/norms.h``.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from negative_cosine._not_numbers import nan_where

_SMALLEST_NORM = 1e-12


class UnitRows(NamedTuple):
    """Rows at unit length; zeros for a row without direction, and for one of NaN."""

    rows: tf.Tensor  # [n, D], finite
    nan: tf.Tensor  # [n]: NaN for a row that holds NaN or infinity, 0 for any other


def unit_rows(rows: tf.Tensor, dtype: tf.DType) -> UnitRows:
    """Rows at unit length; a row without direction becomes zero, with a zero gradient.

    That is one of norm <= 1e-12, and as in the native op, where a product with it could
    overflow, one of a norm above half the largest number. The division by the largest
    element keeps the squares in range; it cancels, so it has no gradient.
    """
    rows = tf.cast(rows, dtype)
    is_finite = tf.math.is_finite(rows)
    is_nan = ~tf.reduce_all(is_finite, axis=1)
    # The row's own elements, so that it has a gradient of NaN where it is used.
    nan = tf.reduce_sum(tf.where(is_finite, tf.zeros_like(rows), rows), axis=1)
    rows = tf.where(is_nan[:, tf.newaxis], tf.zeros_like(rows), rows)
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(rows), axis=1, keepdims=True))
    safe_largest = tf.where(largest > 0, largest, tf.ones_like(largest))
    scaled = rows / safe_largest
    square = tf.reduce_sum(tf.square(scaled), axis=1, keepdims=True)
    is_short = largest * tf.sqrt(square) <= _SMALLEST_NORM
    is_zero = is_short | (largest / rows.dtype.max * tf.sqrt(square) > 0.5)
    safe_square = tf.where(is_zero, tf.ones_like(square), square)
    unit = tf.where(is_zero, tf.zeros_like(rows), scaled * tf.math.rsqrt(safe_square))
    return UnitRows(unit, nan + nan_where(is_nan, nan.dtype))
