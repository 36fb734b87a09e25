"""What the layer's metrics count, and what they say where there is nothing to count."""

from __future__ import annotations

import math
import warnings
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import NegativeCosineLoss, fused_negative_cosine_loss
from negative_cosine._metrics import make_metrics, update_metrics
from negative_cosine._statistics import NegativeCosineStats

from tests.keras import keras_steps
from tests.support.cases import Array, Batch

RANKED = ("in_batch_accuracy", "recall_at_1", "recall_at_3")
WEIGHTED = ("negative_cosine_loss", "positive_cosine", *RANKED)


def results(layer: Any) -> dict[str, float]:
    return {metric.name: float(metric.result()) for metric in layer.metrics}


def judged(layer: NegativeCosineLoss, *batches: Any) -> dict[str, float]:
    """The metrics after an evaluation of the batches."""
    for inputs in batches:
        keras_steps.test_step(layer, inputs)
    return results(layer)


def rows(count: int, seed: int = 0) -> list[tf.Tensor]:
    random = np.random.default_rng(seed)
    return [tf.constant(random.normal(size=(count, 4)), tf.float32) for _ in range(2)]


# --- How many candidates a row has ------------------------------------------------------


@pytest.mark.parametrize(
    ("recall_at", "left_out", "kept"),
    [
        ((10,), "recall_at_10", []),
        ((1, 5, 6, 100), "recall_at_6, recall_at_100", ["recall_at_1", "recall_at_5"]),
    ],
)
def test_a_recall_beyond_k_is_left_out_with_one_warning(
    recall_at: Any, left_out: str, kept: list[str]
) -> None:
    with pytest.warns(UserWarning, match="recall_at") as caught:
        layer = NegativeCosineLoss(5, recall_at=recall_at)
    (warning,) = caught
    assert left_out in str(warning.message)
    assert "num_negatives = 5" in str(warning.message)
    assert warning.filename == __file__
    assert [name for name in results(layer) if "recall" in name] == kept
    assert layer.get_config()["recall_at"] == recall_at


def test_the_recalls_of_the_default_are_left_out_too() -> None:
    with pytest.warns(UserWarning, match="recall_at_10"):
        layer = NegativeCosineLoss(5)
    assert not [name for name in results(layer) if "recall" in name]


@pytest.mark.parametrize("options", [{"num_negatives": 10}, {"sampler": "all"}, {}])
def test_a_recall_that_k_may_allow_is_reported(options: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer = NegativeCosineLoss(**options)
    assert "recall_at_10" in results(layer)


def test_a_row_counts_where_it_kept_as_many_candidates_as_the_metric_asks_for() -> None:
    batch = Batch((64, 64, 8, 5), "float32")
    inputs: dict[str, Any] = {"query": batch.query, "doc": batch.doc}
    inputs["doc_ids"] = np.arange(64) % 2 * 7
    inputs["negative_indices"] = np.random.default_rng(1).integers(0, 64, [64, 4])
    _, stats = fused_negative_cosine_loss(**inputs, return_stats=True)
    kept, rank = stats.num_kept.numpy(), stats.positive_rank.numpy()
    assert {0, 1, 2, 3, 4} <= set(kept)
    layer = NegativeCosineLoss(recall_at=(1, 3))
    found = judged(layer, {name: tf.constant(value) for name, value in inputs.items()})
    assert found["in_batch_accuracy"] == pytest.approx((rank == 0)[kept >= 1].mean())
    assert found["recall_at_1"] == pytest.approx((rank < 1)[kept >= 1].mean())
    assert found["recall_at_3"] == pytest.approx((rank < 3)[kept >= 3].mean())
    assert found["positive_cosine"] == pytest.approx(stats.positive_cosine.numpy().mean())


def test_a_batch_too_small_for_a_recall_does_not_count_for_it() -> None:
    options: dict[str, Any] = {"sampler": "all", "recall_at": (1, 3)}
    large, small = rows(16), rows(3, seed=1)
    expected = judged(NegativeCosineLoss(**options), large)
    found = judged(NegativeCosineLoss(**options), large, small, rows(1))
    assert found["recall_at_3"] == expected["recall_at_3"]
    assert found["recall_at_1"] != expected["recall_at_1"]


def test_one_row_alone_says_nothing_of_the_ranking() -> None:
    layer = NegativeCosineLoss(sampler="all", recall_at=(1, 3))
    found = judged(layer, rows(1))
    assert all(math.isnan(found[name]) for name in RANKED)
    assert math.isfinite(found["positive_cosine"])
    assert found["dropped_share"] == 0


def test_before_anything_was_counted_a_metric_is_no_number() -> None:
    found = results(NegativeCosineLoss(sampler="all", recall_at=(1, 3)))
    assert all(math.isnan(found[name]) for name in WEIGHTED)


@pytest.mark.parametrize("settings", [{}, {"jit_compile": True}, {"run_eagerly": True}])
def test_evaluate_reports_a_metric_that_counted_nothing(settings: dict[str, Any]) -> None:
    query, doc = keras.Input([4]), keras.Input([4])
    layer = NegativeCosineLoss(sampler="all", recall_at=(3, 20))
    model = keras.Model([query, doc], layer([query, doc]))
    model.compile(**settings)
    found = model.evaluate([x.numpy() for x in rows(8)], verbose=0, return_dict=True)
    assert math.isnan(found["recall_at_20"])
    assert 0 < found["recall_at_3"] < 1


# --- Weights and rows that are no numbers -----------------------------------------------


def statistics(**changed: Any) -> NegativeCosineStats:
    """Of four rows, as the loss returns them."""
    values: dict[str, Array] = {
        "row_loss": np.array([1.0, 2.0, 3.0, 4.0], np.float32),
        "positive_cosine": np.array([0.1, 0.2, 0.3, 0.4], np.float32),
        "num_kept": np.array([5, 5, 5, 5], np.int32),
        "positive_rank": np.array([0, 1, 2, 3], np.int32),
    }
    values.update(changed)
    return NegativeCosineStats(**{n: tf.constant(rows) for n, rows in values.items()})


def counted(stats: NegativeCosineStats, weight: Any = None) -> dict[str, float]:
    metrics = make_metrics("", (1, 3))
    weight = None if weight is None else tf.constant(weight, tf.float32)
    update_metrics(metrics, (1, 3), stats, tf.constant(5), weight)
    return {name: float(metric.result()) for name, metric in metrics.items()}


NAN_IN_LAST = {
    "row_loss": np.array([1, 2, 3, np.nan], np.float32),
    "positive_cosine": np.array([0.1, 0.2, 0.3, np.nan], np.float32),
}


def test_a_row_of_weight_zero_may_hold_anything() -> None:
    weight = [1.0, 2.0, 0.5, 0.0]
    assert counted(statistics(**NAN_IN_LAST), weight) == counted(statistics(), weight)
    infinite = {"row_loss": np.array([1, 2, 3, np.inf], np.float32)}
    assert counted(statistics(**infinite), weight) == counted(statistics(), weight)


def test_where_every_weight_is_zero_nothing_was_counted() -> None:
    found = counted(statistics(), [0.0] * 4)
    assert all(math.isnan(found[name]) for name in WEIGHTED)
    assert found["dropped_share"] == 0


@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 0.5, 0.1]])
def test_a_row_that_counts_and_is_no_number_shows_in_every_metric(weight: Any) -> None:
    """Its rank is 0, which looks like a positive that was found."""
    rank = {"positive_rank": np.array([0, 1, 2, 0], np.int32)}
    found = counted(statistics(**NAN_IN_LAST, **rank), weight)
    assert all(math.isnan(found[name]) for name in WEIGHTED)


def test_a_padded_row_without_numbers_changes_no_metric_of_the_layer() -> None:
    query, doc = (x.numpy() for x in rows(6))
    weight = np.array([1, 2, 1, 1, 0.5, 0], np.float32)
    table = np.array([[1, 2], [2, 3], [3, 4], [4, 0], [0, 1], [0, 1]])
    expected: dict[str, float] | None = None
    for value in (0.5, np.nan):
        query[5] = doc[5] = value
        inputs = {
            "query": query,
            "doc": doc,
            "sample_weight": weight,
            "negative_indices": table,
        }
        layer = NegativeCosineLoss(recall_at=(1,))
        found = judged(layer, {name: tf.constant(x) for name, x in inputs.items()})
        expected = expected or found
        assert found == pytest.approx(expected)
    assert all(math.isfinite(value) for value in found.values())
