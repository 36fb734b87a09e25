"""Estimates how often documents occur in the batches, for logQ correction.

A document that a batch holds with probability p occurs every 1 / p steps on average, so
a moving average of the steps between its occurrences estimates 1 / p, with no list of
the documents and no second pass over the data. Arrays of fixed size hold, for each bucket
of hashed ids, the step of the last occurrence, that average, and the occurrences so far,
by which the first of them are averaged alike.
"""

from __future__ import annotations

import hashlib
from typing import Any

import tensorflow as tf

from negative_cosine._inputs import num_replicas
from negative_cosine._keras_environment import (
    check_environment,
    keras,
    refuse_tensors_of_keras_2,
)
from negative_cosine._keras_step import is_training, refuse_step_of_keras_2
from negative_cosine._options import check_boolean, check_count, check_positive_number
from negative_cosine._replica_losses import other_losses_kept
from negative_cosine._replicas import gather
from negative_cosine._row_inputs import check_ids
from negative_cosine._rows import write_rows


@keras.saving.register_keras_serializable(package="negative_cosine")
class DocumentFrequency(keras.layers.Layer):
    """Streaming estimates of ``doc_log_q``: log of a document's share of the batches.

    Each call in training is one step: it counts the documents of the batch, then returns
    their estimates; other calls only return them. A document's n-th occurrence moves the
    average of its distances towards the latest one by the share ``1 / n``, or by
    ``learning_rate`` where that is larger; its first distance is the number of steps until
    it occurred. An id that never occurred counts as if it first occurs in the next step.
    Ids that share a bucket look more frequent than they are; of several hashes, each with
    buckets of its own, the lowest frequency is taken.

    Under ``tf.distribute`` each replica counts its own batches, from which its own
    candidates come. What is saved is what the first replica counted, and every replica goes
    on from what is restored. With ``cross_replica`` each counts the batches of all.

    Example:
        >>> frequency = DocumentFrequency(num_buckets=1000)
        >>> for step in range(8):  # 7 is in every batch, 3 in every other one
        ...     ids = [7, 3] if step % 2 else [7, 4]
        ...     log_q = frequency(tf.constant(ids), training=True)
        >>> log_q = frequency(tf.constant([7, 3]))
        >>> [round(float(value), 3) for value in tf.exp(log_q)]
        [1.0, 0.5]

    Args:
        num_buckets: H, the buckets of each hash; 16 bytes each. With fewer than the
            documents, frequencies are overestimated.
        num_hashes: how many hashes to take the least frequent of.
        learning_rate: in (0, 1]. In the long run the estimates' logarithms vary by
            ``sqrt(learning_rate / 2)`` (standard deviation, of rare documents); after a
            change of the distribution they take ``1 / learning_rate`` occurrences.
        cross_replica: under a ``tf.distribute`` strategy estimate a document's share of
            the replicas' joined batches, from which ``NegativeCosineLoss`` draws with its
            own ``cross_replica``. With one replica it changes nothing.
        **kwargs: of ``keras.layers.Layer``.

    Call arguments:
        doc_ids: int32 or int64 ``[C]``.
        training: whether to count this batch; Keras passes it. None: whether a
            ``train_step`` called.

    Returns:
        float32 ``[C]``, at most 0; no gradient flows through it.

    Raises:
        ValueError: an argument is wrong; the message names it, and what is allowed.
        RuntimeError: Keras 2, or a backend of Keras other than TensorFlow.

    Source:
        Yi et al., "Sampling-bias-corrected neural modeling for large corpus item
        recommendations" (2019), algorithms 2 and 3; the share ``1 / n`` of the first
        occurrences is added here.
    """

    def __init__(
        self,
        num_buckets: int = 2**20,
        *,
        num_hashes: int = 1,
        learning_rate: float = 0.01,
        cross_replica: bool = False,
        **kwargs: Any,
    ) -> None:
        check_environment("DocumentFrequency")
        super().__init__(**{"autocast": False, **kwargs})
        self.learning_rate = check_positive_number("learning_rate", learning_rate, 1)
        self.num_buckets: int = check_count("num_buckets", num_buckets)
        self.num_hashes: int = check_count("num_hashes", num_hashes)
        self.cross_replica = check_boolean("cross_replica", cross_replica)

    def build(self, input_shape: Any) -> None:
        """Makes the state: the step, and three numbers for each bucket."""

        def add(name: str, shape: tuple[int, ...], dtype: str) -> Any:
            return self.add_weight(
                name=name,
                shape=shape,
                dtype=dtype,
                initializer="zeros",
                trainable=False,
                autocast=False,
                aggregation="none",  # no replica waits for another: _replica_losses.py
            )

        buckets = (self.num_hashes * self.num_buckets,)
        self.step = add("step", (), "int64")
        self.last_step = add("last_step", buckets, "int64")
        self.distance = add("distance", buckets, "float32")
        self.occurrences = add("occurrences", buckets, "float32")

    def call(self, doc_ids: Any, training: bool | None = None) -> tf.Tensor:
        """The estimates, after counting the batch if it is one of training."""
        refuse_tensors_of_keras_2("DocumentFrequency", doc_ids)
        ids = check_ids("doc_ids", doc_ids, None, "doc")
        assert ids is not None, "Keras calls a layer with tensors"
        # In one dimension, which is how a ShardedVariable is read.
        buckets = tf.reshape(self._buckets(tf.cast(ids, tf.int64)), [-1])
        if is_training(training):
            refuse_step_of_keras_2("DocumentFrequency")
            counted = buckets
            if self.cross_replica and num_replicas() > 1:
                with other_losses_kept(self):
                    counted = gather(counted)
            self._count(counted)
        distance = tf.gather(self.distance.value, buckets)
        next_step = tf.cast(self.step.value + 1, tf.float32)
        has_occurred = tf.gather(self.occurrences.value, buckets) > 0
        distance = tf.where(has_occurred, distance, next_step)
        # Never below one step: of what another worker of a parameter server is writing, a
        # part may be there already.
        distance = tf.maximum(distance, 1.0)
        by_hash = tf.reshape(distance, [self.num_hashes, -1])
        return -tf.math.log(tf.reduce_max(by_hash, axis=0))

    def compute_output_spec(self, doc_ids: Any, training: Any = None) -> keras.KerasTensor:
        """float32 of the ids' shape."""
        return keras.KerasTensor(doc_ids.shape, "float32")

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            **super().get_config(),
            "num_buckets": self.num_buckets,
            "num_hashes": self.num_hashes,
            "learning_rate": self.learning_rate,
            "cross_replica": self.cross_replica,
        }

    def _count(self, buckets: tf.Tensor) -> None:
        """A document that occurs twice in the batch writes the same values twice."""
        step = self.step.value + 1
        average = tf.gather(self.distance.value, buckets)
        latest = tf.cast(step - tf.gather(self.last_step.value, buckets), tf.float32)
        latest = tf.maximum(latest, 1.0)  # another worker may be a step ahead
        occurrences = tf.gather(self.occurrences.value, buckets) + 1
        share = tf.maximum(1 / occurrences, self.learning_rate)
        write_rows(self.distance, buckets, average + share * (latest - average))
        write_rows(self.occurrences, buckets, occurrences)
        write_rows(self.last_step, buckets, tf.broadcast_to(step, tf.shape(buckets)))
        self.step.assign(step)

    def _buckets(self, ids: tf.Tensor) -> tf.Tensor:
        """int64 ``[num_hashes, C]``: buckets, numbered on from one hash to the next.

        Multiply-shift hashing (Dietzfelbinger et al., 1997): of the product with a random
        odd number the upper half, as a fraction of 2**32, picks the bucket.
        """
        shift = tf.constant(32, tf.int64)
        half = tf.constant(2**32 - 1, tf.int64)
        rows = []
        for number in range(self.num_hashes):
            product = ids * _odd_number(number)
            upper = tf.bitwise.bitwise_and(tf.bitwise.right_shift(product, shift), half)
            bucket = tf.bitwise.right_shift(upper * self.num_buckets, shift)
            rows.append(bucket + number * self.num_buckets)
        return tf.stack(rows)


def _odd_number(number: int) -> int:
    """An odd 64-bit number, signed, that looks random: the same in every process."""
    digest = hashlib.sha256(f"DocumentFrequency {number}".encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True) | 1
