"""What the "before" sides of docs/migration.md import: formulas in plain TensorFlow.

None of the libraries is installed for the tests. What is here has the public name and the
arguments of what it stands in for, and the formula that its source computes, dense and
without tricks: TensorFlow Recommenders of January 2026 (commit cf1dafa),
sentence-transformers 5.2.0.dev0 (commit 85ec645), whose two losses compute what they
computed in 2.2 to 5.1, and EasyRec (commit 0391ffa). Nothing here is shared with the
package under test.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

HIT = np.finfo(np.float32).min / 100  # added to, or put in place of, a masked logit


class Retrieval:
    """``tensorflow_recommenders.tasks.Retrieval``: a softmax over inner products."""

    def __init__(
        self,
        *,
        temperature: float | None = None,
        num_hard_negatives: int | None = None,
        remove_accidental_hits: bool = False,
        batch_metrics: Sequence[Any] = (),
    ) -> None:
        self.temperature = temperature
        self.num_hard_negatives = num_hard_negatives
        self.remove_accidental_hits = remove_accidental_hits
        self.batch_metrics = batch_metrics

    def __call__(
        self,
        query_embeddings: tf.Tensor,
        candidate_embeddings: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
        candidate_sampling_probability: tf.Tensor | None = None,
        candidate_ids: tf.Tensor | None = None,
        score_mask: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The cross-entropy of each row, summed over the batch."""
        logits = tf.einsum("bd,cd->bc", query_embeddings, candidate_embeddings)
        if self.temperature is not None:
            logits /= self.temperature
        if candidate_sampling_probability is not None:
            logits -= tf.math.log(tf.clip_by_value(candidate_sampling_probability, 1e-6, 1))
        is_own = tf.eye(*logits.shape, dtype=tf.bool)
        if self.remove_accidental_hits:
            assert candidate_ids is not None
            own_id = candidate_ids[: logits.shape[0], None]
            is_hit = (candidate_ids[None, :] == own_id) & ~is_own
            logits += tf.where(is_hit, tf.cast(HIT, logits.dtype), 0)
        if score_mask is not None:
            logits = tf.where(score_mask, logits, tf.cast(HIT, logits.dtype))
        own = logits[is_own]
        others = tf.reshape(logits[~is_own], [logits.shape[0], logits.shape[1] - 1])
        if self.num_hard_negatives is not None:
            count = min(self.num_hard_negatives, others.shape[1])
            others = tf.math.top_k(others, count).values
        logits = tf.concat([own[:, None], others], axis=1)
        for metric in self.batch_metrics:
            is_first = tf.one_hot(tf.zeros_like(own, tf.int32), logits.shape[1])
            # Keras's top-k metrics take float32 alone.
            scores = tf.cast(logits, tf.float32)
            metric.update_state(is_first, scores, sample_weight=sample_weight)
        return tf.reduce_sum(weighted(cross_entropy(logits, own), sample_weight))


class MultipleNegativesRankingLoss:
    """``sentence_transformers.losses.MultipleNegativesRankingLoss``."""

    def __init__(self, model: Any, scale: float = 20.0) -> None:
        self.scale = scale

    def compute_loss_from_embeddings(
        self, embeddings: Sequence[tf.Tensor], labels: None
    ) -> tf.Tensor:
        """Each anchor's cross-entropy over all positives and all negatives."""
        anchors, *candidates = embeddings
        logits = self.scale * cosines(anchors, tf.concat(candidates, axis=0))
        return tf.reduce_mean(cross_entropy(logits, tf.linalg.diag_part(logits)))


class MultipleNegativesSymmetricRankingLoss(MultipleNegativesRankingLoss):
    """``sentence_transformers.losses.MultipleNegativesSymmetricRankingLoss``."""

    def compute_loss_from_embeddings(
        self, embeddings: Sequence[tf.Tensor], labels: None
    ) -> tf.Tensor:
        """The mean of both directions; negatives enter the first."""
        anchors, positives, *_ = embeddings
        forward = super().compute_loss_from_embeddings(embeddings, labels)
        logits = self.scale * cosines(positives, anchors)
        backward = tf.reduce_mean(cross_entropy(logits, tf.linalg.diag_part(logits)))
        return (forward + backward) / 2


def softmax_loss_with_negative_mining(
    user_emb: tf.Tensor,
    item_emb: tf.Tensor,
    labels: tf.Tensor,
    num_negative_samples: int = 4,
    gamma: float = 1.0,
    margin: float = 0.0,
) -> tf.Tensor:
    """EasyRec's: the negatives of all rows are as many places away, at random."""
    rows = len(user_emb)
    candidates = [item_emb]
    for _ in range(num_negative_samples):
        shift = tf.random.uniform([], 1, rows, tf.int32)
        candidates.append(tf.roll(item_emb, shift, axis=0))
    logits = [tf.linalg.diag_part(cosines(user_emb, docs)) for docs in candidates]
    logits[0] -= margin
    losses = cross_entropy(gamma * tf.stack(logits, axis=1), gamma * logits[0])
    return tf.reduce_mean(losses[labels > 0])


def cosines(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Each row of ``left`` with each of ``right``."""
    norms = tf.norm(left, axis=1)[:, None] * tf.norm(right, axis=1)[None, :]
    return tf.einsum("bd,cd->bc", left, right) / norms


def cross_entropy(logits: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
    """Minus the log of the share of each row's own logit."""
    return tf.reduce_logsumexp(logits, axis=1) - own


def weighted(losses: tf.Tensor, weight: tf.Tensor | None) -> tf.Tensor:
    """The losses of a weighted batch."""
    return losses if weight is None else losses * weight


def stand_in_modules() -> dict[str, ModuleType]:
    """What ``sys.modules`` needs for the imports of the page to find these."""
    names = (
        "tensorflow_recommenders",
        "tensorflow_recommenders.tasks",
        "sentence_transformers",
        "sentence_transformers.losses",
        "easy_rec",
        "easy_rec.python",
        "easy_rec.python.loss",
        "easy_rec.python.loss.softmax_loss_with_negative_mining",
    )
    modules: dict[str, Any] = {name: ModuleType(name) for name in names}
    recommenders, tasks, transformers, losses, _, _, loss, mining = modules.values()
    recommenders.tasks, transformers.losses = tasks, losses
    tasks.Retrieval = Retrieval
    losses.MultipleNegativesRankingLoss = MultipleNegativesRankingLoss
    losses.MultipleNegativesSymmetricRankingLoss = MultipleNegativesSymmetricRankingLoss
    loss.softmax_loss_with_negative_mining = mining
    mining.softmax_loss_with_negative_mining = softmax_loss_with_negative_mining
    return modules
