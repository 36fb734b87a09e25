"""What adds nothing: rows of weight 0, documents that are nobody's candidate.

And what is infinite: the loss of a row whose logits leave the numbers.
"""

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
from tests.support.cores import ON_CPU, ON_CUDA, Core

SOURCES = pytest.mark.parametrize("source", ["shuffle", "ring", "all", "indices"])
NORMALIZE_OVER = pytest.mark.parametrize("normalize_over", ["candidates", "batch"])
REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "none"])
SIZES = pytest.mark.parametrize("dim", [33, 64, 600])

ROWS, DOCS, K = 37, 41, 35
# Two rows of the batch, and two documents that are nobody's positive.
LEFT_OUT_ROWS, LEFT_OUT_DOCS = [3, 20], [38, 40]


def make_batch(dim: int, dtype: str = "float32") -> Batch:
    return Batch((ROWS, DOCS, dim, K), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@REDUCTIONS
@NORMALIZE_OVER
@SIZES
@SOURCES
def test_a_row_of_weight_zero_adds_nothing_to_loss_and_gradients(
    core: Core, source: str, dim: int, normalize_over: str, reduction: str, dtype: str
) -> None:
    batch = make_batch(dim, dtype)
    options = {
        **batch.only("sample_weight", "doc_log_q"),
        "normalize_over": normalize_over,
        "reduction": reduction,
    }
    options["sample_weight"][LEFT_OUT_ROWS] = 0
    core.check(batch, source, options)
    results = core.run(batch, source, options)
    assert (results["query_gradient"][LEFT_OUT_ROWS] != 0).any() == (
        normalize_over == "batch"  # there it is one of the others' positives
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@NORMALIZE_OVER
@SIZES
@SOURCES
def test_a_query_of_weight_zero_may_hold_nan(
    core: Core, source: str, dim: int, normalize_over: str, bad: float
) -> None:
    batch = make_batch(dim)
    options = {**batch.only("sample_weight"), "normalize_over": normalize_over}
    options["sample_weight"][LEFT_OUT_ROWS] = 0
    expected = run_oracle(batch, source, options)
    if normalize_over == "batch":
        # The row is not among the others' positives: in the judge by its logQ.
        log_q = np.zeros(DOCS)
        log_q[LEFT_OUT_ROWS] = np.inf
        without = run_oracle(batch, source, {**options, "doc_log_q": log_q})
        expected = without._replace(num_kept=expected.num_kept, logits=expected.logits)
    batch.query[LEFT_OUT_ROWS] = bad
    results = core.run(batch, source, options)
    assert_equal_but_for(results, expected, LEFT_OUT_ROWS)


@pytest.mark.parametrize("dtype", DTYPES)
@SIZES
@SOURCES
def test_a_document_of_infinite_log_q_is_nobodys_candidate(
    core: Core, source: str, dim: int, dtype: str
) -> None:
    batch = make_batch(dim, dtype)
    options = batch.only("doc_log_q", "doc_ids")
    options["doc_log_q"][LEFT_OUT_DOCS] = np.inf
    core.check(batch, source, options)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@NORMALIZE_OVER
@SIZES
@SOURCES
def test_a_padded_batch_is_the_batch_without_its_padding(
    core: Core, source: str, dim: int, normalize_over: str, bad: float
) -> None:
    # Rows of NaN, of weight 0, whose documents are nobody's candidates.
    batch = make_batch(dim)
    options = {
        **batch.only("sample_weight", "doc_log_q"),
        "normalize_over": normalize_over,
        "reduction": "sum",
    }
    options["sample_weight"][LEFT_OUT_ROWS] = 0
    options["doc_log_q"][LEFT_OUT_ROWS + LEFT_OUT_DOCS] = np.inf
    expected = run_oracle(batch, source, options)
    batch.query[LEFT_OUT_ROWS] = bad
    batch.doc[LEFT_OUT_ROWS + LEFT_OUT_DOCS] = bad
    results = core.run(batch, source, options)
    assert_equal_but_for(results, expected, LEFT_OUT_ROWS)
    for name, rows in (
        ("query_gradient", LEFT_OUT_ROWS),
        ("doc_gradient", LEFT_OUT_ROWS + LEFT_OUT_DOCS),
        ("sample_weight_gradient", LEFT_OUT_ROWS),
    ):
        np.testing.assert_array_equal(results[name][rows], 0, name)


def assert_equal_but_for(
    results: dict[str, Array], expected: Any, left_out: list[int]
) -> None:
    """Against the judge's, but for statistics of the rows that are left out."""
    for name in ("row_loss", "positive_cosine", "num_kept", "positive_rank"):
        results[name] = np.array(results[name])
        results[name][left_out] = 0
    expected = expected._replace(
        row_loss=np.array(expected.row_loss),
        positive_cosine=np.array(expected.positive_cosine),
        num_kept=np.array(expected.num_kept),
        logits=np.array(expected.logits),
        sample_weight_gradient=np.array(expected.sample_weight_gradient),
    )
    for values in (expected.row_loss, expected.positive_cosine, expected.num_kept):
        values[left_out] = 0
    expected.logits[left_out] = -np.inf
    expected.sample_weight_gradient[left_out] = 0
    results["sample_weight_gradient"][left_out] = 0
    assert_values_close(results, expected, "float32")
    assert_gradients_close(results, expected, "float32")


@SOURCES
def test_where_every_weight_is_zero_everything_is_zero(core: Core, source: str) -> None:
    batch = make_batch(64)
    batch.query[:], batch.doc[:] = np.nan, np.nan
    options = {"sample_weight": np.zeros(ROWS, np.float32)}
    results = core.run(batch, source, options)
    for name in ("loss", "query_gradient", "doc_gradient", "logit_scale_gradient"):
        np.testing.assert_array_equal(results[name], 0, name)


@SOURCES
def test_the_positive_of_a_row_of_nan_has_the_last_rank(core: Core, source: str) -> None:
    batch = make_batch(64)
    batch.query[LEFT_OUT_ROWS] = np.nan
    results = core.run(batch, source, {})
    ranks = results["positive_rank"]
    np.testing.assert_array_equal(ranks[LEFT_OUT_ROWS], results["num_kept"][LEFT_OUT_ROWS])


# --- Infinity ---------------------------------------------------------------------------


@NORMALIZE_OVER
@SOURCES
def test_a_positive_of_infinite_log_q_has_infinite_loss_and_no_gradient(
    core: Core, source: str, normalize_over: str
) -> None:
    batch = make_batch(64)
    options = {
        **batch.only("doc_log_q"),
        "normalize_over": normalize_over,
        "reduction": "none",
    }
    options["doc_log_q"][LEFT_OUT_ROWS] = np.inf
    expected = run_oracle(batch, source, options)
    results = core.run(batch, source, options)
    assert np.isposinf(results["loss"][LEFT_OUT_ROWS]).all()
    np.testing.assert_array_equal(results["query_gradient"][LEFT_OUT_ROWS], 0)
    assert_gradients_close(results, expected, "float32")


@ON_CPU
@pytest.mark.parametrize("wrong", [-np.inf, np.nan])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_host_refuses_a_log_q_that_is_no_number_with_its_position(
    core: Core, dtype: str, wrong: float
) -> None:
    batch = make_batch(8, dtype)
    log_q = np.zeros(DOCS, batch.real)
    log_q[[5, 7]] = wrong
    with pytest.raises(ValueError, match=rf"doc_log_q must .*, got {wrong} at .* \[5\]"):
        core.run(batch, "shuffle", {"doc_log_q": log_q})


@ON_CUDA
@pytest.mark.parametrize("wrong", [-np.inf, np.nan])
@NORMALIZE_OVER
@pytest.mark.parametrize("place", [5, 38])
@SOURCES
def test_a_device_makes_infinity_of_a_log_q_that_is_no_number(
    core: Core, source: str, place: int, normalize_over: str, wrong: float
) -> None:
    batch = make_batch(64)
    log_q = np.zeros(DOCS, batch.real)
    log_q[place] = wrong
    options = {"doc_log_q": log_q, "normalize_over": normalize_over}
    results = core.run(batch, source, options)
    over_batch = normalize_over == "batch"
    if over_batch and place >= ROWS:
        assert np.isfinite(results["loss"])  # nobody's positive
        return
    assert np.isposinf(results["loss"])
    infinite = np.isposinf(results["row_loss"])
    assert infinite.all() if over_batch else infinite.any()
    assert not np.isnan(results["row_loss"]).any()
    for name in ("query_gradient", "doc_gradient"):
        assert np.isfinite(results[name]).all(), name
    np.testing.assert_array_equal(results["query_gradient"][infinite], 0)


# Each with a smaller one whose loss is large enough: the positive's share is e^-40 there.
LARGE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "margin": ({"margin": 1e7}, {"margin": 2.0}),
    "huge margin": ({"margin": 1e36}, {"margin": 2.0}),
    "logQ": ({"doc_log_q": 1e8}, {"doc_log_q": 40.0}),
    "huge logQ": ({"doc_log_q": 1e38}, {"doc_log_q": 40.0}),
}


@pytest.mark.parametrize("large", LARGE)
@SOURCES
def test_the_candidates_shares_sum_to_one_however_large_the_loss_is(
    core: Core, source: str, large: str
) -> None:
    # All candidates tie, so that nothing is lost but what is lost of their shares.
    batch = Batch((1, DOCS, 64, K), "float32")
    batch.doc[1:] = batch.doc[1]
    found, same = (with_log_q_of_the_positive(options) for options in LARGE[large])
    expected = run_oracle(batch, source, same)
    results = core.run(batch, source, found)
    assert results["loss"] > 1e7
    for name in ("query", "doc"):
        size = expected.gradient_sizes[name]
        wanted = getattr(expected, f"{name}_gradient")
        np.testing.assert_allclose(
            results[f"{name}_gradient"], wanted, atol=2e-5 * size, err_msg=name
        )


def with_log_q_of_the_positive(options: dict[str, Any]) -> dict[str, Any]:
    if "doc_log_q" not in options:
        return options
    log_q = np.zeros(DOCS, np.float32)
    log_q[0] = options["doc_log_q"]
    return {"doc_log_q": log_q}


@SOURCES
def test_a_logit_beyond_the_largest_number_makes_an_infinite_loss(
    core: Core, source: str
) -> None:
    batch = Batch((1, DOCS, 64, K), "float32")
    results = core.run(batch, source, {"margin": 1e38})
    assert np.isposinf(results["loss"])
    for name in ("query_gradient", "doc_gradient", "logit_scale_gradient"):
        np.testing.assert_array_equal(results[name], 0, name)
