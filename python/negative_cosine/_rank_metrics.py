"""Metrics of retrieval, from the ranks of each query's one right document."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from negative_cosine._autograph import without_autograph
from negative_cosine._options import check_count
from negative_cosine._tensors import INDEX_DTYPES, how_to_cast, to_tensor


@without_autograph
def recall_at_k(ranks: Any, k: int) -> tf.Tensor:
    """The share of the queries whose document is among the first k.

    Example:
        >>> float(recall_at_k([0, 4, 10, 99], k=10))
        0.5

    Args:
        ranks: int32 or int64, of any shape, from 0: what ``retrieval_ranks`` returns.
        k: how many documents a query gets.

    Returns:
        A float32 scalar, NaN without ranks.

    Raises:
        ValueError: an argument is wrong; the message names it, and what is allowed.

    Source:
        The hit rate of one relevant document a query, as in Krichene and Rendle, "On
        sampled metrics for item recommendation" (2020), whose formulas these three are.
    """
    return _mean(tf.cast(_check_ranks(ranks) < check_count("k", k), tf.float64))


@without_autograph
def mean_reciprocal_rank(ranks: Any) -> tf.Tensor:
    """The mean of ``1 / (rank + 1)``.

    Example:
        >>> float(mean_reciprocal_rank([0, 1, 3]))
        0.5833333134651184

    Args:
        ranks: int32 or int64, of any shape, from 0: what ``retrieval_ranks`` returns.

    Returns:
        A float32 scalar, NaN without ranks.

    Raises:
        ValueError: the ranks are wrong; the message says what is allowed.

    Source:
        As for ``recall_at_k``.
    """
    return _mean(1 / _places(_check_ranks(ranks)))


@without_autograph
def ndcg_at_k(ranks: Any, k: int) -> tf.Tensor:
    """The mean of ``1 / log2(rank + 2)``, and 0 for a document not among the first k.

    That is the normalised discounted cumulative gain of one relevant document a query.

    Example:
        >>> float(ndcg_at_k([0, 2, 10], k=10))
        0.5

    Args:
        ranks: int32 or int64, of any shape, from 0: what ``retrieval_ranks`` returns.
        k: how many documents a query gets.

    Returns:
        A float32 scalar, NaN without ranks.

    Raises:
        ValueError: an argument is wrong; the message names it, and what is allowed.

    Source:
        As for ``recall_at_k``.
    """
    ranks = _check_ranks(ranks)
    gain = math.log(2) / tf.math.log1p(_places(ranks))
    return _mean(tf.where(ranks < check_count("k", k), gain, tf.zeros_like(gain)))


def _check_ranks(ranks: Any) -> tf.Tensor:
    tensor = to_tensor("ranks", ranks)
    if tensor.dtype not in INDEX_DTYPES:
        raise ValueError(
            f"ranks must be int32 or int64, got {tensor.dtype.name}"
            f"{how_to_cast('ranks', tensor.dtype)}"
        )
    return tf.cast(tensor, tf.int64)


def _places(ranks: tf.Tensor) -> tf.Tensor:
    """From 1, in float64; not as an integer, which the largest rank would overflow."""
    return tf.cast(ranks, tf.float64) + 1


def _mean(values: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.reduce_mean(values), tf.float32)
