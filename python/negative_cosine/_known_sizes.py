"""The sizes of a tensor that are known before a graph runs."""

from __future__ import annotations

import tensorflow as tf


def known_size(tensor: tf.Tensor, axis: int) -> int | None:
    """The size of one axis, or None where only the running graph knows it.

    ``tensor.shape[axis]`` is that too, but not everywhere: after
    ``tf.compat.v1.disable_v2_tensorshape()`` it is a ``Dimension``, never None, and a
    comparison with an unknown one is None.
    """
    size: int | None = tf.compat.dimension_value(tensor.shape[axis])
    return size


def all_known(*sizes: int | None) -> bool:
    """Whether none of them is None."""
    return None not in sizes
