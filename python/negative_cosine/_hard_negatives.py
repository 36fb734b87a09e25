"""The hardest negatives of a batch: the documents that the loss would push away most."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from negative_cosine._autograph import without_autograph
from negative_cosine._best import (
    NO_ID,
    NO_SCORE,
    Best,
    docs_for_best,
    no_documents,
    with_better,
)
from negative_cosine._blocks import Size, as_one_graph, fold_blocks, rows_of, size_of
from negative_cosine._inputs import LossInputs, check_inputs
from negative_cosine._options import (
    MOST,
    check_count,
    check_margin,
    is_integer,
    without_array,
)
from negative_cosine._runtime_checks import all_hold, asserted
from negative_cosine._scores import every_score, lowest_equal, scored_rows
from negative_cosine._size_checks import size_checks
from negative_cosine._value_checks import value_checks


@without_autograph
def hardest_negatives(
    query: Any,
    doc: Any,
    k: int,
    *,
    doc_ids: Any = None,
    query_ids: Any = None,
    doc_log_q: Any = None,
    scale: Any = 20.0,
    temperature: Any = 1.0,
    range_min: int = 0,
    absolute_margin: float | None = None,
    block_size: int | None = None,
) -> tf.Tensor:
    """The k documents of a batch with the largest logits for each query, but its own.

    Give them to ``fused_negative_cosine_loss`` as ``negative_indices``, with the same ids
    and ``doc_log_q``. The documents are scored in blocks: no ``[B, C]`` matrix is made. The
    choice has no gradient.

    A query that has fewer than k candidates gets its own row number in the other places:
    the loss drops it with ``mask_self``, its default. A logit of NaN counts as the largest,
    so that the loss shows it.

    Semi-hard negatives: ``range_min`` skips the hardest, which may be positives that nobody
    clicked, and ``absolute_margin`` those as similar as the positive.

    Example:
        >>> query = [[1.0, 0.0], [0.0, 1.0]]
        >>> doc = [[1.0, 0.1], [0.1, 1.0], [1.0, 1.0], [-1.0, 0.0]]
        >>> hardest_negatives(query, doc, k=2).numpy().tolist()
        [[2, 1], [2, 0]]

    Args:
        query: ``[B, D]``, float16, bfloat16, float32 or float64.
        doc: ``[C, D]``, the same dtype, ``C >= B``; row ``i < B`` is query i's positive.
        k: how many documents for each query.
        doc_ids: int32 or int64 ``[C]``: none with the positive's id is chosen.
        query_ids: int32 or int64 ``[B]``: none that was clicked for the same query is.
        doc_log_q: float ``[C]``, log sampling probabilities, subtracted from the logits.
            Infinity excludes a document.
        scale: a number above 0, or a scalar tensor; it matters with ``doc_log_q`` alone.
        temperature: the same; cosines are multiplied by ``scale / temperature``.
        range_min: how many of the hardest are skipped.
        absolute_margin: a candidate's cosine must be below the positive's by more; the
            others are not counted among those that ``range_min`` skips. None: any cosine.
        block_size: how many documents are scored at once. None: so many that the scores
            take 8 MB, and at least 64 and 4 k.

    Returns:
        int32 ``[B, k]``, the largest logit first, of equal logits the earlier document.

    Raises:
        ValueError: an argument is wrong; the message names it, and what is allowed.
        tf.errors.InvalidArgumentError: the same, found in a running graph. Where XLA omits
            that check, every index is -1, which the loss refuses or drops.

    Source:
        ``num_hard_negatives`` of TensorFlow Recommenders' retrieval task, which keeps the
        largest logits of a matrix; ``range_min`` and ``absolute_margin`` are those of
        sentence-transformers' ``mine_hard_negatives``. Semi-hard negatives: Schroff et al.,
        "FaceNet: A unified embedding for face recognition and clustering" (2015).
    """
    inputs = check_inputs(
        query,
        doc,
        None,
        negative_indices=None,
        sampler="all",
        seed=None,
        scale=scale,
        temperature=temperature,
        margin=0.0,
        negative_weight=1.0,
        mask_self=True,
        doc_ids=doc_ids,
        query_ids=query_ids,
        doc_log_q=doc_log_q,
        sample_weight=None,
        normalize_over="candidates",
        reduction="mean",
        cross_replica=False,
    )
    k = check_count("k", k)
    range_min = _check_range_min(range_min, k)
    if block_size is not None:
        block_size = check_count("block_size", block_size)
    sizes = size_checks(inputs)
    with asserted(sizes + value_checks(inputs)):
        found = _hardest(inputs, k, range_min, _check_margin(absolute_margin), block_size)
        return tf.where(all_hold(sizes), found, NO_ID) if sizes else found


def _check_range_min(value: Any, k: int) -> int:
    count = without_array(value)
    if not is_integer(count) or not 0 <= count <= MOST - k:
        raise ValueError(
            f"range_min must be an integer from 0 to 2**31 - 1 - k, got {value!r}"
        )
    return int(count)


def _check_margin(value: Any) -> float | None:
    return None if value is None else check_margin(value, tf.float32, "absolute_margin")


def _hardest(
    inputs: LossInputs,
    k: int,
    range_min: int,
    absolute_margin: float | None,
    block_size: int | None,
) -> tf.Tensor:
    query = tf.stop_gradient(scored_rows(inputs.query, "cosine", inputs.compute_dtype))
    rows = tf.shape(query)[0]
    too_high = None
    if absolute_margin is not None:
        positive = scored_rows(inputs.doc[:rows], "cosine", inputs.compute_dtype)
        too_high = lowest_equal(query, tf.stop_gradient(positive)) - absolute_margin
    places = k + range_min
    _, found = _best_of_batch(
        no_documents(query, places, tf.int32),
        query,
        tf.stop_gradient(inputs.doc),
        tf.cast(inputs.logit_scale, query.dtype),
        inputs.doc_ids,
        inputs.query_ids,
        inputs.doc_log_q,
        too_high,
        docs_for_best(query, block_size, places),
    )
    found = found[:, range_min:]
    return tf.where(found >= 0, found, tf.range(rows)[:, tf.newaxis])


@as_one_graph
def _best_of_batch(
    best: Best,
    query: tf.Tensor,
    doc: tf.Tensor,
    logit_scale: tf.Tensor,
    doc_ids: tf.Tensor | None,
    query_ids: tf.Tensor | None,
    log_q: tf.Tensor | None,
    too_high: tf.Tensor | None,
    block: Size,
) -> Best:
    queries = tf.shape(query)[0]
    rows = tf.range(queries)[:, tf.newaxis]

    def is_candidate(columns: tf.Tensor, cosines: tf.Tensor) -> tf.Tensor:
        """docs/semantics.md, "Dropped candidates"; and by the margin."""
        kept = tf.not_equal(columns, rows)
        if doc_ids is not None:
            kept &= tf.not_equal(tf.gather(doc_ids, columns), tf.gather(doc_ids, rows))
        if query_ids is not None:
            is_positive = columns < queries
            clicked_by = tf.gather(query_ids, tf.where(is_positive, columns, 0))
            kept &= ~is_positive | tf.not_equal(clicked_by, query_ids[:, tf.newaxis])
        if log_q is not None:
            kept &= tf.gather(log_q, columns) <= log_q.dtype.max
        if too_high is not None:
            # Not "~(>=)", which TensorFlow's graphs turn into "<", false for NaN.
            below = cosines - too_high[:, tf.newaxis]
            kept &= (below < 0) | tf.math.is_nan(below)
        return kept

    def step(best: Best, start: Size, size: Size) -> Best:
        columns = start + tf.range(size)
        block_rows = scored_rows(rows_of(doc, start, size), "cosine", query.dtype)
        cosines = every_score(query, block_rows)
        logits = cosines
        if log_q is not None:
            logits = logit_scale * cosines - tf.gather(log_q, columns)
        largest, none = (tf.constant(x, query.dtype) for x in (math.inf, NO_SCORE))
        logits = tf.where(tf.math.is_nan(logits), largest, logits)
        kept = is_candidate(columns, cosines)
        return with_better(best, tf.where(kept, logits, none), columns)

    return fold_blocks(step, best, size_of(doc, 0), block)
