"""Rows that Keras masks: they have weight 0, and their documents are excluded.

A layer such as ``Embedding(mask_zero=True)`` tells the layers after it, by a boolean for
each row, which rows are padding. Here a mask becomes what the loss knows already: weight 0
for a row, and an infinite ``doc_log_q`` for a document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from negative_cosine._known_sizes import known_size
from negative_cosine._masks import check_mask
from negative_cosine._queue import EMPTY_SLOT_LOG_Q
from negative_cosine._row_inputs import check_floats, check_weight
from negative_cosine._tensors import compute_dtype_of


def leave_masked_out(
    named: Mapping[str, Any], masks: Mapping[str, Any]
) -> tuple[Mapping[str, Any], tf.Tensor | None]:
    """The layer's inputs, in which masked rows have weight 0 and are no candidates.

    A row counts if neither its query nor its own document is masked: the booleans ``[B]``,
    None without masks.
    """
    if masks["query"] is None and masks["doc"] is None:
        return named, None
    query, doc = (tf.convert_to_tensor(named[name]) for name in ("query", "doc"))
    query_mask = check_mask("query", masks["query"], query)
    doc_mask = check_mask("doc", masks["doc"], doc)
    counts = tf.ones(tf.shape(query)[:1], tf.bool) if query_mask is None else query_mask
    dtype = compute_dtype_of(query.dtype)
    changed: dict[str, Any] = {}
    if doc_mask is not None:
        counts = tf.logical_and(counts, doc_mask[: tf.shape(query)[0]])
        docs = known_size(doc, 0)
        log_q = check_floats("doc_log_q", named.get("doc_log_q"), docs, "doc", dtype)
        changed["doc_log_q"] = _unless_masked(doc_mask, log_q, 0.0, EMPTY_SLOT_LOG_Q, dtype)
    weight = check_weight(named.get("sample_weight"), known_size(query, 0), dtype)
    changed["sample_weight"] = _unless_masked(counts, weight, 1.0, 0.0, dtype)
    return {**named, **changed}, counts


def _unless_masked(
    mask: tf.Tensor, values: Any, default: float, masked: float, dtype: tf.DType
) -> tf.Tensor:
    """Values, or their default, with another one for the rows whose mask is False.

    Not by a product: a masked row may hold anything, NaN included.
    """
    if values is None:
        values = tf.fill(tf.shape(mask), tf.constant(default, dtype))
    return tf.where(mask, values, tf.constant(masked, dtype))


def mean_over_counted(mean: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """A mean over all rows as one over those that count, as Keras's own losses are."""
    rows = tf.cast(tf.size(counts), mean.dtype)
    counted = tf.reduce_sum(tf.cast(counts, mean.dtype))
    return mean * tf.math.divide_no_nan(rows, counted)
