"""Writes rows of a Keras weight in place, where the weight is a variable."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def write_rows(weight: Any, indices: tf.Tensor, rows: tf.Tensor) -> None:
    """``weight[indices] = rows``; rows of equal index must be equal.

    While Keras infers shapes or calls a model statelessly, a weight is a tensor: it then
    records a changed copy. Under a parameter server's partitioner it is a ShardedVariable,
    which is no ``tf.Variable``: a changed copy would undo what other workers write.
    """
    stored = weight.value
    if hasattr(stored, "scatter_update"):
        stored.scatter_update(tf.IndexedSlices(rows, indices))
    else:
        weight.assign(tf.tensor_scatter_nd_update(stored, indices[:, tf.newaxis], rows))
