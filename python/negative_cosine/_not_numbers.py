"""NaN and infinity, computed only where a result has them.

As constants they would be in every graph, and ``tf.debugging.enable_check_numerics`` would
report them.
"""

from __future__ import annotations

import tensorflow as tf


def nan_where(condition: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """NaN where the condition holds, 0 elsewhere."""
    return tf.math.log(1 - 2 * tf.cast(condition, dtype))


def infinity_where(condition: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Infinity where the condition holds, 0 elsewhere."""
    return -tf.math.log(1 - tf.cast(condition, dtype))
