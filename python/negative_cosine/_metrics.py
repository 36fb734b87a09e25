"""What a training or evaluation run reports of its batches' statistics."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from negative_cosine._keras_environment import keras
from negative_cosine._statistics import NegativeCosineStats


def make_metrics(prefix: str, recall_at: tuple[int, ...]) -> dict[str, keras.Metric]:
    """The metrics by their names without the prefix, before any batch."""
    names = (
        "negative_cosine_loss",
        "in_batch_accuracy",
        *(f"recall_at_{k}" for k in recall_at),
        "positive_cosine",
    )
    metrics = {name: _MeanOrNaN(name=prefix + name) for name in names}
    share = keras.metrics.Mean(name=prefix + "dropped_share")
    return {**metrics, "dropped_share": share}


def update_metrics(
    metrics: dict[str, keras.Metric],
    recall_at: tuple[int, ...],
    stats: NegativeCosineStats,
    num_candidates: tf.Tensor,
    sample_weight: tf.Tensor | None,
) -> None:
    """Adds a batch; ``num_candidates`` is what a row met before any was dropped.

    Rows count by their ``sample_weight``, except in the share of dropped candidates, which
    describes the batches and not the model. Among fewer than k candidates every positive
    is one of the first k: such a row does not count for the recall at k.
    """
    loss = stats.row_loss
    given = sample_weight is not None
    weight = tf.cast(sample_weight, loss.dtype) if given else tf.ones_like(loss)

    def add(name: str, rows: tf.Tensor, num_kept_at_least: int = 0) -> None:
        counts = tf.not_equal(weight, 0) & (stats.num_kept >= num_kept_at_least)
        # Not by a product: 0 * NaN is NaN, and a row of weight 0 may hold anything.
        own_weight = tf.where(counts, weight, tf.zeros_like(weight))
        metrics[name].update_state(tf.where(counts, rows, tf.zeros_like(rows)), own_weight)

    def add_share_ranked_below(k: int, name: str) -> None:
        is_below = tf.cast(stats.positive_rank < k, loss.dtype)
        # No comparison with NaN is true: a row without a loss would have the best rank.
        add(name, tf.where(tf.math.is_nan(loss), loss, is_below), num_kept_at_least=k)

    add("negative_cosine_loss", loss)
    add_share_ranked_below(1, "in_batch_accuracy")
    for k in recall_at:
        add_share_ranked_below(k, f"recall_at_{k}")
    add("positive_cosine", stats.positive_cosine)
    num_candidates = tf.cast(num_candidates, tf.float32)
    dropped = num_candidates - tf.cast(stats.num_kept, tf.float32)
    metrics["dropped_share"].update_state(tf.math.divide_no_nan(dropped, num_candidates))


class _MeanOrNaN(keras.metrics.Mean):
    """A mean that is NaN where nothing was counted.

    Keras's is 0 there, which reads as what was measured: as the worst recall, or as a loss
    that nothing can lower.
    """

    def result(self) -> Any:
        """The mean so far."""
        return self.total.value / self.count.value
