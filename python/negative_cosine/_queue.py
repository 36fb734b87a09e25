"""Documents of earlier batches as further candidates: cross-batch memory.

The queue is a ring of fixed size, so that shapes never change. An empty slot holds a zero
row whose logQ is infinity: the loss excludes it, as it does any such document.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from negative_cosine._keras_environment import (
    check_environment,
    keras,
    refuse_tensors_of_keras_2,
)
from negative_cosine._keras_step import is_training, refuse_step_of_keras_2
from negative_cosine._known_sizes import known_size
from negative_cosine._masks import check_mask
from negative_cosine._options import check_count
from negative_cosine._row_inputs import check_floats, check_ids
from negative_cosine._rows import write_rows

EMPTY_SLOT_LOG_Q = math.inf
INPUTS = ("doc", "doc_ids", "doc_log_q")


@keras.saving.register_keras_serializable(package="negative_cosine")
class DocumentQueue(keras.layers.Layer):
    """Adds the latest documents of earlier batches after the batch's own.

    The batch's rows stay first, so that row ``i`` is still query ``i``'s positive. In
    training the batch then replaces the oldest rows of the queue; other calls leave the
    queue as it is. No gradient flows to queued rows: they are what the document tower
    made of them when they were new.

    A document that Keras masks, or whose embedding or ``doc_log_q`` is not finite, leaves
    its slot empty, so that the NaN of one bad step does not reach later steps.

    Slots not filled yet have an infinite ``doc_log_q``: pass it on to the loss, which then
    drops them. Until the queue is full a query keeps fewer than its K candidates.

    Under ``tf.distribute`` each replica keeps a queue of its own batches, so that the
    replicas do not wait for each other, and meet more different documents in all. What is
    saved is the first replica's queue, and every replica starts from what is restored.

    Example:
        >>> queue = DocumentQueue(4)
        >>> first = queue(tf.constant([[1.0, 2.0], [3.0, 4.0]]), training=True)
        >>> later = queue(tf.constant([[5.0, 6.0]]))
        >>> later["doc"].numpy()[:3].tolist()
        [[5.0, 6.0], [1.0, 2.0], [3.0, 4.0]]
        >>> later["doc_log_q"].numpy().tolist()
        [0.0, 0.0, 0.0, inf, inf]

    Args:
        size: Q, the rows to keep.
        **kwargs: of ``keras.layers.Layer``.

    Call arguments:
        inputs: the documents ``[B, D]``, of the layer's compute dtype, or a dict of them
            as ``doc`` and any of ``doc_ids``, int32 or int64 ``[B]``, and ``doc_log_q``,
            float ``[B]``. Every call must give the same of these as the first one.
        training: whether to keep this batch; Keras passes it. None: whether a
            ``train_step`` called.
        mask: Keras's mask of the documents, one boolean a row; Keras passes what came with
            them, and passes it on with the longer documents.

    Returns:
        A dict for ``NegativeCosineLoss`` or ``fused_negative_cosine_loss``: ``doc``
        ``[B + Q, D]``, ``doc_log_q`` float32 ``[B + Q]``, 0 where none was given, and
        ``doc_ids`` ``[B + Q]`` where they were given.

    Raises:
        ValueError: an argument is wrong; the message names it, and what is allowed.
        RuntimeError: Keras 2, or a backend of Keras other than TensorFlow.

    Source:
        Wang et al., "Cross-batch memory for embedding learning" (2020); a queue of this
        kind with logQ is in Wang et al., "Cross-batch negative sampling for training
        two-tower recommenders" (2021).
    """

    def __init__(self, size: int, **kwargs: Any) -> None:
        check_environment("DocumentQueue")
        super().__init__(**{"autocast": False, **kwargs})
        self.size: int = check_count("size", size)

    def build(self, input_shape: Any) -> None:
        """Makes the ring, empty."""
        shapes = input_shape if isinstance(input_shape, Mapping) else {"doc": input_shape}
        dim = shapes["doc"][-1]
        if len(shapes["doc"]) != 2 or dim is None:
            raise ValueError(
                "doc must have two dimensions [rows, embedding], with embedding known, "
                f"got shape {shapes['doc']}"
            )

        def add(name: str, shape: tuple[int, ...], dtype: str, fill: float = 0) -> Any:
            return self.add_weight(
                name=name,
                shape=shape,
                dtype=dtype,
                initializer=keras.initializers.Constant(fill),
                trainable=False,
                autocast=False,
                aggregation="none",  # no replica waits for another: _replica_losses.py
            )

        self.rows_written = add("rows_written", (), "int64")
        self.queued_doc = add("queued_doc", (self.size, dim), self.compute_dtype)
        self.queued_log_q = add("queued_log_q", (self.size,), "float32", EMPTY_SLOT_LOG_Q)
        self.queued_ids: Any = None
        if shapes.get("doc_ids") is not None:
            self.queued_ids = add("queued_ids", (self.size,), "int64")

    def call(
        self, inputs: Any, training: bool | None = None, mask: Any = None
    ) -> dict[str, tf.Tensor]:
        """The batch followed by the queue; in training the batch is then kept."""
        refuse_tensors_of_keras_2("DocumentQueue", inputs)
        doc, ids, log_q = self._checked(inputs)
        longer = {
            "doc": tf.concat([doc, self.queued_doc.value], axis=0),
            "doc_log_q": tf.concat([log_q, self.queued_log_q.value], axis=0),
        }
        if ids is not None:
            queued_ids = tf.cast(self.queued_ids.value, ids.dtype)
            longer["doc_ids"] = tf.concat([ids, queued_ids], axis=0)
        if is_training(training):
            refuse_step_of_keras_2("DocumentQueue")
            self._keep(doc, ids, log_q, check_mask("doc", _mask_of_doc(mask), doc))
        return longer

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """The batch's mask, followed by True for the queue."""
        mask = _mask_of_doc(previous_mask)
        if mask is None:
            return None
        longer = keras.ops.concatenate([mask, keras.ops.ones([self.size], "bool")])
        names = self.compute_output_spec(inputs)
        return {name: longer if name == "doc" else None for name in names}

    def compute_output_spec(
        self, inputs: Any, training: Any = None, mask: Any = None
    ) -> Any:
        """Every input with ``size`` more rows, and ``doc_log_q``."""
        named = _named(inputs)
        rows, dim = named["doc"].shape
        longer = None if rows is None else rows + self.size
        spec = {
            "doc": keras.KerasTensor((longer, dim), named["doc"].dtype),
            "doc_log_q": keras.KerasTensor((longer,), "float32"),
        }
        if named.get("doc_ids") is not None:
            spec["doc_ids"] = keras.KerasTensor((longer,), named["doc_ids"].dtype)
        return spec

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "size": self.size}

    def _checked(self, inputs: Any) -> tuple[tf.Tensor, tf.Tensor | None, tf.Tensor]:
        named = _named(inputs)
        doc = tf.convert_to_tensor(named["doc"])
        if doc.dtype != self.compute_dtype:
            raise ValueError(
                f"doc must have the layer's compute dtype {self.compute_dtype}, got "
                f"{doc.dtype.name}; make the layer with dtype={doc.dtype.name!r}"
            )
        ids = check_ids("doc_ids", named.get("doc_ids"), known_size(doc, 0), "doc")
        if (ids is None) != (self.queued_ids is None):
            raise ValueError(
                "doc_ids must be given in every call or in none, got "
                f"{'none' if ids is None else 'some'} after a first call with "
                f"{'some' if ids is None else 'none'}"
            )
        log_q = check_floats(
            "doc_log_q", named.get("doc_log_q"), known_size(doc, 0), "doc", tf.float32
        )
        if log_q is None:
            log_q = tf.zeros(tf.shape(doc)[:1])
        return doc, ids, log_q

    def _keep(
        self,
        doc: tf.Tensor,
        ids: tf.Tensor | None,
        log_q: tf.Tensor,
        mask: tf.Tensor | None,
    ) -> None:
        """Writes the batch over the oldest slots; of a longer batch its last rows."""
        doc, log_q = _empty_where_excluded(doc, log_q, mask)
        rows = tf.shape(doc)[0]
        kept = tf.minimum(rows, self.size)
        written = self.rows_written.value
        slots = (written + tf.range(tf.cast(kept, tf.int64))) % self.size
        write_rows(self.queued_doc, slots, doc[rows - kept :])
        write_rows(self.queued_log_q, slots, log_q[rows - kept :])
        if ids is not None:
            write_rows(self.queued_ids, slots, tf.cast(ids[rows - kept :], tf.int64))
        self.rows_written.assign(written + tf.cast(kept, tf.int64))


def _empty_where_excluded(
    doc: tf.Tensor, log_q: tf.Tensor, mask: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """An empty slot for each document that must not be a candidate of later batches."""
    is_finite = tf.reduce_all(tf.math.is_finite(doc), axis=1) & tf.math.is_finite(log_q)
    usable = is_finite if mask is None else is_finite & mask
    empty = tf.fill(tf.shape(log_q), tf.constant(EMPTY_SLOT_LOG_Q, log_q.dtype))
    return (
        tf.where(usable[:, tf.newaxis], doc, tf.zeros_like(doc)),
        tf.where(usable, log_q, empty),
    )


def _mask_of_doc(mask: Any) -> Any:
    return mask.get("doc") if isinstance(mask, Mapping) else mask


def _named(inputs: Any) -> Mapping[str, Any]:
    if not isinstance(inputs, Mapping):
        return {"doc": inputs}
    if inputs.get("doc") is None or set(inputs) - set(INPUTS):
        raise ValueError(
            "inputs must be doc, or a dict with doc and any of doc_ids and doc_log_q, got "
            f"{', '.join(sorted(inputs))}"
        )
    return inputs
