"""The masks of Keras that this package's layers take: one boolean for each row."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from negative_cosine._known_sizes import known_size


def check_mask(name: str, mask: Any, rows: tf.Tensor) -> tf.Tensor | None:
    """The mask as booleans, one for each of ``rows``; None for None."""
    if mask is None:
        return None
    tensor = tf.cast(mask, tf.bool)
    if tensor.shape.rank != 1 or not tensor.shape.is_compatible_with([known_size(rows, 0)]):
        raise ValueError(
            f"the mask of {name} must have one element for each row, got shape "
            f"{tensor.shape}; a layer that turns a sequence into one embedding must drop "
            "the mask or reduce it: let its compute_mask return None, or "
            "keras.ops.any(mask, axis=1)"
        )
    return tensor
