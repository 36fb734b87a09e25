"""What a pass returns besides the loss (docs/semantics.md, "Statistics")."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class NegativeCosineStats(NamedTuple):
    """Statistics of each row of a batch; no gradient flows through them.

    In-batch accuracy is ``mean(positive_rank == 0)``, recall@k ``mean(positive_rank < k)``,
    each over the rows that kept at least one candidate, or k of them: among fewer
    candidates every positive is a hit.

    Example:
        >>> from negative_cosine import fused_negative_cosine_loss
        >>> query, doc = [[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [1.0, -0.1]]
        >>> loss, stats = fused_negative_cosine_loss(
        ...     query, doc, sampler="all", return_stats=True
        ... )
        >>> stats.positive_rank.numpy().tolist()
        [0, 1]

    Attributes:
        row_loss: ``[B]``, the row's loss before ``sample_weight`` and ``reduction``.
        positive_cosine: ``[B]``, the cosine of the query and its own document.
        num_kept: int32 ``[B]``, the candidates that were not dropped.
        positive_rank: int32 ``[B]``, the kept candidates with a larger logit than the
            positive's. NaN counts as larger, so that it is never a hit.
    """

    row_loss: tf.Tensor
    positive_cosine: tf.Tensor
    num_kept: tf.Tensor
    positive_rank: tf.Tensor
