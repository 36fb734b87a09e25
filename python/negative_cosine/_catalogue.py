"""Ranks and best documents of a whole catalogue: the public functions."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from negative_cosine._autograph import without_autograph
from negative_cosine._best import best_documents
from negative_cosine._catalogue_inputs import check_catalogue, check_positive
from negative_cosine._options import check_count
from negative_cosine._ranks import RankCounts
from negative_cosine._runtime_checks import all_hold, asserted
from negative_cosine._tensors import to_tensor


@without_autograph
def retrieval_ranks(
    query: Any,
    positive: Any,
    corpus: Any,
    *,
    positive_ids: Any = None,
    corpus_ids: Any = None,
    excluded_ids: Any = None,
    similarity: str = "cosine",
    block_size: int | None = None,
) -> tf.Tensor:
    """How many documents of a catalogue score above each query's own document.

    The documents are scored in blocks, and counted: no ``[B, N]`` matrix is made, and
    nothing is sorted. With a rank r the document is among the first k if ``r < k``.

    A document that scores as high as the query's own does not count, so that the document
    itself and its copies in the corpus never do. Scores are equal if they differ by no more
    than the rounding of a sum: ``max(4, sqrt(D))`` units in the last place of the sum of
    ``abs(query * positive)``. NaN counts as above: what cannot be compared is no hit.

    Example:
        >>> query = [[1.0, 0.0], [0.0, 1.0]]
        >>> corpus = [[1.0, 0.1], [1.0, 1.0], [0.1, 1.0]]
        >>> retrieval_ranks(query, [[1.0, 1.0], [0.1, 1.0]], corpus).numpy().tolist()
        [1, 0]

    Args:
        query: ``[B, D]``, float16, bfloat16, float32 or float64.
        positive: ``[B, D]``, the same dtype: each query's own document.
        corpus: ``[N, D]``, the same dtype, or a ``tf.data.Dataset`` of blocks ``[n, D]``
            or of pairs ``(block, ids)``, for documents that do not fit into memory.
        positive_ids: int32 or int64 ``[B]``: documents with the positive's id do not count.
        corpus_ids: int32 or int64 ``[N]``, the documents' ids. None: their row numbers in
            the corpus.
        excluded_ids: int32 or int64 ``[B, E]``: documents that do not count for a query,
            such as those it was trained with. Pad short rows with an id of no document.
        similarity: ``"cosine"``, or ``"dot"`` for inner products.
        block_size: how many documents are scored at once. None: so many that the scores
            take 8 MB, and at least 64.

    Returns:
        int64 ``[B]``, from 0 to the number of documents that count. The scores are float64
        for float64 embeddings and float32 otherwise. A row of zeros has cosine 0 with
        everything, as in the loss.

    Raises:
        ValueError: an argument is wrong; the message names it, and what is allowed.
        tf.errors.InvalidArgumentError: the same, found in a running graph. Where XLA omits
            that check, every rank is the largest int64.

    Source:
        The rank among all documents, without sampled metrics: Krichene and Rendle, "On
        sampled metrics for item recommendation" (2020).
    """
    query, positive = to_tensor("query", query), to_tensor("positive", positive)
    inputs = check_catalogue(
        query,
        corpus,
        corpus_ids=corpus_ids,
        excluded_ids=excluded_ids,
        positive_ids=positive_ids,
        similarity=similarity,
        block_size=block_size,
    )
    checks = inputs.checks + check_positive(positive, query)
    with asserted(checks):
        ranks = RankCounts(inputs, positive).over_corpus()
        return tf.where(all_hold(checks), ranks, ranks.dtype.max) if checks else ranks


@without_autograph
def top_documents(
    query: Any,
    corpus: Any,
    k: int,
    *,
    corpus_ids: Any = None,
    excluded_ids: Any = None,
    similarity: str = "cosine",
    block_size: int | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The k documents of a catalogue that score highest for each query.

    Exact: every document is scored, in blocks. Up to some hundred thousand documents that
    serves a batch of queries; beyond, an index such as FAISS's or ScaNN's looks at a part
    of them: ``examples/vector_index.py`` fills one and measures what it misses.

    Example:
        >>> query = [[1.0, 0.0], [0.0, 1.0]]
        >>> corpus = [[1.0, 0.1], [1.0, 1.0], [0.1, 1.0]]
        >>> scores, ids = top_documents(query, corpus, k=2)
        >>> ids.numpy().tolist()
        [[0, 1], [2, 1]]

    Args:
        query: ``[B, D]``, float16, bfloat16, float32 or float64.
        corpus: ``[N, D]``, the same dtype, or a ``tf.data.Dataset`` of blocks ``[n, D]``
            or of pairs ``(block, ids)``.
        k: how many documents for each query.
        corpus_ids: int32 or int64 ``[N]``, the documents' ids. None: their row numbers in
            the corpus.
        excluded_ids: int32 or int64 ``[B, E]``: documents that a query does not get.
        similarity: ``"cosine"``, or ``"dot"`` for inner products.
        block_size: how many documents are scored at once. None: so many that the scores
            take 8 MB, and at least 64 and 4 k.

    Returns:
        ``(scores, ids)``, both ``[B, k]``, the highest score first, of equal scores the
        earlier document. The scores are float64 for float64 embeddings and float32
        otherwise, the ids int64. Where a query has fewer than k documents, the score is
        minus infinity and the id -1. A score of NaN is none.

    Raises:
        ValueError: an argument is wrong; the message names it, and what is allowed.
        tf.errors.InvalidArgumentError: the same, found in a running graph.

    Source:
        Exact search by matrix products and partial sorting, as in Johnson et al.,
        "Billion-scale similarity search with GPUs" (2017).
    """
    query = to_tensor("query", query)
    k = check_count("k", k)
    inputs = check_catalogue(
        query,
        corpus,
        corpus_ids=corpus_ids,
        excluded_ids=excluded_ids,
        positive_ids=None,
        similarity=similarity,
        block_size=block_size,
    )
    with asserted(inputs.checks):
        return best_documents(inputs, k)
