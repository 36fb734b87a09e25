"""The kernels by themselves: the core on NumPy arrays, with no TensorFlow in between."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from negative_cosine import _core, _probes

from tests.support import oracle
from tests.support.cases import (
    DTYPES,
    Array,
    Batch,
    assert_gradients_close,
    assert_values_close,
    run_on_arrays,
    run_oracle,
)

ROWS = [1, 2, 3, 37, 257]
DIMS = [1, 3, 17, 64, 100, 129, 768]
COUNTS = [1, 2, 31, 100]


def run_core(batch: Batch, source: str = "shuffle", threads: int = 1) -> dict[str, Array]:
    """Forward and gradient pass of a batch without options."""
    return run_on_arrays(_core, batch, source, {}, num_threads=threads)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", ROWS)
def test_every_odd_size_matches_the_oracle(rows: int, dtype: str) -> None:
    for dim, k, extra in itertools.product(DIMS, COUNTS, (0, 3)):
        batch = Batch((rows, rows + extra, dim, k), dtype)
        table = _core.sample_negatives(rows, rows + extra, k, *batch.seed)
        expected = oracle.negative_cosine_loss(batch.query, batch.doc, table)
        results = run_core(batch)
        assert_values_close(results, expected, dtype)
        assert_gradients_close(results, expected, dtype)


@pytest.mark.parametrize("size", [1, 2, 3, 8, 9, 100, 4097])
def test_the_ring_of_the_core_is_that_of_the_oracle(size: int) -> None:
    for rows in (size, (size + 1) // 2):
        for k in {1, size // 2, size - 1} - {0}:
            if k >= size:
                continue
            table = _core.sample_negatives(rows, size, k, 3, 4, "ring")
            expected = oracle.sample_negatives(rows, size, k, "ring", (3, 4))
            np.testing.assert_array_equal(table, expected)


def test_an_empty_batch_on_the_ring_has_no_gradient() -> None:
    batch = Batch((1, 3, 4, 2), "float32")
    batch.query, batch.rows, batch.k = batch.query[:0], 0, 9  # beyond C - 1: nobody meets
    results = run_core(batch, "ring")
    assert results["loss"] == 0
    np.testing.assert_array_equal(results["doc_gradient"], np.zeros((3, 4)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", ["shuffle", "ring", "all", "indices"])
@pytest.mark.parametrize("shape", [(257, 300, 129, 31), (90, 900, 17, 64)], ids=str)
def test_the_number_of_threads_does_not_change_a_bit(
    shape: tuple[int, int, int, int], dtype: str, source: str
) -> None:
    batch = Batch(shape, dtype)
    one = run_core(batch, source, threads=1)
    for threads in (2, 3, 7):
        other = run_core(batch, source, threads=threads)
        for name, values in one.items():
            assert values.tobytes() == other[name].tobytes(), name


def test_two_runs_give_the_same_bits() -> None:
    batch = Batch((257, 300, 129, 31), "float32")
    first, second = run_core(batch), run_core(batch)
    for name, values in first.items():
        assert values.tobytes() == second[name].tobytes(), name


@pytest.mark.parametrize("level", ["portable", "avx2", "avx512"])
def test_every_instruction_set_gives_the_same_numbers_to_rounding(level: str) -> None:
    code = f"""
import importlib.machinery, importlib.util, json, sys
import numpy as np
loader = importlib.machinery.ExtensionFileLoader("_core", {_core.__file__!r})
spec = importlib.util.spec_from_loader("_core", loader)
core = importlib.util.module_from_spec(spec)
loader.exec_module(core)
random = np.random.default_rng(0)
sums = {{}}
for dtype in ("float16", "float32", "float64"):
    query = random.normal(size=(64, 100)).astype(dtype)
    doc = random.normal(size=(70, 100)).astype(dtype)
    real = np.float64 if dtype == "float64" else np.float32
    results = core.negative_cosine_loss(
        query, doc, num_negatives=20, seed=np.array([1, 2]),
        loss_gradient=np.ones((), real))
    direction = random.normal(size=(70, 100))
    sums[dtype] = [float(results["loss"]),
                   float((results["doc_gradient"] * direction).sum()),
                   float((results["query_gradient"] * direction[:64]).sum())]
assert "tensorflow" not in sys.modules
print(json.dumps([core.instruction_set(), sums]))
"""
    best = _core.instruction_set()
    levels = ["portable", "avx2", "avx512"]
    here, sums = run_in_new_process(code, level)
    assert here == levels[min(levels.index(level), levels.index(best))]
    _, expected = run_in_new_process(code, best)
    for dtype, values in sums.items():
        tolerance = {"float16": 1e-3, "float32": 2e-5, "float64": 1e-12}[dtype]
        np.testing.assert_allclose(values, expected[dtype], rtol=tolerance, err_msg=dtype)


def run_in_new_process(code: str, level: str) -> Any:
    """What ``code`` prints as JSON, with the instruction set capped at ``level``."""
    import json

    environment = {**os.environ, "NEGATIVE_COSINE_MAX_ISA": level}
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert output.returncode == 0, output.stderr
    return json.loads(output.stdout)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"doc": np.zeros((3, 4), np.float16)}, "doc must have query's dtype float32"),
        ({"query": np.zeros((3, 4), np.int32)}, "query must be one of float16, bfloat16"),
        (
            {"query": np.zeros((4, 6), np.float32).T[::2]},
            "query's embedding size|strides",
        ),
        (
            {"query": np.zeros((3, 8), np.float32)[:, ::2]},
            "query must be a C-contiguous",
        ),
        ({"num_negatives": None}, "got neither"),
        ({"seed": None}, "seed must be given"),
        ({"reduction": "max"}, "reduction must be one of 'mean', 'sum', 'none', got 'max'"),
        ({"normalize_over": "rows"}, "normalize_over must be one of 'candidates', 'batch'"),
        ({"doc_log_q": np.zeros(3)}, "doc_log_q must be float32, got float64"),
        ({"doc_ids": np.zeros(4, np.int64)}, r"doc_ids must have shape \[3\]"),
        ({"query": np.ones((3, 4), ">f4")}, "query must have the processor's byte order"),
        ({"num_negatives": 2**57}, "num_negatives must be an integer from 1 to "),
        (
            {"sampler": "some"},
            "sampler must be one of 'shuffle', 'ring', 'all', got 'some'",
        ),
        (
            {"sampler": "all", "num_negatives": 1},
            "num_negatives must be C - 1 for sampler='all'.*got 1",
        ),
        (
            {"sampler": "ring", "num_negatives": 3},
            "at most C - 1 for sampler='ring'.*got 3",
        ),
        ({"num_threads": 0}, "num_threads must be at least 1, got 0"),
    ],
)
def test_the_core_refuses_wrong_arrays(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "query": np.ones((3, 4), np.float32),
        "doc": np.ones((3, 4), np.float32),
        "num_negatives": 2,
        "seed": np.array([1, 2]),
    }
    with pytest.raises(ValueError, match=message):
        _core.negative_cosine_loss(**{**arguments, **change})


def test_an_index_outside_the_documents_is_refused_with_its_place() -> None:
    rows = np.ones((3, 4), np.float32)
    for bad in (-1, 3, 2**40):
        table = np.array([[0, 1], [2, 0], [1, bad]])
        with pytest.raises(ValueError, match=rf"\[0, 3\).*got {bad} at position \[2, 1\]"):
            _core.negative_cosine_loss(rows, rows, negative_indices=table)


def test_many_threads_are_as_good_as_one() -> None:
    batch = Batch((37, 41, 17, 5), "float32")
    for name, values in run_core(batch, threads=2**30).items():
        assert values.tobytes() == run_core(batch)[name].tobytes(), name


def test_statistics_over_the_batch_do_not_let_a_nan_candidate_into_the_gradients() -> None:
    batch = Batch((37, 41, 17, 31), "float32")
    batch.doc[39] = np.nan
    results = _core.negative_cosine_loss(
        batch.query,
        batch.doc,
        num_negatives=batch.k,
        seed=np.array(batch.seed),
        normalize_over="batch",
        loss_gradient=np.ones((), np.float32),
    )
    assert 39 in _core.sample_negatives(37, 41, batch.k, *batch.seed)
    for name in ("loss", "query_gradient", "logit_scale_gradient"):
        assert np.isfinite(results[name]).all(), name


INDEX_DTYPES = pytest.mark.parametrize("dtype", [np.int32, np.int64])


@INDEX_DTYPES
def test_a_table_sorted_in_parts_gives_the_same_bits_with_any_number_of_threads(
    dtype: Any,
) -> None:
    batch = Batch((600, 700, 5, 64), "float32")  # of 6 parts
    batch.indices[:400] %= 7  # documents that many parts have rows of
    batch.indices = batch.indices.astype(dtype)
    options = batch.only("doc_ids", "query_ids")
    alone = run_on_arrays(_core, batch, "indices", options, num_threads=1)
    assert_gradients_close(alone, run_oracle(batch, "indices", options), "float32")
    for threads in (2, 5):
        shared = run_on_arrays(_core, batch, "indices", options, num_threads=threads)
        for name, value in shared.items():
            np.testing.assert_array_equal(value, alone[name], name)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(
    ("bad", "dtype"),
    [(bad, dtype) for bad in (-1, 4096, 2**31 - 1) for dtype in (np.int32, np.int64)]
    + [(2**32, np.int64)],
)
def test_of_several_wrong_indices_the_first_is_named(
    bad: int, threads: int, dtype: Any
) -> None:
    rows = np.ones((4096, 1), np.float32)
    table = np.zeros((4096, 64), np.int64)
    table[1000, 3] = table[1000, 5] = table[3000, 1] = bad
    message = rf"in \[0, 4096\).* got {bad} at position \[1000, 3\]"
    with pytest.raises(ValueError, match=message):
        _core.negative_cosine_loss(
            rows, rows, negative_indices=table.astype(dtype), num_threads=threads
        )


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("rows", "docs", "k"),
    [(1, 1, 1), (3, 40, 2), (70, 900, 7), (600, 5000, 60), (2000, 2048, 300)],
)
def test_sorted_draws_are_the_rows_that_inverted_permutations_give_in_their_order(
    rows: int, docs: int, k: int, threads: int
) -> None:
    seed = np.array([5, -6])
    starts, ranges = _probes.rows_that_drew(rows, docs, k, seed, threads)
    every, numbers = np.arange(docs, dtype=np.int32), np.arange(1, k + 1)
    inverse = _probes.permute(every, docs, seed[None], numbers, inverse=True)[0].T
    is_row = inverse < rows
    np.testing.assert_array_equal(np.diff(starts), is_row.sum(axis=1))
    np.testing.assert_array_equal(np.concatenate(ranges), inverse[is_row])


def test_more_draws_than_are_sorted_at_a_time_are_taken_in_ranges_of_documents() -> None:
    rows, docs, k = 2**12, 2**15, 2**12 + 300
    _, ranges = _probes.rows_that_drew(rows, docs, k, np.array([1, 2]), 2)
    assert len(ranges) == 2
    drawn = np.concatenate(ranges)
    assert max(map(len, ranges)) <= 2**24
    np.testing.assert_array_equal(np.bincount(drawn, minlength=rows), [k] * rows)
