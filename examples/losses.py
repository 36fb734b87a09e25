"""The losses that the examples compare, on the embeddings of a batch of pairs.

Each is an object rather than a closure, so that it can be sent to a process of its own
where its memory is measured.
"""

from __future__ import annotations

import examples.quiet_tensorflow  # noqa: F401 (before TensorFlow)

# isort: split
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import tensorflow as tf
from negative_cosine import NegativeCosineLayer, fused_negative_cosine_loss

Batch = Mapping[str, tf.Tensor]  # the inputs of a batch of pairs

SCALE = 20.0  # of the logits, as this package has by default


class LossFunction(Protocol):
    """A loss of a batch."""

    def __call__(
        self,
        query: tf.Tensor,
        doc: tf.Tensor,
        batch: Batch,
        sample_weight: tf.Tensor | None,
    ) -> tf.Tensor:
        """A scalar, from ``query`` and ``doc`` ``[B, D]`` and weights ``[B]`` or None."""


@dataclass(frozen=True)
class ThisLoss:
    """This package's. ``columns`` names the batch's columns that become arguments."""

    num_negatives: int | None
    columns: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(
        self,
        query: tf.Tensor,
        doc: tf.Tensor,
        batch: Batch,
        sample_weight: tf.Tensor | None,
    ) -> tf.Tensor:
        """The mean of the rows' losses."""
        return fused_negative_cosine_loss(
            query,
            doc,
            self.num_negatives,
            sample_weight=sample_weight,
            **{argument: batch[column] for argument, column in self.columns.items()},
            **self.options,
        )


@dataclass(frozen=True)
class InBatchSoftmax:
    """What TensorFlow's users write: a ``[B, B]`` product, every other document a negative.

    ``ids`` name the batch's columns in which two rows that are no negatives of each other
    are equal, and ``log_q`` the one by which the logits are corrected.
    """

    margin: float = 0.0
    ids: Sequence[str] = ()
    log_q: str | None = None

    def __call__(
        self,
        query: tf.Tensor,
        doc: tf.Tensor,
        batch: Batch,
        sample_weight: tf.Tensor | None,
    ) -> tf.Tensor:
        """The mean of the rows' losses."""
        refuse(sample_weight)
        query = tf.math.l2_normalize(query, axis=1)
        doc = tf.math.l2_normalize(doc, axis=1)
        logits = SCALE * tf.matmul(query, doc, transpose_b=True)
        if self.margin:
            logits -= SCALE * self.margin * tf.eye(tf.shape(query)[0])
        if self.log_q:
            logits -= batch[self.log_q]
        for ids in (batch[column] for column in self.ids):
            same = tf.cast(ids[:, None] == ids, tf.float32)
            logits -= 1e9 * tf.linalg.set_diag(same, tf.zeros_like(query[:, 0]))
        return tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=tf.range(tf.shape(query)[0]), logits=logits
            )
        )


@dataclass(frozen=True)
class Unweighted:
    """A loss of the embeddings alone."""

    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

    def __call__(
        self,
        query: tf.Tensor,
        doc: tf.Tensor,
        batch: Batch,
        sample_weight: tf.Tensor | None,
    ) -> tf.Tensor:
        """What the loss says of them."""
        refuse(sample_weight)
        return self.loss(query, doc)


def printed_loss(num_negatives: int) -> Unweighted:
    """The article's, as it is printed there: its softmax never sees the negatives."""
    return Unweighted(functools.partial(_printed, num_negatives))


def _printed(num_negatives: int, query: tf.Tensor, doc: tf.Tensor) -> tf.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of just what is shown here
        layer = NegativeCosineLayer(num_negatives, 1.0)
    return layer([query, doc])[0]


def refuse(sample_weight: tf.Tensor | None) -> None:
    """For a loss that knows no weights: says so where Keras hands it some."""
    if sample_weight is not None:
        raise ValueError(
            "this loss takes no sample_weight; leave it out, or train with the loss of "
            "this package"
        )
