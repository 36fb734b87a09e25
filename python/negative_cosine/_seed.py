"""The seed: checked at once, or where a graph runs."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from negative_cosine._known_sizes import known_size
from negative_cosine._options import is_integer
from negative_cosine._runtime_checks import Check
from negative_cosine._sampler import fresh_seed
from negative_cosine._tensors import (
    INDEX_DTYPES,
    describe,
    has_booleans,
    how_to_cast,
    how_to_tell_the_rank,
    to_tensor,
)


def check_seed(seed: Any, name: str = "seed") -> tf.Tensor:
    """The seed as an int32 or int64 ``[2]`` tensor; a fresh one for None."""
    if seed is None:
        return fresh_seed()
    parts = seed if isinstance(seed, (list, tuple)) else [seed]
    # In a graph TensorFlow would silently wrap it around.
    if any(is_integer(part) and not -(2**63) <= part < 2**63 for part in parts):
        raise ValueError(f"{name} must be two integers of at most 64 bits, got {seed!r}")
    wanted = f"{name} must be two integers, int32 or int64 of shape [2], got"
    if has_booleans(seed):
        raise ValueError(f"{wanted} {seed!r}")
    is_tensor = isinstance(seed, tf.Tensor)  # no variable: its dtype may be a reference
    tensor = seed if is_tensor else to_tensor(name, seed, tf.int64, "safe")
    is_pair = tensor.shape.rank == 1 and tensor.shape.is_compatible_with([2])
    if tensor.dtype not in INDEX_DTYPES or not is_pair:
        raise ValueError(
            f"{wanted} {describe(tensor)}{how_to_cast(name, tensor.dtype)}"
            f"{how_to_tell_the_rank(name, tensor, '[2]')}"
        )
    return tensor


def seed_checks(seed: tf.Tensor | None) -> list[Check]:
    """The check for a seed whose length only the running graph knows."""
    if seed is None or known_size(seed, 0) is not None:
        return []
    shape = tf.shape(seed)
    message = "seed must be two integers, got shape"
    return [Check(tf.equal(shape[0], 2), [message, shape])]
