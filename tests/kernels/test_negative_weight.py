"""The negatives' weight in every kernel: it is where the shift of a row's sums starts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.cases import (
    DTYPES,
    Array,
    Batch,
    assert_gradients_close,
    assert_values_close,
    run_oracle,
)
from tests.support.cores import Core

SOURCES = pytest.mark.parametrize("source", ["shuffle", "ring", "all", "indices"])
DTYPE = pytest.mark.parametrize("dtype", DTYPES)
SIZES = (37, 41, 20, 35)  # more than a panel, no whole one


def near(batch: Batch) -> Batch:
    """Positives that some candidates beat and others do not."""
    batch.doc[: batch.rows] = batch.query + 2 * batch.doc[: batch.rows]
    return batch


# With the first scale no logit asks for a running maximum, but for the weight.
@pytest.mark.parametrize("scale", [0.5, 15.0, 150.0])
@pytest.mark.parametrize("weight", [1e-30, 1e-3, 1e3, 1e30])
@DTYPE
@SOURCES
def test_a_huge_or_tiny_weight_matches_the_oracle(
    core: Core, source: str, dtype: str, weight: float, scale: float
) -> None:
    batch = near(Batch(SIZES, dtype))
    options: dict[str, Any] = batch.only("sample_weight", "doc_ids")
    options |= {"scale": scale, "negative_weight": weight}
    expected = run_oracle(batch, source, options)
    results = core.run(batch, source, options, **core.varied(batch))
    slack = max(1.0, (scale + abs(np.log(weight))) / 20)
    assert_values_close(results, expected, dtype, slack)
    assert_gradients_close(results, expected, dtype, slack)


@DTYPE
@SOURCES
def test_rows_that_a_running_maximum_follows_take_a_weight_too(
    core: Core, source: str, dtype: str
) -> None:
    # logQ asks for a running maximum, and so does a large margin.
    batch = near(Batch(SIZES, dtype))
    options = batch.only("doc_log_q", "sample_weight", "doc_ids") | {"margin": -2.5}
    core.check(batch, source, {**options, "negative_weight": 40.0})


@pytest.mark.parametrize("weight", [1e-30, 1e30])
@DTYPE
@SOURCES
def test_a_weight_takes_logits_out_of_the_range_that_needs_no_maximum(
    core: Core, source: str, dtype: str, weight: float
) -> None:
    # Cosines of -1 and 1 at a scale of 19: the logits' largest difference is 38, and with
    # the weight the exponentials would leave float32.
    batch = Batch(SIZES, dtype)
    batch.query[:] = batch.query[:1]
    batch.doc[:] = batch.query[:1]
    batch.doc[: batch.rows] *= -1
    options: dict[str, Any] = {"scale": 19.0, "negative_weight": weight}
    expected = run_oracle(batch, source, options)
    results = core.run(batch, source, options)
    assert_values_close(results, expected, dtype, 4.0)
    assert_gradients_close(results, expected, dtype, 4.0)


@DTYPE
@pytest.mark.parametrize("source", ["shuffle", "ring", "all"])
def test_auto_is_the_documents_that_could_be_drawn_over_k(
    core: Core, source: str, dtype: str
) -> None:
    batch = Batch((37, 60, 20, 7), dtype)
    core.check(batch, source, {"negative_weight": "auto", **batch.only("doc_ids")})


@DTYPE
@SOURCES
def test_a_weight_of_one_is_the_default_and_none_changes_the_ranks(
    core: Core, source: str, dtype: str
) -> None:
    batch = near(Batch(SIZES, dtype))
    plain = core.run(batch, source, {})
    assert 0 < plain["positive_rank"].sum() < plain["num_kept"].sum()
    for weight in (1.0, 1e-30, 1e30):
        results: dict[str, Array] = core.run(batch, source, {"negative_weight": weight})
        names = plain if weight == 1 else ("positive_rank", "num_kept", "positive_cosine")
        for name in names:
            np.testing.assert_array_equal(results[name], plain[name], err_msg=name)


@pytest.mark.parametrize("weight", [1e-30, 1e30])
@DTYPE
@SOURCES
def test_a_row_without_negatives_has_loss_and_gradients_of_zero(
    core: Core, source: str, dtype: str, weight: float
) -> None:
    batch = Batch(SIZES, dtype)
    options = {"doc_ids": np.zeros(batch.docs, np.int32), "negative_weight": weight}
    results = core.run(batch, source, options)
    for name in ("row_loss", "query_gradient", "doc_gradient", "logit_scale_gradient"):
        np.testing.assert_array_equal(results[name].astype(float), 0, err_msg=name)


@SOURCES
def test_the_weight_leaves_infinite_losses_infinite(core: Core, source: str) -> None:
    batch = Batch((1, 41, 64, 35), "float32")
    results = core.run(batch, source, {"margin": 1e38, "negative_weight": 1e-30})
    assert np.isposinf(results["loss"])
    for name in ("query_gradient", "doc_gradient", "logit_scale_gradient"):
        np.testing.assert_array_equal(results[name], 0, name)
