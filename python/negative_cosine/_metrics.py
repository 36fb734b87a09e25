"""What a training or evaluation run reports of its batches' statistics."""

from __future__ import annotations

import keras
import tensorflow as tf

from negative_cosine._statistics import NegativeCosineStats


def make_metrics(prefix: str, recall_at: tuple[int, ...]) -> dict[str, keras.Metric]:
    """The metrics by their names without the prefix, all at zero."""
    names = (
        "negative_cosine_loss",
        "in_batch_accuracy",
        *(f"recall_at_{k}" for k in recall_at),
        "positive_cosine",
        "dropped_share",
    )
    return {name: keras.metrics.Mean(name=prefix + name) for name in names}


def update_metrics(
    metrics: dict[str, keras.Metric],
    recall_at: tuple[int, ...],
    stats: NegativeCosineStats,
    num_candidates: tf.Tensor,
    sample_weight: tf.Tensor | None,
) -> None:
    """Adds a batch; ``num_candidates`` is what a row met before any was dropped.

    Rows count by their ``sample_weight``, but for the share of dropped candidates, which
    tells of the batches and not of the model.
    """

    def add(name: str, rows: tf.Tensor) -> None:
        metrics[name].update_state(rows, sample_weight)

    add("negative_cosine_loss", stats.row_loss)
    add("in_batch_accuracy", stats.positive_rank == 0)
    for k in recall_at:
        add(f"recall_at_{k}", stats.positive_rank < k)
    add("positive_cosine", stats.positive_cosine)
    num_candidates = tf.cast(num_candidates, tf.float32)
    dropped = num_candidates - tf.cast(stats.num_kept, tf.float32)
    metrics["dropped_share"].update_state(tf.math.divide_no_nan(dropped, num_candidates))
