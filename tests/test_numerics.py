"""Hard numbers: small losses, zero rows, NaN, large scales, 16-bit extremes."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
import tensorflow as tf
from cases import DTYPES, Array, Batch, run_loss
from negative_cosine import fused_negative_cosine_loss

IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["native", "reference"])


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


@IMPLEMENTATIONS
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dim", [3, 17, 64])
def test_nan_and_infinity_reach_the_rows_that_use_them_and_no_other(
    dim: int, value: float, implementation: str
) -> None:
    random = np.random.default_rng(0)
    query = random.normal(size=(6, dim)).astype(np.float32)
    doc = random.normal(size=(6, dim)).astype(np.float32)
    doc[4, 1] = value
    query[5, dim - 1] = value
    # Rows 3, 4 and 5 use a bad row. Row 0 draws document 4 too, but drops it.
    table = np.array([[1, 4], [2, 0], [0, 1], [4, 0], [0, 1], [0, 1]])
    ids = np.array([7, 1, 2, 3, 7, 5])
    loss, by_query, by_doc = loss_and_gradients(
        query, doc, implementation, negative_indices=table, doc_ids=ids
    )
    np.testing.assert_array_equal(np.isfinite(loss), [1, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(np.isfinite(by_query).all(axis=1), [1, 1, 1, 0, 0, 0])
    # Document 2 is used by rows 1 and 2 only; every other one by a bad row too.
    assert np.isfinite(by_doc[2]).all()


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


def test_ten_thousand_candidates_match_the_oracle() -> None:
    batch = Batch((3, 50, 33, 10_000), "float32")
    expected = oracle.negative_cosine_loss(
        batch.query, batch.doc, batch.indices, reduction="none"
    )
    loss, by_query, by_doc = loss_and_gradients(
        batch.query, batch.doc, "native", negative_indices=batch.indices
    )
    np.testing.assert_allclose(loss, expected.loss, rtol=1e-5)
    for found, exact in (
        (by_query, expected.query_gradient),
        (by_doc, expected.doc_gradient),
    ):
        np.testing.assert_allclose(found, exact, atol=2e-5 * np.abs(exact).max())


@pytest.mark.parametrize("dim", [3, 16, 100])
def test_a_row_whose_products_overflow_has_cosine_zero_and_no_nan(dim: int) -> None:
    batch = Batch((5, 6, dim, 4), "float32")
    batch.query[1] = 1.0
    batch.doc[1] = batch.doc[5] = 3e38
    results = run_loss(batch, "shuffle", {}, "native")
    assert results["positive_cosine"][1] == 0.0
    for name in ("loss", "row_loss", "query_gradient", "doc_gradient"):
        assert np.isfinite(results[name]).all(), name
