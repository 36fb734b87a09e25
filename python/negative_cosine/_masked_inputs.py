"""Rows that Keras masks: left out of the loss, and of everybody's candidates.

A layer such as ``Embedding(mask_zero=True)`` tells the layers behind it by a boolean for
each row which rows are none. Here a mask becomes what the loss knows already: the weight 0
of a row, and the ``doc_log_q`` of a document that nobody draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from negative_cosine._inputs import check_floats, compute_dtype_of
from negative_cosine._known_sizes import known_size
from negative_cosine._masks import check_mask
from negative_cosine._queue import EMPTY_SLOT_LOG_Q


def leave_masked_out(
    named: Mapping[str, Any], masks: Mapping[str, Any]
) -> tuple[Mapping[str, Any], tf.Tensor | None]:
    """The layer's inputs, in which the masked rows neither count nor are candidates.

    A row counts if neither its query nor its own document is masked: the booleans ``[B]``,
    None without masks.
    """
    if masks["query"] is None and masks["doc"] is None:
        return named, None
    query, doc = (tf.convert_to_tensor(named[name]) for name in ("query", "doc"))
    query_mask = check_mask("query", masks["query"], query)
    doc_mask = check_mask("doc", masks["doc"], doc)
    counts = tf.ones(tf.shape(query)[:1], tf.bool) if query_mask is None else query_mask
    changed: dict[str, Any] = {}
    if doc_mask is not None:
        counts = tf.logical_and(counts, doc_mask[: tf.shape(query)[0]])
        changed["doc_log_q"] = _of_candidates(named.get("doc_log_q"), doc, doc_mask)
    changed["sample_weight"] = _of_counted(named.get("sample_weight"), query, counts)
    return {**named, **changed}, counts


def mean_over_counted(mean: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """A mean over all rows as one over those that count, as Keras's own losses are."""
    rows = tf.cast(tf.size(counts), mean.dtype)
    counted = tf.reduce_sum(tf.cast(counts, mean.dtype))
    return mean * tf.math.divide_no_nan(rows, counted)


def _of_candidates(log_q: Any, doc: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    dtype = compute_dtype_of(doc.dtype)
    own = check_floats("doc_log_q", log_q, known_size(doc, 0), "doc", dtype)
    if own is None:
        own = tf.zeros(tf.shape(doc)[:1], dtype)
    return tf.where(mask, own, tf.fill(tf.shape(own), tf.constant(EMPTY_SLOT_LOG_Q, dtype)))


def _of_counted(weight: Any, query: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Not by a product: a masked row's weight may be anything, NaN included."""
    dtype = compute_dtype_of(query.dtype)
    own = check_floats("sample_weight", weight, known_size(query, 0), "query", dtype)
    if own is None:
        own = tf.ones(tf.shape(query)[:1], dtype)
    return tf.where(counts, own, tf.zeros_like(own))
