"""Checks of what only a running graph knows: an error there, and NaN under XLA.

XLA omits assertions. Where sizes do not fit, the result must then not look like a loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from negative_cosine._known_sizes import known_size
from negative_cosine._not_numbers import nan_where


@dataclass(frozen=True)
class Check:
    """A condition, and what to say and show where it does not hold."""

    holds: tf.Tensor
    data: list[Any]


def equal_size_checks(
    message: str, tensor: tf.Tensor, other: tf.Tensor, axis: int = 0
) -> list[Check]:
    """That both have one size, if that is not known. Their shapes follow the message."""
    size: int | None = known_size(tensor, axis)
    if size is not None and size == known_size(other, axis):
        return []
    shapes = tf.shape(tensor), tf.shape(other)
    return [Check(tf.equal(shapes[0][axis], shapes[1][axis]), [message, *shapes])]


def vector_checks(
    name: str, vector: tf.Tensor | None, owner: str, matrix: tf.Tensor
) -> list[Check]:
    """That a vector, if there is one, has an element for each row of ``owner``."""
    if vector is None:
        return []
    message = f"{name} must have one element for each row of {owner}, got shapes"
    return equal_size_checks(message, vector, matrix)


def asserted(checks: Sequence[Check]) -> AbstractContextManager[Any]:
    """A context whose ops run after the checks."""
    return tf.control_dependencies(
        [tf.debugging.Assert(check.holds, check.data) for check in checks]
    )


def all_hold(checks: Sequence[Check]) -> tf.Tensor:
    """Whether all of at least one check hold."""
    return tf.reduce_all([check.holds for check in checks])


def nan_unless_all_hold(checks: Sequence[Check], values: tf.Tensor) -> tf.Tensor:
    """The values, with their gradients; NaN, and gradients of NaN, if a check failed."""
    if not checks:
        return values
    return values * (1 + nan_where(~all_hold(checks), values.dtype))
