"""Counts the documents above each query's own, block by block."""

from __future__ import annotations

import tensorflow as tf

from negative_cosine._blocks import (
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
from negative_cosine._scores import every_score, highest_equal, scored_rows

Counts = tuple[tf.Tensor]  # int64 [B]


class RankCounts:
    """The queries, ready to be compared with documents as they come."""

    def __init__(self, inputs: CatalogueInputs, positive: tf.Tensor) -> None:
        self.inputs = inputs
        self.query = scored_rows(inputs.query, inputs.similarity, inputs.compute_dtype)
        own = scored_rows(positive, inputs.similarity, inputs.compute_dtype)
        self.highest_equal = highest_equal(self.query, own)
        self.excluded = excluded_ids_of(*inputs.excluded)
        self.start: Counts = (tf.zeros_like(self.highest_equal, tf.int64),)

    def add(self, counts: Counts, doc: tf.Tensor, ids: tf.Tensor) -> Counts:
        """The counts after further documents."""
        return _count_above(
            counts,
            self.query,
            self.highest_equal,
            self.excluded,
            doc,
            ids,
            self.inputs.similarity,
            self.inputs.block_size,
        )

    def over_corpus(self) -> tf.Tensor:
        """The ranks among the documents of the inputs."""
        (ranks,) = fold_corpus(self.add, self.start, self.inputs.corpus)
        return ranks


@as_one_graph
def _count_above(
    counts: Counts,
    query: tf.Tensor,
    highest_equal: tf.Tensor,
    excluded: ExcludedIds | None,
    doc: tf.Tensor,
    ids: tf.Tensor,
    similarity: str,
    block_size: int | None,
) -> Counts:
    def step(counts: Counts, start: Size, size: Size) -> Counts:
        rows = scored_rows(rows_of(doc, start, size), similarity, query.dtype)
        scores = every_score(query, rows)
        # Of those that are not above, so that a comparison with NaN counts.
        is_low = scores <= highest_equal[:, tf.newaxis]
        low = tf.reduce_sum(tf.cast(is_low, tf.float32), axis=1)
        counts = (counts[0] + tf.cast(size, tf.int64) - tf.cast(low, tf.int64),)
        if excluded is None:
            return counts
        if not isinstance(size, int):  # it may be 0, of which XLA gathers nothing
            is_low = tf.pad(is_low, [[0, 0], [0, 1]])

        def take_back(counts: Counts, columns: tf.Tensor, found: tf.Tensor) -> Counts:
            was_above = found & ~tf.gather(is_low, columns, batch_dims=1)
            return (counts[0] - tf.reduce_sum(tf.cast(was_above, tf.int64), axis=1),)

        return fold_excluded(take_back, counts, excluded, rows_of(ids, start, size))

    block = docs_in_block(query, block_size)
    return fold_blocks(step, counts, size_of(doc, 0), block)
