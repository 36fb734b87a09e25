"""The best documents so far, block by block, and the documents that score highest."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from negative_cosine._blocks import (
    FEWEST_DOCS,
    Size,
    as_one_graph,
    docs_in_block,
    fold_blocks,
    rows_of,
    size_of,
)
from negative_cosine._catalogue_inputs import CatalogueInputs
from negative_cosine._corpus import fold_corpus
from negative_cosine._excluded_ids import ExcludedIds, excluded_ids_of, fold_excluded
from negative_cosine._known_sizes import known_size
from negative_cosine._scores import every_score, scored_rows

Best = tuple[tf.Tensor, tf.Tensor]  # scores and ids, both [B, k], the highest first

NO_SCORE = -math.inf
NO_ID = -1
# A block of fewer documents than this times k costs more in merging than in scores.
_DOCS_A_PLACE = 4


def no_documents(query: tf.Tensor, k: Size, dtype: tf.DType) -> Best:
    """The best of nothing."""
    shape = tf.stack([size_of(query, 0), k])
    scores = tf.fill(shape, tf.constant(NO_SCORE, query.dtype))
    ids = tf.fill(shape, tf.constant(NO_ID, dtype))
    known = [known_size(query, 0), k]
    return tf.ensure_shape(scores, known), tf.ensure_shape(ids, known)


def docs_for_best(query: tf.Tensor, block_size: int | None, k: int) -> Size:
    """How many documents are scored at once to find the best k."""
    return docs_in_block(query, block_size, max(FEWEST_DOCS, _DOCS_A_PLACE * k))


def with_better(best: Best, scores: tf.Tensor, ids: tf.Tensor) -> Best:
    """The best of what there was and a block: scores ``[B, n]`` and ids ``[n]``.

    Of equal scores the earlier document stays first, as ``top_k`` orders equal elements.
    """
    k = tf.shape(best[0])[1]
    found, columns = tf.math.top_k(scores, tf.minimum(k, tf.shape(scores)[1]))
    scores = tf.concat([best[0], found], axis=1)
    ids = tf.concat([best[1], tf.gather(ids, columns)], axis=1)
    scores, columns = tf.math.top_k(scores, k)
    ids = tf.gather(ids, columns, batch_dims=1)
    return scores, tf.where(scores > NO_SCORE, ids, NO_ID)


def best_documents(inputs: CatalogueInputs, k: int) -> Best:
    """The k documents that score highest."""
    query = scored_rows(inputs.query, inputs.similarity, inputs.compute_dtype)
    query = tf.stop_gradient(query)
    excluded = excluded_ids_of(*inputs.excluded)

    def add(best: Best, doc: tf.Tensor, ids: tf.Tensor) -> Best:
        doc = tf.stop_gradient(doc)
        options = (inputs.similarity, docs_for_best(query, inputs.block_size, k))
        return _add_documents(best, query, excluded, doc, ids, *options)

    return fold_corpus(add, no_documents(query, k, tf.int64), inputs.corpus)


@as_one_graph
def _add_documents(
    best: Best,
    query: tf.Tensor,
    excluded: ExcludedIds | None,
    doc: tf.Tensor,
    ids: tf.Tensor,
    similarity: str,
    block: Size,
) -> Best:
    def step(best: Best, start: Size, size: Size) -> Best:
        rows = scored_rows(rows_of(doc, start, size), similarity, query.dtype)
        block_ids = rows_of(ids, start, size)
        scores = without_nan(every_score(query, rows))
        if excluded is not None:
            if not isinstance(size, int):  # it may be 0, into which XLA scatters nothing
                scores = tf.pad(scores, [[0, 0], [0, 1]], constant_values=NO_SCORE)
                block_ids = tf.pad(block_ids, [[0, 1]], constant_values=NO_ID)
            (scores,) = fold_excluded(_leave_out, (scores,), excluded, block_ids)
        return with_better(best, scores, block_ids)

    return fold_blocks(step, best, size_of(doc, 0), block)


def without_nan(scores: tf.Tensor) -> tf.Tensor:
    """No score in the place of NaN."""
    return tf.where(tf.math.is_nan(scores), tf.constant(NO_SCORE, scores.dtype), scores)


def _leave_out(scores: tuple[Any], columns: tf.Tensor, found: tf.Tensor) -> tuple[Any]:
    rows = tf.range(tf.shape(columns)[0])[:, tf.newaxis]
    places = tf.stack([tf.broadcast_to(rows, tf.shape(columns)), columns], axis=2)
    none = tf.constant(NO_SCORE, scores[0].dtype)
    return (tf.tensor_scatter_nd_min(scores[0], places, tf.where(found, none, -none)),)
