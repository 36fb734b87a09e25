"""Tiles of rows, which `ring` and `all` go by on the CPU, at the sizes where they change.

A tile has 48 rows or, in large batches, 96; it meets panels of 64; products are summed over
64 elements at a time, and a row of whole pages is padded by a cache line.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from negative_cosine import _core

from tests.support.cases import (
    Array,
    Batch,
    assert_gradients_close,
    assert_values_close,
    run_on_arrays,
    run_oracle,
)

# (B, C, D, K), for `all` without K.
EDGES = {
    "fewer rows than a vector": (3, 90, 16, 20),
    "one row more than a tile": (49, 49, 17, 48),
    "one row less than two tiles": (95, 95, 8, 30),
    "a panel and one row": (40, 65, 24, 63),
    "tiles of 96 rows": (3100, 3100, 4, 40),
    "more elements than a sum": (20, 70, 257, 33),
    "rows of whole pages": (20, 70, 1024, 33),
    "gaps between bands": (40, 400, 8, 2),
    "documents far more than queries": (10, 5000, 8, 200),
    "a single query": (1, 300, 12, 299),
}


@pytest.mark.parametrize("sampler", ["ring", "all"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("edge", EDGES)
def test_a_tile_matches_the_oracle_at_its_edges(
    edge: str, dtype: str, sampler: str
) -> None:
    batch = Batch(EDGES[edge], dtype)
    expected = run_oracle(batch, sampler, {})
    results = run_on_arrays(_core, batch, sampler, {})
    assert_values_close(results, expected, dtype)
    assert_gradients_close(results, expected, dtype)


@pytest.mark.parametrize("sampler", ["ring", "all"])
@pytest.mark.parametrize("option", ["doc_ids", "query_ids", "doc_log_q"])
@pytest.mark.parametrize("shape", [(49, 130, 17, 60), (60, 600, 8, 1)], ids=str)
def test_a_tile_matches_the_oracle_with_options_of_pairs(
    shape: tuple[int, int, int, int], option: str, sampler: str
) -> None:
    batch = Batch(shape, "float32")
    options: dict[str, Any] = {option: batch.options[option]}
    if option == "doc_log_q":
        options[option][::7] = np.inf  # no row's candidates
        options[option][: batch.rows] = -1.0
    expected = run_oracle(batch, sampler, options)
    results = run_on_arrays(_core, batch, sampler, options)
    assert_values_close(results, expected, "float32")
    assert_gradients_close(results, expected, "float32")


@pytest.mark.parametrize("source", ["shuffle", "ring", "all", "indices"])
@pytest.mark.parametrize("dim", [16, 100, 257, 1024])
def test_a_candidate_equal_to_the_positive_ties_with_it(dim: int, source: str) -> None:
    batch = Batch((60, 130, dim, 50), "float32")
    batch.doc[:] = batch.doc[7]
    results = run_on_arrays(_core, batch, source, {"mask_self": False})
    assert results["positive_rank"].max() == 0
    count = batch.docs - 1 if source == "all" else batch.k
    np.testing.assert_allclose(results["row_loss"], np.log1p(count), rtol=1e-6)


def rows_without_weight(sampler: str, weights: Array) -> dict[str, Array]:
    """The results of a batch where rows of weight zero hold NaN."""
    batch = Batch((100, 140, 24, 70), "float32")
    batch.query[weights == 0] = np.nan
    return run_on_arrays(_core, batch, sampler, {"sample_weight": weights})


@pytest.mark.parametrize("sampler", ["shuffle", "ring", "all"])
@pytest.mark.parametrize("kept", [0, 1, 7, 99])
def test_rows_of_weight_zero_reach_no_gradient(kept: int, sampler: str) -> None:
    weights = np.zeros(100, np.float32)
    weights[np.random.default_rng(1).permutation(100)[:kept]] = 1
    results = rows_without_weight(sampler, weights)
    assert np.isfinite(results["doc_gradient"]).all()
    assert (results["query_gradient"][weights == 0] == 0).all()
    assert (np.abs(results["query_gradient"][weights != 0]).max(axis=-1) > 0).all()


@pytest.mark.parametrize("sampler", ["ring", "all"])
@pytest.mark.parametrize("rows", [48, 3072])
def test_a_tile_gives_the_same_bits_on_any_number_of_threads(
    rows: int, sampler: str
) -> None:
    batch = Batch((rows, rows + 5, 8, 33), "float32")
    one = run_on_arrays(_core, batch, sampler, {}, num_threads=1)
    for threads in (2, 5):
        other = run_on_arrays(_core, batch, sampler, {}, num_threads=threads)
        for name, values in one.items():
            assert values.tobytes() == other[name].tobytes(), name


@pytest.mark.parametrize("dim", [128, 256, 512])
def test_long_products_of_one_sign_keep_their_digits(dim: int) -> None:
    unit = 2.0**-24
    random = np.random.default_rng(dim)
    query, doc = np.abs(random.standard_normal((2, 500, dim))).astype(np.float32)
    results = _core.negative_cosine_loss(
        query, doc, num_negatives=1, sampler="ring", seed=np.array([1, 2])
    )
    exact = np.einsum("bd,bd->b", query, doc, dtype=np.float64)
    for rows in (query, doc):
        exact /= np.linalg.norm(rows.astype(np.float64), axis=1)
    assert np.abs(results["positive_cosine"] - exact).max() < 5 * unit
