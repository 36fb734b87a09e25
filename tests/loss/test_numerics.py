"""Hard numbers one by one: small losses, zero rows, NaN, the longest rows.

How exact results are on hard numbers: test_hard_cases.py.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss
from scipy.special import logsumexp

from tests.support import oracle
from tests.support.cases import DTYPES, Array, Batch, table_of
from tests.support.hard_cases import row_error
from tests.support.tensorflow_runs import run_loss

IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["native", "reference"])
SOURCES = ["indices", "shuffle", "ring", "all"]


def loss_and_gradients(
    query: Array, doc: Array, implementation: str, **options: Any
) -> tuple[Array, Array, Array]:
    """The loss of each row, and both gradients of their sum."""
    query, doc = tf.constant(query), tf.constant(doc)
    with tf.GradientTape() as tape:
        tape.watch([query, doc])
        loss = fused_negative_cosine_loss(
            query, doc, reduction="none", implementation=implementation, **options
        )
    by_query, by_doc = tape.gradient(loss, [query, doc])
    return loss.numpy(), by_query.numpy(), by_doc.numpy()


@IMPLEMENTATIONS
@pytest.mark.parametrize("normalize_over", ["candidates", "batch"])
@pytest.mark.parametrize("scale", [5.0, 20.0, 40.0, 1000.0])
def test_a_small_loss_keeps_its_digits(
    scale: float, normalize_over: str, implementation: str
) -> None:
    # Exact cosines: the positive's is 1 and the other's 0 or -1, so the losses run from
    # 0.013 to below the smallest float32.
    query = np.eye(2, dtype=np.float32)
    doc = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    table = np.array([[1], [2]])
    options: dict[str, Any] = {
        "scale": scale,
        "normalize_over": normalize_over,
        "doc_log_q": None,
    }
    if normalize_over == "batch":
        options["doc_log_q"] = np.array([0, scale, 0], np.float32)
    found, *_ = loss_and_gradients(
        query, doc, implementation, negative_indices=table, **options
    )
    expected = oracle.negative_cosine_loss(
        query, doc, table, reduction="none", **{**options, "mask_self": True}
    ).loss
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-37)


@IMPLEMENTATIONS
def test_a_row_whose_candidates_are_all_dropped_has_loss_and_gradient_zero(
    implementation: str,
) -> None:
    random = np.random.default_rng(0)
    query = random.normal(size=(3, 4)).astype(np.float32)
    table = np.array([[0, 0], [0, 2], [0, 1]])
    loss, by_query, by_doc = loss_and_gradients(
        query, query, implementation, negative_indices=table
    )
    assert loss[0] == 0.0
    assert (loss[1:] > 0).all()
    np.testing.assert_array_equal(by_query[0], 0.0)
    assert np.isfinite(by_doc).all()


@IMPLEMENTATIONS
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0.0, 1e-30])
def test_a_zero_row_has_cosine_zero_and_a_zero_gradient(
    size: float, dtype: str, implementation: str
) -> None:
    batch = Batch((5, 6, 17, 4), dtype)
    batch.query[1] = batch.doc[3] = size
    results = run_loss(batch, "shuffle", {}, implementation)
    assert results["positive_cosine"][1] == 0.0
    assert results["positive_cosine"][3] == 0.0
    for name in ("loss", "query_gradient", "doc_gradient"):
        assert np.isfinite(results[name].astype(np.float64)).all(), name
    np.testing.assert_array_equal(results["query_gradient"][1].astype(np.float64), 0)
    np.testing.assert_array_equal(results["doc_gradient"][3].astype(np.float64), 0)


# Document 4 is a positive, document 10 nobody's, and query 4 one of nine.
BAD_ROWS = pytest.mark.parametrize("bad_row", [("doc", 4), ("doc", 10), ("query", 4)])
# Rows 0, 2, 5 and 9 share document 4's id and drop it, and 1 and 3 document 10.
IDS = np.array([4, 10, 4, 10, 4, 4, 6, 7, 8, 9, 10, 11])


def batch_with_a_bad_row(bad_row: tuple[str, int], value: float, dim: int) -> Batch:
    """Nine queries and twelve documents with one element that is ``value``."""
    batch = Batch((9, 12, dim, 3), "float32")
    matrix, row = bad_row
    getattr(batch, matrix)[row, dim - 1] = value
    return batch


def users_of(batch: Batch, source: str, normalize_over: str) -> Array:
    """Whether query i's loss uses document j: as its positive, or as a candidate kept."""
    table = table_of(batch, source)
    if normalize_over == "batch":  # every positive, and no candidate
        return np.tile(np.arange(batch.docs) < batch.rows, (batch.rows, 1))
    kept = oracle.kept_candidates(table, batch.rows, True, IDS, None)
    uses: Array = np.eye(batch.rows, batch.docs, dtype=bool)
    for i in range(batch.rows):
        uses[i, table[i, kept[i]]] = True
    return uses


def assert_it_reaches_the_rows_that_use_it_alone(
    batch: Batch,
    bad_row: tuple[str, int],
    source: str,
    normalize_over: str,
    results: dict[str, Array],
) -> None:
    """Losses and query gradients row by row, and documents that no bad row uses."""
    matrix, row = bad_row
    uses = users_of(batch, source, normalize_over)
    if matrix == "doc":
        is_reached = uses[:, row]
    elif normalize_over == "batch":
        is_reached = np.ones(batch.rows, bool)
    else:
        is_reached = np.arange(batch.rows) == row
    finite = {name: np.isfinite(values) for name, values in results.items()}
    np.testing.assert_array_equal(finite["loss"], ~is_reached)
    np.testing.assert_array_equal(finite["query_gradient"].all(axis=1), ~is_reached)
    is_clean = ~uses[is_reached].any(axis=0)
    bad_docs = [row] if matrix == "doc" else []
    clean = np.setdiff1d(np.flatnonzero(is_clean), bad_docs)
    assert finite["doc_gradient"][clean].all()


@IMPLEMENTATIONS
@BAD_ROWS
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_reach_the_rows_that_use_them_and_no_other(
    value: float, source: str, bad_row: tuple[str, int], implementation: str
) -> None:
    batch = batch_with_a_bad_row(bad_row, value, dim=17)
    options = {"doc_ids": IDS, "reduction": "none"}
    results = run_loss(batch, source, options, implementation)
    assert_it_reaches_the_rows_that_use_it_alone(
        batch, bad_row, source, "candidates", results
    )


@IMPLEMENTATIONS
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("normalize_over", ["candidates", "batch"])
def test_a_nan_query_is_nan_beside_documents_without_direction(
    normalize_over: str, source: str, implementation: str
) -> None:
    batch = Batch((4, 6, 17, 3), "float32")
    batch.doc[:] = 0
    batch.query[2, 5] = np.nan
    results = run_loss(batch, source, {"normalize_over": normalize_over}, implementation)
    np.testing.assert_array_equal(np.isnan(results["positive_cosine"]), np.arange(4) == 2)
    assert np.isnan(results["loss"])


@IMPLEMENTATIONS
@BAD_ROWS
@pytest.mark.parametrize("source", SOURCES)
def test_over_the_batch_nan_reaches_every_row_from_a_positive_and_none_from_a_candidate(
    source: str, bad_row: tuple[str, int], implementation: str
) -> None:
    batch = batch_with_a_bad_row(bad_row, np.nan, dim=17)
    options = {"doc_ids": IDS, "reduction": "none", "normalize_over": "batch"}
    results = run_loss(batch, source, options, implementation)
    assert_it_reaches_the_rows_that_use_it_alone(batch, bad_row, source, "batch", results)


@pytest.mark.parametrize(
    ("source", "implementation"),
    [*((source, "native") for source in SOURCES), ("all", "reference")],
)
def test_nan_reaches_no_other_row_in_a_compiled_function(
    source: str, implementation: str
) -> None:
    bad_row = ("doc", 4)
    batch = batch_with_a_bad_row(bad_row, np.nan, dim=64)
    options = {"doc_ids": IDS, "reduction": "none"}
    results = run_loss(batch, source, options, implementation, "xla")
    assert_it_reaches_the_rows_that_use_it_alone(
        batch, bad_row, source, "candidates", results
    )


@IMPLEMENTATIONS
@pytest.mark.parametrize("length", [1e-10, 1e-5, 1e10, 1e18, 1e30, 1e38])
def test_the_length_of_a_row_does_not_matter(length: float, implementation: str) -> None:
    batch = Batch((37, 41, 17, 5), "float32")
    unit = batch.query / np.linalg.norm(batch.query, axis=1, keepdims=True)
    plain, plain_gradient, _ = loss_and_gradients(
        unit, batch.doc, implementation, num_negatives=5, seed=(1, 2)
    )
    found, gradient, _ = loss_and_gradients(
        (unit.astype(np.float64) * length).astype(np.float32),
        batch.doc,
        implementation,
        num_negatives=5,
        seed=(1, 2),
    )
    np.testing.assert_allclose(found, plain, rtol=1e-5)
    if length > 1e37:
        return  # its gradient is subnormal, and TensorFlow flushes the reference's
    np.testing.assert_allclose(
        gradient * np.float32(length), plain_gradient, rtol=1e-4, atol=1e-4
    )


@IMPLEMENTATIONS
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bit_extremes_stay_finite(dtype: str, implementation: str) -> None:
    kind = DTYPES[dtype]
    smallest, largest = (6e-8, 65504.0) if dtype == "float16" else (1e-30, 3e38)
    values = np.array([[largest, smallest], [-largest, largest], [smallest, largest]])
    loss, by_query, by_doc = loss_and_gradients(
        values.astype(kind),
        values[::-1].astype(kind),
        implementation,
        num_negatives=4,
        seed=(1, 2),
    )
    for array in (loss, by_query, by_doc):
        assert np.isfinite(array.astype(np.float64)).all()


@IMPLEMENTATIONS
def test_a_subnormal_half_counts_at_its_value(implementation: str) -> None:
    tiny = np.array([[3, 4], [4, -3]], np.float16) * np.float16(2.0**-24)
    _, stats = fused_negative_cosine_loss(
        tiny,
        np.array([[3, 4], [1, 0]], np.float16),
        1,
        return_stats=True,
        implementation=implementation,
    )
    np.testing.assert_allclose(stats.positive_cosine, [1.0, 0.8], rtol=1e-6)


@IMPLEMENTATIONS
def test_a_softmax_over_a_hundred_thousand_rows_matches_float64(
    implementation: str,
) -> None:
    batch = Batch((100_000, 100_000, 8, 1), "float32")
    query, _ = oracle.unit_rows(batch.query.astype(np.float64))
    doc, inverse_norm = oracle.unit_rows(batch.doc.astype(np.float64))
    cosine = (query * doc).sum(axis=1)
    losses = logsumexp(20 * cosine) - 20 * cosine
    share = np.exp(-losses)
    tangents = (query - cosine[:, np.newaxis] * doc) * inverse_norm[:, np.newaxis]
    by_doc = 20 * (share - 1 / batch.rows)[:, np.newaxis] * tangents
    sizes = 20 * (share + 1 / batch.rows) * inverse_norm

    results = run_loss(batch, "shuffle", {"normalize_over": "batch"}, implementation)
    np.testing.assert_allclose(results["row_loss"], losses, rtol=1e-5)
    np.testing.assert_allclose(results["loss"], losses.mean(), rtol=1e-6)
    assert row_error(results["doc_gradient"], by_doc, sizes) < 2e-5


def longest_row(dtype: str, share: float) -> Array:
    """One row whose norm is a share of its dtype's largest number."""
    largest = float(ml_dtypes.finfo(DTYPES[dtype]).max)
    return (np.array([0.6, 0.8, 0.0]) * largest * share).astype(DTYPES[dtype])


@IMPLEMENTATIONS
def test_a_gradient_beyond_float16_is_infinite_with_its_sign(implementation: str) -> None:
    # A gradient is as long as its row is short, and float16 ends at 65504.
    query = np.array([[1e-5, 0]], np.float16)
    doc = np.array([[1, 2], [1, -3]], np.float16)
    loss, by_query, by_doc = loss_and_gradients(
        query, doc, implementation, negative_indices=[[1]]
    )
    assert np.isfinite(loss).all()
    assert np.isfinite(by_doc).all()
    np.testing.assert_array_equal(by_query, [[0, -np.inf]])


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("implementation", ["native", "reference"])
@pytest.mark.parametrize(("share", "counts"), [(0.49, True), (0.51, False)])
def test_a_row_above_half_the_largest_number_is_without_direction(
    share: float, counts: bool, implementation: str, dtype: str
) -> None:
    # A product with such a row could overflow: docs/numerics.md.
    batch = Batch((3, 4, 3, 2), dtype)
    batch.query[0] = batch.doc[0] = batch.doc[1] = batch.doc[3] = longest_row(dtype, share)
    exact = oracle.unit_rows(batch.query.astype(np.longdouble))[0]
    cosines = (exact[:2] * exact[0]).sum(axis=1)
    results = run_loss(batch, "all", {}, implementation)
    np.testing.assert_allclose(
        results["positive_cosine"][:2], cosines if counts else [0, 0], rtol=1e-5
    )
    for name in ("loss", "row_loss", "query_gradient", "doc_gradient"):
        assert np.isfinite(results[name].astype(np.float64)).all(), name


@IMPLEMENTATIONS
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("dim", [3, 17, 64, 100])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_candidate_equal_to_the_positive_ties_with_it(
    dtype: str, dim: int, source: str, implementation: str
) -> None:
    batch = Batch((37, 41, dim, 5), dtype)
    batch.doc[1:] = batch.doc[0]
    results = run_loss(batch, source, {"scale": 1000.0}, implementation)
    np.testing.assert_array_equal(results["positive_rank"], 0)
    # TensorFlow adds up equal rows of a matrix in different orders.
    rounding = {"native": 1e-6, "reference": 1e-3}[implementation]
    np.testing.assert_allclose(
        results["row_loss"], np.log1p(results["num_kept"]), rtol=rounding
    )


@pytest.mark.parametrize("dim", [3, 16, 100])
def test_a_row_whose_products_overflow_has_cosine_zero_and_no_nan(dim: int) -> None:
    batch = Batch((5, 6, dim, 4), "float32")
    batch.query[1] = 1.0
    batch.doc[1] = batch.doc[5] = 3e38
    results = run_loss(batch, "shuffle", {}, "native")
    assert results["positive_cosine"][1] == 0.0
    for name in ("loss", "row_loss", "query_gradient", "doc_gradient"):
        assert np.isfinite(results[name]).all(), name
