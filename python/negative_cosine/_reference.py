"""The loss in plain TensorFlow, written to be read: the source of truth in tests.

It gathers ``(K + 1) * B * D`` floats, which the native op never does; for ``all`` it forms
the ``[B, C]`` matrix of cosines. It runs on any device, and under XLA.
"""

from __future__ import annotations

import tensorflow as tf

from negative_cosine._inputs import LossInputs, runtime_checks
from negative_cosine._sampler import candidate_table
from negative_cosine._statistics import NegativeCosineStats

_SMALLEST_NORM = 1e-12


def reference_loss(
    inputs: LossInputs, with_statistics: bool
) -> tuple[tf.Tensor, NegativeCosineStats | None]:
    """The reduced loss and, if asked for, the statistics of each row."""
    with tf.control_dependencies(runtime_checks(inputs)):
        return _checked_loss(inputs, with_statistics)


def _checked_loss(
    inputs: LossInputs, with_statistics: bool
) -> tuple[tf.Tensor, NegativeCosineStats | None]:
    query = normalize_rows(tf.cast(inputs.query, inputs.compute_dtype))
    doc = normalize_rows(tf.cast(inputs.doc, inputs.compute_dtype))
    statistics = None
    over_batch = inputs.normalize_over == "batch"
    if over_batch:
        row_loss = _loss_over_batch(inputs, _row_dot(query, doc[: tf.shape(query)[0]]))
    if with_statistics or not over_batch:
        candidates, kept = _candidates(inputs)
        positive_cosine, cosines = _cosines(inputs, query, doc, candidates)
        logits = _relative_logits(inputs, positive_cosine, cosines, candidates, kept)
        if not over_batch:
            row_loss = _softplus_of_logsumexp(logits)
        statistics = NegativeCosineStats(
            row_loss=tf.stop_gradient(row_loss),
            positive_cosine=tf.stop_gradient(positive_cosine),
            num_kept=tf.reduce_sum(tf.cast(kept, tf.int32), axis=1),
            positive_rank=tf.reduce_sum(tf.cast(logits > 0, tf.int32), axis=1),
        )
    loss = _reduce(inputs, row_loss)
    return loss, statistics if with_statistics else None


def normalize_rows(rows: tf.Tensor) -> tf.Tensor:
    """Rows at unit length; a row of norm <= 1e-12 becomes zero, with a zero gradient.

    The division by the largest element keeps the squares in range; it cancels, so it has
    no gradient.
    """
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(rows), axis=1, keepdims=True))
    safe_largest = tf.where(largest > 0, largest, tf.ones_like(largest))
    scaled = rows / safe_largest
    square = tf.reduce_sum(tf.square(scaled), axis=1, keepdims=True)
    is_zero = largest * tf.sqrt(square) <= _SMALLEST_NORM
    safe_square = tf.where(is_zero, tf.ones_like(square), square)
    return tf.where(is_zero, tf.zeros_like(rows), scaled * tf.math.rsqrt(safe_square))


def _row_dot(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(left * right, axis=-1)


def _candidates(inputs: LossInputs) -> tuple[tf.Tensor, tf.Tensor]:
    """Candidates ``[B, K]`` and which of them are kept.

    A dropped candidate is replaced by the row's own positive: so it is never read, and a
    NaN in it reaches neither the loss nor, as 0 * NaN, the gradient.
    """
    batch_size, num_candidates = tf.shape(inputs.query)[0], tf.shape(inputs.doc)[0]
    rows = tf.range(batch_size)[:, tf.newaxis]
    if inputs.negative_indices is not None:
        table = inputs.negative_indices
        in_range = (table >= 0) & (table < tf.cast(num_candidates, table.dtype))
        table = tf.cast(tf.where(in_range, table, 0), tf.int32)
        kept = in_range
    else:
        assert inputs.sampler is not None, "check_inputs gives one of the two"
        count = inputs.num_negatives
        if count is not None and inputs.query.shape[0] == 0:
            count = 1  # nobody meets anyone: no permutations for however many
        table = candidate_table(
            batch_size,
            num_candidates,
            num_candidates - 1 if count is None else count,
            inputs.sampler,
            inputs.seed,
        )
        kept = tf.ones_like(table, tf.bool)
    if inputs.mask_self:
        kept &= table != rows
    if inputs.doc_ids is not None:
        own = tf.gather(inputs.doc_ids, rows)
        kept &= tf.gather(inputs.doc_ids, table) != own
    if inputs.query_ids is not None:
        is_positive = table < batch_size
        clicked_by = tf.gather(inputs.query_ids, tf.where(is_positive, table, 0))
        own = inputs.query_ids[:, tf.newaxis]
        kept &= ~(is_positive & (clicked_by == own))
    return tf.where(kept, table, rows), kept


def _cosines(
    inputs: LossInputs, query: tf.Tensor, doc: tf.Tensor, candidates: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The positive's cosine ``[B]`` and the candidates' ``[B, K]``, from unit rows.

    Both come out of one product, so that a candidate equal to the positive ties with it.
    """
    rows = tf.range(tf.shape(query)[0])[:, tf.newaxis]
    columns = tf.concat([rows, candidates], axis=1)
    if inputs.sampler == "all":
        cosines = tf.gather(_every_cosine(query, doc), columns, batch_dims=1)
    else:
        cosines = _row_dot(query[:, tf.newaxis, :], tf.gather(doc, columns))
    return cosines[:, 0], cosines[:, 1:]


def _every_cosine(query: tf.Tensor, doc: tf.Tensor) -> tf.Tensor:
    """``[B, C]`` in one matrix product, whose gradients are products of whole rows too.

    There 0 * NaN would carry a bad row to those that dropped it. So a row of NaN enters
    as zeros, and makes NaN of its cosines afterwards, one by one.
    """
    query, query_nan = _without_nan(query)
    doc, doc_nan = _without_nan(doc)
    return tf.matmul(query, doc, transpose_b=True) + (query_nan[:, tf.newaxis] + doc_nan)


def _without_nan(unit_rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Rows with zeros for NaN, and a number of each row: NaN where it had any, else 0."""
    is_nan = tf.math.is_nan(unit_rows)
    rows = tf.where(is_nan, tf.zeros_like(unit_rows), unit_rows)
    return rows, tf.reduce_sum(
        tf.where(is_nan, unit_rows, tf.zeros_like(unit_rows)), axis=1
    )


def _relative_logits(
    inputs: LossInputs,
    positive_cosine: tf.Tensor,
    cosines: tf.Tensor,
    candidates: tf.Tensor,
    kept: tf.Tensor,
) -> tf.Tensor:
    """``z_ik - z_i0``, and minus infinity for a dropped candidate."""
    difference = cosines - positive_cosine[:, tf.newaxis] + inputs.margin
    logits = inputs.logit_scale * difference
    if inputs.doc_log_q is not None:
        own = inputs.doc_log_q[: tf.shape(candidates)[0], tf.newaxis]
        logits -= tf.stop_gradient(tf.gather(inputs.doc_log_q, candidates) - own)
    return tf.where(kept, logits, tf.constant(float("-inf"), logits.dtype))


def _softplus_of_logsumexp(logits: tf.Tensor) -> tf.Tensor:
    """``log(1 + sum_k exp(logits_k))`` of each row, with the digits of small losses.

    With m = max(0, largest logit) it is ``m + log(e^-m + sum_k e^(logits_k - m))``.
    """
    largest = tf.stop_gradient(tf.reduce_max(logits, axis=1))
    shift = tf.maximum(largest, 0)
    total = tf.reduce_sum(tf.exp(logits - shift[:, tf.newaxis]), axis=1)
    return shift + tf.math.log1p(tf.math.expm1(-shift) + total)


def _loss_over_batch(inputs: LossInputs, positive_cosine: tf.Tensor) -> tf.Tensor:
    """``logsumexp_j z_j0 - z_i0``: the article's softmax over the batch.

    Split as ``(z_max - z_i0) + log1p(the other terms)``, two parts that are not negative.
    """
    logits = inputs.logit_scale * (positive_cosine - inputs.margin)
    batch_size = tf.shape(logits)[0]
    if inputs.doc_log_q is not None:
        logits -= tf.stop_gradient(inputs.doc_log_q[:batch_size])
    # An empty batch has no largest logit: pad it with one that adds nothing.
    padded = tf.concat([logits, tf.constant([float("-inf")], logits.dtype)], axis=0)
    index = tf.argmax(padded)
    largest = padded[index]
    is_other = tf.range(batch_size, dtype=index.dtype) != index
    terms = tf.where(is_other, tf.exp(logits - largest), tf.zeros_like(logits))
    return (largest - logits) + tf.math.log1p(tf.reduce_sum(terms))


def _reduce(inputs: LossInputs, row_loss: tf.Tensor) -> tf.Tensor:
    if inputs.sample_weight is not None:
        row_loss = row_loss * inputs.sample_weight
    if inputs.reduction == "none":
        return row_loss
    total = tf.reduce_sum(row_loss)
    if inputs.reduction == "sum":
        return total
    batch_size = tf.cast(tf.shape(row_loss)[0], total.dtype)
    return tf.math.divide_no_nan(total, batch_size)
