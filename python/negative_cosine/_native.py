"""The loss through the native op: arguments in, one op, outputs out.

The first of two passes over the rows computes the loss and the direction of the query's
gradient; the second computes the document's gradient. In a graph the op skips an output
that has no consumer, and so the direction where no gradient is taken. (A function that XLA
compiles always computes it: a custom call has all its outputs.) Eager execution does not
know the consumers. There the CPU omits the direction, and the gradient op computes it when
a gradient is taken; on a GPU, where memory is the limit and the rows are read anyway, the
forward pass computes it.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from negative_cosine._inputs import LossInputs
from negative_cosine._loader import native_library
from negative_cosine._statistics import NegativeCosineStats


def native_loss(
    inputs: LossInputs, with_statistics: bool, on_gpu: bool
) -> tuple[tf.Tensor, NegativeCosineStats | None]:
    """The reduced loss and, if asked for, the statistics of each row."""
    ops = native_library().ops
    assert ops is not None, "the caller has chosen the native path"
    outputs = ops.negative_cosine_loss(
        inputs.query,
        inputs.doc,
        _scalar(inputs.logit_scale, inputs.compute_dtype),
        *_host_scalars(inputs, on_gpu),
        _as_list(inputs.seed),
        _as_list(inputs.negative_indices),
        _as_list(inputs.doc_ids),
        _as_list(inputs.query_ids),
        _as_list(inputs.doc_log_q),
        _as_list(inputs.sample_weight),
        num_negatives=inputs.num_negatives or 0,
        sampler=inputs.sampler or "shuffle",
        mask_self=inputs.mask_self,
        normalize_over=inputs.normalize_over,
        reduction=inputs.reduction,
        with_query_direction=on_gpu or not tf.executing_eagerly(),
        with_statistics=with_statistics,
    )
    if not with_statistics:
        return outputs.loss, None
    return outputs.loss, NegativeCosineStats(
        row_loss=tf.stop_gradient(outputs.row_loss),
        positive_cosine=tf.stop_gradient(outputs.positive_cosine),
        num_kept=outputs.num_kept,
        positive_rank=outputs.positive_rank,
    )


def _scalar(value: tf.Tensor | float, dtype: tf.DType) -> tf.Tensor | float:
    # The op makes float32 of a Python number by itself, several times as fast.
    is_double = isinstance(value, float) and dtype == tf.float64
    return tf.constant(value, dtype) if is_double else value


def _host_scalars(inputs: LossInputs, on_gpu: bool) -> list[tf.Tensor | float]:
    """The margin, and the negatives' weight, of which the op has 0 for "auto"."""
    weight = inputs.negative_weight
    scalars = (inputs.margin, 0.0 if weight is None else weight)
    dtype = inputs.compute_dtype
    if not on_gpu:
        return [_scalar(value, dtype) for value in scalars]
    # The kernels take them from the host's memory: no copy from the device.
    with tf.device("CPU:0"):
        return [tf.constant(value, dtype) for value in scalars]


def _as_list(tensor: tf.Tensor | None) -> list[Any]:
    return [] if tensor is None else [tensor]
