"""The class of the article that this project starts from, with its arithmetic."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from negative_cosine._keras_environment import (
    check_environment,
    keras,
    refuse_tensors_of_keras_2,
)
from negative_cosine._loss import compiles_with_xla, fused_negative_cosine_loss
from negative_cosine._options import (
    NORMALIZE_OVER,
    check_boolean,
    check_count,
    check_name,
    check_positive_number,
)
from negative_cosine._warnings import warn


@keras.saving.register_keras_serializable(package="negative_cosine")
class NegativeCosineLayer(keras.layers.Layer):
    """In-batch negative sampling as published, or as it was meant.

    By default it computes what the snippet prints: a softmax over the batch, without the
    negatives, in which ``t`` cancels. Unlike the snippet it is finite in float16.
    ``normalize_over="candidates"`` puts the softmax on the right axis and makes ``t`` the
    temperature.

    Example:
        >>> pairs = [[1.0, 2.0], [2.0, 1.0], [3.0, 2.0], [4.0, 1.0]]
        >>> layer = NegativeCosineLayer(3, 1.0, normalize_over="candidates")
        >>> layer([tf.constant(pairs), tf.constant(pairs)]).shape
        TensorShape([1])

    Args:
        NEG: negatives of each query.
        t: the article's smoothing parameter.
        normalize_over: ``"batch"`` (as printed) or ``"candidates"`` (as meant).
        mask_self: drop a negative that is the query's own document. None: False for
            ``"batch"``, as printed, and True for ``"candidates"``, as meant.
        **kwargs: of ``keras.layers.Layer``.

    Raises:
        ValueError: an argument is wrong; the message names it, and what is allowed.
        RuntimeError: Keras 2, or a backend of Keras other than TensorFlow.
    """

    def __init__(
        self,
        NEG: int,
        t: float = 1.0,
        normalize_over: str = "batch",
        mask_self: bool | None = None,
        **kwargs: Any,
    ) -> None:
        check_environment("NegativeCosineLayer")
        # Keras would cast float16 embeddings to float32 before the call.
        super().__init__(**{"autocast": False, **kwargs})
        self.supports_jit = compiles_with_xla()
        self.normalize_over = check_name("normalize_over", normalize_over, NORMALIZE_OVER)
        self.NEG = check_count("NEG", NEG)
        self.t = check_positive_number("t", t)
        if mask_self is not None:
            mask_self = check_boolean("mask_self", mask_self)
        self.mask_self = mask_self
        if self.normalize_over == "batch":
            warn(
                "NegativeCosineLayer computes the article's printed arithmetic: its "
                "softmax runs over the batch, so the negatives do not enter the loss and "
                "t has no effect. Use normalize_over='candidates' for the loss that the "
                "article describes.",
                UserWarning,
            )

    def call(self, inputs: Any) -> tf.Tensor:
        """The loss, shape ``[1]``, in the dtype of ``inputs = [query, doc]``."""
        refuse_tensors_of_keras_2("NegativeCosineLayer", inputs)
        query, doc = inputs
        as_meant = self.normalize_over == "candidates"
        loss = fused_negative_cosine_loss(
            query,
            doc,
            self.NEG,
            temperature=self.t if as_meant else 1.0,
            mask_self=as_meant if self.mask_self is None else self.mask_self,
            normalize_over=self.normalize_over,
        )
        return tf.cast(loss[tf.newaxis], query.dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple[int]:
        """``(1,)`` for any input."""
        return (1,)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            **super().get_config(),
            "NEG": self.NEG,
            "t": self.t,
            "normalize_over": self.normalize_over,
            "mask_self": self.mask_self,
        }
