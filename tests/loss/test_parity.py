"""Reference and native op against the float64 oracle: values, statistics, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from negative_cosine import _core

from tests.support.cases import (
    DTYPES,
    SHAPES,
    Batch,
    assert_gradients_close,
    assert_values_close,
    run_oracle,
)
from tests.support.tensorflow_runs import run_loss

OPTIONS = sorted(Batch((2, 2, 2, 1), "float32").options)


def check(batch: Batch, source: str, options: dict[str, Any], mode: str) -> None:
    """Both implementations against the oracle."""
    expected = run_oracle(batch, source, options)
    for implementation in ("reference", "native"):
        results = run_loss(batch, source, options, implementation, mode)
        assert_values_close(results, expected, batch.dtype)
        assert_gradients_close(results, expected, batch.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape_and_dtype_matches_the_oracle_by_seed(
    shape: tuple[int, int, int, int], dtype: str
) -> None:
    check(Batch(shape, dtype), "shuffle", {}, "eager")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape_and_dtype_matches_the_oracle_by_indices(
    shape: tuple[int, int, int, int], dtype: str
) -> None:
    check(Batch(shape, dtype), "indices", {"mask_self": False}, "eager")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [s for s in SHAPES if s[3] < s[1]], ids=str)
def test_every_shape_and_dtype_matches_the_oracle_on_the_ring(
    shape: tuple[int, int, int, int], dtype: str
) -> None:
    check(Batch(shape, dtype), "ring", {}, "eager")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [s for s in SHAPES if s[1] < 2000], ids=str)
def test_every_shape_and_dtype_matches_the_oracle_for_every_other_document(
    shape: tuple[int, int, int, int], dtype: str
) -> None:
    check(Batch(shape, dtype), "all", {}, "eager")


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("source", ["shuffle", "ring", "all", "indices"])
def test_each_option_alone_matches_the_oracle(option: str, source: str, mode: str) -> None:
    batch = Batch((37, 41, 17, 5), "float32")
    check(batch, source, batch.only(option), mode)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("normalize_over", ["candidates", "batch"])
@pytest.mark.parametrize("source", ["shuffle", "ring", "all"])
def test_each_reduction_matches_the_oracle_with_weights(
    source: str, normalize_over: str, reduction: str, mode: str
) -> None:
    batch = Batch((37, 41, 17, 5), "float64")
    options = batch.only("sample_weight", "doc_log_q", "margin", "negative_weight")
    options |= {"normalize_over": normalize_over, "reduction": reduction}
    check(batch, source, options, mode)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    names=st.sets(st.sampled_from(OPTIONS)),
    source=st.sampled_from(["shuffle", "ring", "all", "indices"]),
    dtype=st.sampled_from(sorted(DTYPES)),
    rows=st.integers(1, 40),
    extra=st.integers(0, 9),
    dim=st.integers(1, 70),
    k=st.integers(1, 40),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    seed=st.integers(0, 2**16),
)
def test_options_in_random_combination_match_the_oracle(
    names: set[str],
    source: str,
    dtype: str,
    rows: int,
    extra: int,
    dim: int,
    k: int,
    reduction: str,
    seed: int,
) -> None:
    if source == "ring":
        extra = max(extra, 1)
        k = min(k, rows + extra - 1)  # C - 1
    batch = Batch((rows, rows + extra, dim, k), dtype, seed)
    check(batch, source, {**batch.only(*names), "reduction": reduction}, "eager")


@pytest.mark.parametrize("shape", [(2, 5, 64, 1), (37, 60, 17, 31)], ids=str)
def test_the_reference_matches_the_oracle_for_every_other_document(
    shape: tuple[int, int, int, int], mode: str
) -> None:
    batch = Batch(shape, "float32")
    options = batch.only("doc_ids", "margin", "sample_weight")
    expected = run_oracle(batch, "all", options)
    results = run_loss(batch, "all", options, "reference", mode)
    assert_values_close(results, expected, "float32")
    assert_gradients_close(results, expected, "float32")


@pytest.mark.parametrize("source", ["shuffle", "ring", "all", "indices"])
@pytest.mark.parametrize("normalize_over", ["candidates", "batch"])
def test_the_reference_compiles_with_xla_to_the_same_numbers(
    source: str, normalize_over: str
) -> None:
    batch = Batch((37, 41, 17, 5), "float32")
    options = batch.only("query_ids", "doc_log_q", "sample_weight", "scale")
    options["normalize_over"] = normalize_over
    results = run_loss(batch, source, options, "reference", "xla")
    expected = run_oracle(batch, source, options)
    assert_values_close(results, expected, "float32")
    assert_gradients_close(results, expected, "float32")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weight", [1.0, 1e-36], ids=["normal", "subnormal results"])
def test_eager_and_graph_give_the_bits_of_the_core(
    weight: float, dtype: str, mode: str
) -> None:
    # TensorFlow's threads flush subnormals to zero; the kernels must not let them.
    batch = Batch((257, 300, 100, 31), dtype)
    batch.options["sample_weight"] *= weight
    options = batch.only("doc_ids", "sample_weight")
    op = run_loss(batch, "shuffle", options, "native", mode)
    core = _core.negative_cosine_loss(
        batch.query,
        batch.doc,
        num_negatives=batch.k,
        seed=np.array(batch.seed),
        loss_gradient=np.ones((), batch.options["doc_log_q"].dtype),
        num_threads=2,
        **options,
    )
    for name in ("loss", "row_loss", "query_gradient", "doc_gradient"):
        np.testing.assert_array_equal(op[name], core[name], err_msg=name)
