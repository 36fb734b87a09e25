"""Recall, reciprocal rank and discounted gain of ranks, against their definitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import mean_reciprocal_rank, ndcg_at_k, recall_at_k

RANKS = np.random.default_rng(0).integers(0, 40, 300)
METRICS: dict[str, Callable[[Any], tf.Tensor]] = {
    "recall": lambda ranks: recall_at_k(ranks, 10),
    "mrr": mean_reciprocal_rank,
    "ndcg": lambda ranks: ndcg_at_k(ranks, 10),
}


def expected(name: str, ranks: Any) -> float:
    """The metric from one list of relevant places for each query."""
    values = []
    for rank in ranks:
        relevant = np.zeros(50)
        relevant[rank] = 1
        discounts = 1 / np.log2(np.arange(50) + 2)
        found = {
            "recall": relevant[:10].sum(),
            "mrr": (relevant / (np.arange(50) + 1)).sum(),
            "ndcg": (relevant * discounts)[:10].sum(),  # the ideal gain is 1
        }
        values.append(found[name])
    return float(np.mean(values))


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_the_mean_of_its_definition(name: str, dtype: Any) -> None:
    value = METRICS[name](RANKS.astype(dtype))
    assert value.dtype == tf.float32
    np.testing.assert_allclose(value, expected(name, RANKS), rtol=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_the_first_place_is_worth_1_and_the_largest_rank_nothing(name: str) -> None:
    assert float(METRICS[name]([0, 0])) == 1
    assert float(METRICS[name](tf.constant([2**63 - 1]))) < 1e-15


@pytest.mark.parametrize("name", METRICS)
def test_without_ranks_a_metric_is_nan(name: str) -> None:
    assert np.isnan(METRICS[name](np.zeros([0], np.int64)))


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_works_in_a_compiled_graph(name: str) -> None:
    compiled = tf.function(METRICS[name], autograph=False, jit_compile=True)
    np.testing.assert_allclose(
        compiled(tf.constant(RANKS)), expected(name, RANKS), rtol=1e-6
    )


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ([0.5], "ranks must be int32 or int64, got float32"),
        (np.zeros(3, np.uint8), r"got uint8; convert it with tf\.cast\(ranks"),
        ("first", "ranks must be int32 or int64, got string"),
    ],
)
def test_ranks_that_are_no_integers_are_refused(
    name: str, ranks: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        METRICS[name](ranks)


@pytest.mark.parametrize("metric", [recall_at_k, ndcg_at_k])
@pytest.mark.parametrize("k", [0, 1.0, True, None])
def test_a_k_that_counts_nothing_is_refused(metric: Any, k: Any) -> None:
    with pytest.raises(ValueError, match="k must be an integer from 1 to"):
        metric(RANKS, k)
