"""NaN and infinity, made only where they belong.

As constants they would stand in every graph, where ``tf.debugging.enable_check_numerics``
takes them for what its user looks for.
"""

from __future__ import annotations

import tensorflow as tf


def nan_where(condition: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """NaN where the condition holds, 0 elsewhere."""
    return tf.math.log(1 - 2 * tf.cast(condition, dtype))


def infinity_where(condition: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Infinity where the condition holds, 0 elsewhere."""
    return -tf.math.log(1 - tf.cast(condition, dtype))
