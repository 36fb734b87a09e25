"""Documents of earlier batches as further candidates: cross-batch memory.

The queue is a ring of fixed size. An empty slot holds a zero row and a log sampling
probability of 1e30: its logit lies 1e30 below every other one, and its exponential is
exactly 0 in float32 and float64. So it adds nothing to a loss or a gradient, the shapes
never change, and the loss needs no rule of its own for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from negative_cosine._inputs import check_count, check_floats, check_ids
from negative_cosine._rows import write_rows

EMPTY_SLOT_LOG_Q = 1e30
INPUTS = ("doc", "doc_ids", "doc_log_q")


@keras.saving.register_keras_serializable(package="negative_cosine")
class DocumentQueue(keras.layers.Layer):
    """Puts the latest documents of earlier batches behind the batch's own.

    The batch's rows stay first, so that row ``i`` is still query ``i``'s positive. In
    training the batch then replaces the oldest rows of the queue; other calls leave the
    queue as it is. No gradient flows to queued rows: they are what the document tower
    made of them when they were new.

    Slots not filled yet are excluded from the loss by their ``doc_log_q`` of 1e30: pass
    it on to the loss. ``num_kept`` of the loss's statistics counts them all the same.

    Under ``tf.distribute`` its state follows the first replica's batches alone.

    Example:
        >>> queue = DocumentQueue(4)
        >>> first = queue(tf.constant([[1.0, 2.0], [3.0, 4.0]]), training=True)
        >>> later = queue(tf.constant([[5.0, 6.0]]))
        >>> later["doc"].numpy()[:3].tolist()
        [[5.0, 6.0], [1.0, 2.0], [3.0, 4.0]]
        >>> (later["doc_log_q"].numpy() > 1e29).tolist()
        [False, False, False, True, True]

    Args:
        size: Q, the rows to keep.
        **kwargs: of ``keras.layers.Layer``.

    Call arguments:
        inputs: the documents ``[B, D]``, of the layer's compute dtype, or a dict of them
            as ``doc`` and any of ``doc_ids``, int32 or int64 ``[B]``, and ``doc_log_q``,
            float ``[B]``. The first call settles which of these there are.
        training: whether to keep this batch; Keras passes it.

    Returns:
        A dict for ``NegativeCosineLoss`` or ``fused_negative_cosine_loss``: ``doc``
        ``[B + Q, D]``, ``doc_log_q`` float32 ``[B + Q]``, 0 where none was given, and
        ``doc_ids`` ``[B + Q]`` where they were given.

    Raises:
        ValueError: an argument is wrong; the message names it, and what is allowed.

    Source:
        Wang et al., "Cross-batch memory for embedding learning" (2020); a queue of this
        kind with logQ is in Wang et al., "Cross-batch negative sampling for training
        two-tower recommenders" (2021).
    """

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        self.size: int = check_count("size", size)

    def build(self, input_shape: Any) -> None:
        """Makes the ring, empty."""
        shapes = input_shape if isinstance(input_shape, Mapping) else {"doc": input_shape}
        dim = shapes["doc"][-1]
        if len(shapes["doc"]) != 2 or dim is None:
            raise ValueError(
                "doc must have two dimensions [rows, embedding], the second one known, "
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
                aggregation="only_first_replica",
            )

        self.rows_written = add("rows_written", (), "int64")
        self.queued_doc = add("queued_doc", (self.size, dim), self.compute_dtype)
        self.queued_log_q = add("queued_log_q", (self.size,), "float32", EMPTY_SLOT_LOG_Q)
        self.queued_ids: Any = None
        if shapes.get("doc_ids") is not None:
            self.queued_ids = add("queued_ids", (self.size,), "int64")

    def call(self, inputs: Any, training: bool | None = None) -> dict[str, tf.Tensor]:
        """The batch with the queue behind it; in training the batch is kept after that."""
        doc, ids, log_q = self._checked(inputs)
        longer = {
            "doc": tf.concat([doc, self.queued_doc.value], axis=0),
            "doc_log_q": tf.concat([log_q, self.queued_log_q.value], axis=0),
        }
        if ids is not None:
            queued_ids = tf.cast(self.queued_ids.value, ids.dtype)
            longer["doc_ids"] = tf.concat([ids, queued_ids], axis=0)
        if training:
            self._keep(doc, ids, log_q)
        return longer

    def compute_output_spec(self, inputs: Any, training: Any = None) -> Any:
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
        ids = check_ids("doc_ids", named.get("doc_ids"), doc.shape[0], "doc")
        if (ids is None) != (self.queued_ids is None):
            raise ValueError(
                "doc_ids must be given in every call or in none, got "
                f"{'none' if ids is None else 'some'} after a first call with "
                f"{'some' if ids is None else 'none'}"
            )
        log_q = check_floats(
            "doc_log_q", named.get("doc_log_q"), doc.shape[0], "doc", tf.float32
        )
        if log_q is None:
            log_q = tf.zeros(tf.shape(doc)[:1])
        return doc, ids, log_q

    def _keep(self, doc: tf.Tensor, ids: tf.Tensor | None, log_q: tf.Tensor) -> None:
        """Writes the batch over the oldest slots; of a longer batch its last rows."""
        rows = tf.shape(doc)[0]
        kept = tf.minimum(rows, self.size)
        written = self.rows_written.value
        slots = (written + tf.range(tf.cast(kept, tf.int64))) % self.size
        write_rows(self.queued_doc, slots, doc[rows - kept :])
        write_rows(self.queued_log_q, slots, log_q[rows - kept :])
        if ids is not None:
            write_rows(self.queued_ids, slots, tf.cast(ids[rows - kept :], tf.int64))
        self.rows_written.assign(written + tf.cast(kept, tf.int64))


def _named(inputs: Any) -> Mapping[str, Any]:
    if not isinstance(inputs, Mapping):
        return {"doc": inputs}
    if inputs.get("doc") is None or set(inputs) - set(INPUTS):
        raise ValueError(
            "inputs must be doc, or a dict with doc and any of doc_ids, doc_log_q, got "
            f"{', '.join(sorted(inputs))}"
        )
    return inputs
