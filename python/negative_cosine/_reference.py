"""The loss in plain TensorFlow, written to be read: what the native op is tested against.

It gathers ``(K + 1) * B * D`` floats, which the native op never does; for ``all`` it forms
the ``[B, C]`` matrix of cosines. It runs on any device, and under XLA.

What does not count is replaced and never multiplied by zero, since NaN times zero is NaN.
A row that holds NaN or infinity enters as zeros, and a second tensor turns its cosines into
NaN again. Infinity and NaN are created only where a result has them, so that
``tf.debugging.enable_check_numerics`` finds those of the user.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from negative_cosine._inputs import LossInputs
from negative_cosine._known_sizes import known_size
from negative_cosine._not_numbers import infinity_where
from negative_cosine._runtime_checks import asserted, nan_unless_all_hold
from negative_cosine._sampler import candidate_table
from negative_cosine._size_checks import size_checks
from negative_cosine._statistics import NegativeCosineStats
from negative_cosine._unit_rows import UnitRows, unit_rows
from negative_cosine._value_checks import value_checks

# The products of two equal rows may differ by this many units in the last place.
_ROUNDING_OF_A_PRODUCT = 4


def reference_loss(
    inputs: LossInputs, with_statistics: bool
) -> tuple[tf.Tensor, NegativeCosineStats | None]:
    """The reduced loss and, if asked for, the statistics of each row."""
    sizes = size_checks(inputs)
    with asserted(sizes + value_checks(inputs)):
        loss, statistics = _checked_loss(inputs, with_statistics)
        return nan_unless_all_hold(sizes, loss), statistics


def _checked_loss(
    inputs: LossInputs, with_statistics: bool
) -> tuple[tf.Tensor, NegativeCosineStats | None]:
    query, doc = (unit_rows(x, inputs.compute_dtype) for x in (inputs.query, inputs.doc))
    positives = _first(doc, tf.shape(inputs.query)[0])
    positive_cosine = _positive_cosine(query, positives)
    over_batch = inputs.normalize_over == "batch"
    candidates = None
    if with_statistics or not over_batch:
        candidates = _candidates(inputs, query, doc, positives)
    if over_batch:
        row_loss = counted_loss = _loss_over_batch(inputs, positive_cosine)
    else:
        assert candidates is not None, "they were drawn"
        row_loss = _loss_over_candidates(inputs, candidates)
        counted_loss = _loss_over_candidates(inputs, _of_counted(inputs, candidates))
    loss = _reduce(inputs, _weighted(inputs, row_loss, counted_loss))
    if not with_statistics:
        return loss, None
    assert candidates is not None, "they were drawn"
    return loss, _statistics(inputs, positive_cosine, candidates, row_loss)


# --- Rows -------------------------------------------------------------------------------


def _first(rows: UnitRows, count: tf.Tensor) -> UnitRows:
    return UnitRows(rows.rows[:count], rows.nan[:count])


def _positive_cosine(query: UnitRows, positives: UnitRows) -> tf.Tensor:
    products = tf.reduce_sum(query.rows * positives.rows, axis=1)
    return products + query.nan + positives.nan


# --- Candidates -------------------------------------------------------------------------


class _Candidates(NamedTuple):
    """What each row meets, ``[B, K]``."""

    indices: tf.Tensor  # the row's own positive in place of a dropped candidate
    kept: tf.Tensor
    differences: tf.Tensor  # the candidate's cosine less the positive's


def _candidates(
    inputs: LossInputs, query: UnitRows, doc: UnitRows, positives: UnitRows
) -> _Candidates:
    indices, kept = _kept_indices(inputs)
    if inputs.sampler == "all":
        differences = _differences_from_one_product(query, doc, indices)
    else:
        differences = _differences_by_rows(query, doc, positives, indices)
    nan = (query.nan + positives.nan)[:, tf.newaxis] + tf.gather(doc.nan, indices)
    return _Candidates(indices, kept, differences + nan)


def _kept_indices(inputs: LossInputs) -> tuple[tf.Tensor, tf.Tensor]:
    """Candidates ``[B, K]`` and which of them are kept.

    A dropped candidate is replaced by the row's own positive: so it is never read.
    """
    batch_size = tf.shape(inputs.query)[0]
    rows = tf.range(batch_size)[:, tf.newaxis]
    table, kept = _table(inputs)
    if inputs.mask_self:
        kept &= tf.not_equal(table, rows)
    if inputs.doc_ids is not None:
        own = tf.gather(inputs.doc_ids, rows)
        kept &= tf.not_equal(tf.gather(inputs.doc_ids, table), own)
    if inputs.query_ids is not None:
        is_positive = table < batch_size
        clicked_by = tf.gather(inputs.query_ids, tf.where(is_positive, table, 0))
        own = inputs.query_ids[:, tf.newaxis]
        kept &= ~(is_positive & tf.equal(clicked_by, own))
    if inputs.doc_log_q is not None:
        kept &= ~tf.gather(_is_excluded(inputs.doc_log_q), table)
    return tf.where(kept, table, rows), kept


def _table(inputs: LossInputs) -> tuple[tf.Tensor, tf.Tensor]:
    """The candidates before any is dropped, and which of them exist."""
    batch_size, num_candidates = tf.shape(inputs.query)[0], tf.shape(inputs.doc)[0]
    if inputs.negative_indices is not None:
        table = inputs.negative_indices
        in_range = (table >= 0) & (table < tf.cast(num_candidates, table.dtype))
        return tf.cast(tf.where(in_range, table, 0), tf.int32), in_range
    assert inputs.sampler is not None, "check_inputs gives one of the two"
    count = inputs.num_negatives
    if count is not None and known_size(inputs.query, 0) == 0:
        count = 1  # an empty batch has no candidates: one permutation is enough
    table = candidate_table(
        batch_size,
        num_candidates,
        tf.maximum(num_candidates - 1, 0) if count is None else count,
        inputs.sampler,
        inputs.seed,
    )
    return table, tf.ones_like(table, tf.bool)


def _differences_by_rows(
    query: UnitRows, doc: UnitRows, positives: UnitRows, indices: tf.Tensor
) -> tf.Tensor:
    """Of the rows themselves: so small differences keep their digits."""
    towards = tf.gather(doc.rows, indices) - positives.rows[:, tf.newaxis]
    return tf.reduce_sum(query.rows[:, tf.newaxis] * towards, axis=2)


def _differences_from_one_product(
    query: UnitRows, doc: UnitRows, indices: tf.Tensor
) -> tf.Tensor:
    rows = tf.range(tf.shape(query.rows)[0])[:, tf.newaxis]
    every_cosine = tf.matmul(query.rows, doc.rows, transpose_b=True)
    columns = tf.concat([rows, indices], axis=1)
    cosines = tf.gather(every_cosine, columns, batch_dims=1)
    return cosines[:, 1:] - cosines[:, :1]


# --- Losses -----------------------------------------------------------------------------


def _loss_over_candidates(inputs: LossInputs, candidates: _Candidates) -> tf.Tensor:
    logits = _relative_logits(inputs, candidates)
    weight: float | None = inputs.negative_weight
    if weight != 1:
        logits += _log_negative_weight(inputs)
    return _softplus_of_logsumexp(logits, candidates.kept)


def _log_negative_weight(inputs: LossInputs) -> tf.Tensor | float:
    if inputs.negative_weight is not None:
        return math.log(inputs.negative_weight)
    if inputs.sampler == "all":
        return 0.0
    # "shuffle" draws from every document, "ring" from those besides the row's own.
    docs = tf.shape(inputs.doc)[0] - (1 if inputs.sampler == "ring" else 0)
    drawn_from = tf.cast(tf.maximum(docs, 1), inputs.compute_dtype)  # of 0 in no batch
    return tf.math.log(drawn_from / inputs.num_negatives)


def _relative_logits(inputs: LossInputs, candidates: _Candidates) -> tf.Tensor:
    """``z_ik - z_i0``, of a dropped candidate too."""
    if inputs.doc_log_q is None:
        return inputs.logit_scale * (candidates.differences + inputs.margin)
    rows = tf.range(tf.shape(candidates.indices)[0])[:, tf.newaxis]
    is_number = tf.math.is_finite(inputs.doc_log_q)
    both = tf.gather(is_number, candidates.indices) & tf.gather(is_number, rows)
    log_q = tf.stop_gradient(_numbers(inputs.doc_log_q))
    correction = tf.gather(log_q, candidates.indices) - tf.gather(log_q, rows)
    both &= tf.math.is_finite(correction)
    zeros = tf.zeros_like(candidates.differences)
    differences = tf.where(both, candidates.differences, zeros)
    logits = inputs.logit_scale * (differences + inputs.margin)
    logits -= tf.where(both, correction, zeros)
    return logits + infinity_where(~both, logits.dtype)


def _is_excluded(log_q: tf.Tensor) -> tf.Tensor:
    """The excluded documents, which are never candidates: those of infinite logQ."""
    return log_q > log_q.dtype.max


def _numbers(log_q: tf.Tensor) -> tf.Tensor:
    """0 in place of what is no number."""
    return tf.where(tf.math.is_finite(log_q), log_q, tf.zeros_like(log_q))


def _softplus_of_logsumexp(logits: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    """``log(1 + sum_k exp(logits_k))`` of each row, with the digits of small losses.

    With m = max(0, largest logit) it is ``m + log(e^-m + sum_k e^(logits_k - m))``. A row
    with an infinite logit has infinite loss, and no gradient.
    """
    is_infinite = tf.reduce_any(kept & (logits > logits.dtype.max), axis=1)
    counts = kept & ~is_infinite[:, tf.newaxis]
    logits = tf.where(counts, logits, tf.zeros_like(logits))
    with_zero = tf.pad(logits, [[0, 0], [0, 1]])
    shift = tf.stop_gradient(tf.reduce_max(with_zero, axis=1))
    terms = tf.exp(logits - shift[:, tf.newaxis])
    total = tf.reduce_sum(tf.where(counts, terms, tf.zeros_like(terms)), axis=1)
    row_loss = shift + tf.math.log1p(tf.math.expm1(-shift) + total)
    return row_loss + infinity_where(is_infinite, row_loss.dtype)


def _loss_over_batch(inputs: LossInputs, positive_cosine: tf.Tensor) -> tf.Tensor:
    """``logsumexp_j z_j0 - z_i0``: the article's softmax over the batch.

    Split as ``(z_max - z_i0) + log1p(the other terms)``, two parts that are not negative.
    """
    logits, is_outside, is_infinite = _logits_over_batch(inputs, positive_cosine)
    # An empty batch has no largest logit: a number far below any is added at the end.
    lowest = tf.fill([1], logits.dtype.min)
    present = tf.where(is_outside, logits.dtype.min, logits)
    padded = tf.concat([present, lowest], axis=0)
    index = tf.argmax(padded)
    largest = tf.gather(padded, index)  # [index] has XLA compile anew for each batch
    logits = tf.where(is_outside, largest, logits)
    rows = tf.range(tf.shape(logits)[0], dtype=index.dtype)
    is_other = tf.not_equal(rows, index) & ~is_outside
    terms = tf.where(is_other, tf.exp(logits - largest), tf.zeros_like(logits))
    row_loss = (largest - logits) + tf.math.log1p(tf.reduce_sum(terms))
    is_infinite |= row_loss > row_loss.dtype.max
    row_loss = tf.where(is_infinite, tf.zeros_like(row_loss), row_loss)
    return row_loss + infinity_where(is_infinite, row_loss.dtype)


def _logits_over_batch(
    inputs: LossInputs, positive_cosine: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """``z_i0``, the rows outside the softmax, and those of infinite loss.

    A row is outside if its own document is excluded, or if it holds NaN and has weight 0.
    """
    is_outside = tf.zeros_like(positive_cosine, tf.bool)
    is_wrong = is_outside
    if inputs.sample_weight is not None:
        is_nan = tf.math.is_nan(positive_cosine)
        is_outside |= is_nan & tf.equal(inputs.sample_weight, 0)
    if inputs.doc_log_q is not None:
        log_q = inputs.doc_log_q[: tf.shape(positive_cosine)[0]]
        is_excluded = _is_excluded(log_q)
        is_outside |= is_excluded
        is_wrong = ~tf.math.is_finite(log_q) & ~is_excluded
    cosine = tf.where(is_outside, tf.zeros_like(positive_cosine), positive_cosine)
    logits = inputs.logit_scale * (cosine - inputs.margin)
    if inputs.doc_log_q is not None:
        logits -= tf.stop_gradient(_numbers(log_q))
    is_wrong |= (tf.abs(logits) > logits.dtype.max) & ~is_outside
    is_infinite = is_outside | tf.reduce_any(is_wrong)
    return tf.where(is_infinite, tf.zeros_like(logits), logits), is_outside, is_infinite


# --- Weights and statistics -------------------------------------------------------------


def _of_counted(inputs: LossInputs, candidates: _Candidates) -> _Candidates:
    """Zeros in place of what the rows of weight 0 hold: they then have no gradient."""
    if inputs.sample_weight is None:
        return candidates
    counts = tf.not_equal(inputs.sample_weight, 0)[:, tf.newaxis]
    zeros = tf.zeros_like(candidates.differences)
    return candidates._replace(differences=tf.where(counts, candidates.differences, zeros))


def _weighted(
    inputs: LossInputs, row_loss: tf.Tensor, counted_loss: tf.Tensor
) -> tf.Tensor:
    """Row losses by their weights. A row of weight 0 adds nothing, whatever it holds."""
    weight = inputs.sample_weight
    if weight is None:
        return row_loss
    # The gradient of a weight of 0 is the row's loss, where that is a number.
    is_number = tf.math.is_finite(row_loss)
    of_others = tf.where(is_number, row_loss, tf.zeros_like(row_loss))
    counts = tf.not_equal(weight, 0)
    return weight * tf.where(counts, counted_loss, tf.stop_gradient(of_others))


def _statistics(
    inputs: LossInputs,
    positive_cosine: tf.Tensor,
    candidates: _Candidates,
    row_loss: tf.Tensor,
) -> NegativeCosineStats:
    logits = _relative_logits(inputs, candidates)
    # NaN counts as larger: what cannot be compared is no hit. Not "~(<=)", which the graphs
    # of TensorFlow turn into ">".
    is_above = (logits > _rounding(inputs)) | tf.math.is_nan(logits)
    is_above &= candidates.kept
    return NegativeCosineStats(
        row_loss=tf.stop_gradient(row_loss),
        positive_cosine=tf.stop_gradient(positive_cosine),
        num_kept=tf.reduce_sum(tf.cast(candidates.kept, tf.int32), axis=1),
        positive_rank=tf.reduce_sum(tf.cast(is_above, tf.int32), axis=1),
    )


def _rounding(inputs: LossInputs) -> tf.Tensor | float:
    """What the logits of equal documents may differ by.

    TensorFlow adds up equal rows of a matrix in different orders.
    """
    last_place = np.finfo(inputs.compute_dtype.as_numpy_dtype).eps
    return inputs.logit_scale * float(_ROUNDING_OF_A_PRODUCT * last_place)


def _reduce(inputs: LossInputs, weighted: tf.Tensor) -> tf.Tensor:
    if inputs.reduction == "none":
        return weighted
    total = tf.reduce_sum(weighted)
    if inputs.reduction == "sum":
        return total
    batch_size = tf.cast(tf.shape(weighted)[0], total.dtype)
    return tf.math.divide_no_nan(total, batch_size)
