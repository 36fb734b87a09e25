"""A layer's loss of the joined batch, as Keras's trainer reads it on each replica.

The trainer divides what a layer adds by the number of replicas, N, and adds the replicas'
gradients up; it reports the mean of what they added, weighted by their rows. So each
replica adds the loss of the joined batch, which that mean leaves as it is, with N times
the gradient of its own share, of which the division leaves the share's.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from negative_cosine._inputs import num_replicas


@dataclass(frozen=True)
class JoinedBatch:
    """What a step's replicas have together; numbers are scalars of the loss's dtype."""

    share: tf.Tensor  # the sum of the replicas' shares of the loss, without a gradient
    docs: tf.Tensor
    rows: tf.Tensor
    counted: tf.Tensor  # the rows that no mask leaves out

    @classmethod
    def of(
        cls, share: tf.Tensor, query: tf.Tensor, doc: tf.Tensor, counts: tf.Tensor | None
    ) -> JoinedBatch:
        """Adds up what every replica gives; each has to call it."""
        rows = tf.shape(query)[0]
        counted = rows if counts is None else tf.math.count_nonzero(counts)
        sizes = [tf.cast(size, share.dtype) for size in (tf.shape(doc)[0], rows, counted)]
        own = tf.stack([tf.stop_gradient(share), *sizes])
        context = tf.distribute.get_replica_context()
        return cls(*tf.unstack(context.all_reduce(tf.distribute.ReduceOp.SUM, own)))


def joined_loss(share: tf.Tensor, joined: JoinedBatch) -> tf.Tensor:
    """The loss to add for this replica's share; a mean is over the rows that count."""
    factor = tf.math.divide_no_nan(joined.rows, joined.counted)
    return _with_gradient_of(share * factor, joined.share * factor)


@tf.custom_gradient
def _with_gradient_of(share: tf.Tensor, loss: tf.Tensor) -> tuple[tf.Tensor, object]:
    """``loss``, with the gradient of N shares; no difference, which infinity has not."""
    replicas = tf.cast(num_replicas(), share.dtype)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        return upstream * replicas, None

    return tf.identity(loss), gradient
