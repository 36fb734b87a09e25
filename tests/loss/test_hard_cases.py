"""Every error on the batches of hard_cases.py is below its bound, and is found if not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks import errors as error_table
from benchmarks.update_documents import ROOT
from tests.support import oracle
from tests.support.cases import Array, Batch, run_oracle
from tests.support.hard_cases import (
    BY_NAME,
    HARD_CASES,
    HardCase,
    bounds,
    compare,
    errors,
    judge,
    judge_part,
    random_rows,
)
from tests.support.tensorflow_runs import run_loss

IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["native", "reference"])
SMALL = [case for case in HARD_CASES if case.shape[0] < 1000 and case.shape[3] < 1000]
COMPILED = (
    "cosines 1-1e-7 to -1, scale 1000",
    "norms 1e-10 to 1e18, bfloat16",
    "subnormal numbers",
    "K = 10,000",
)


def each(cases: list[HardCase]) -> pytest.MarkDecorator:
    """A test of each of the cases, by its name."""
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def excess(found: dict[str, float], case: HardCase) -> dict[str, float]:
    """The errors that are above their bounds."""
    allowed = bounds(case)
    return {name: error for name, error in found.items() if not error <= allowed[name]}


@IMPLEMENTATIONS
@each(HARD_CASES)
def test_every_error_is_within_its_bound(case: HardCase, implementation: str) -> None:
    assert not excess(errors(case, implementation), case)


@IMPLEMENTATIONS
@pytest.mark.parametrize("source", ["indices", "ring", "all"])
@each(SMALL)
def test_every_error_is_within_its_bound_whatever_draws_the_candidates(
    case: HardCase, source: str, implementation: str
) -> None:
    case = replace(case, source=source)
    assert not excess(errors(case, implementation), case)


@IMPLEMENTATIONS
@each(SMALL)
def test_every_error_is_within_its_bound_over_the_batch(
    case: HardCase, implementation: str
) -> None:
    case = replace(case, options={**case.options, "normalize_over": "batch"})
    assert not excess(errors(case, implementation), case)


@IMPLEMENTATIONS
@pytest.mark.parametrize("name", COMPILED)
def test_every_error_is_within_its_bound_in_a_compiled_function(
    name: str, implementation: str
) -> None:
    case = BY_NAME[name]
    assert not excess(errors(case, implementation, "xla"), case)


@pytest.mark.nightly
@IMPLEMENTATIONS
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(
    ("case", "source"),
    [
        pytest.param(case, source, id=f"{case.name}-{source}")
        for case in HARD_CASES
        for source in ("indices", "ring", "all")
        if case not in SMALL and (source, case.name) != ("all", "B = 100,000")
    ],
)
def test_every_error_of_a_large_batch_is_within_its_bound(
    case: HardCase, source: str, dtype: str, implementation: str
) -> None:
    rows, docs, dim, k = case.shape
    k = min(k, docs - 1) if source == "ring" else k
    case = replace(case, dtype=dtype, source=source, shape=(rows, docs, dim, k))
    assert not excess(errors(case, implementation), case)


# --- The judge of a part, and that a fault is found. ------------------------------------


def test_the_judge_of_a_part_says_what_the_judge_of_the_whole_says() -> None:
    batch = Batch((60, 70, 8, 3), "float64")
    options = {"reduction": "sum", **batch.only("sample_weight", "scale")}
    docs = np.array([3, 20, 65])
    part = judge_part(batch, batch.indices, docs, options)
    whole = run_oracle(batch, "indices", options)
    assert 0 < len(part.rows) < batch.rows
    for name in ("row_loss", "query_gradient"):
        expected = getattr(whole, name)[part.rows]
        np.testing.assert_allclose(getattr(part.result, name), expected, rtol=1e-12)
    np.testing.assert_allclose(
        part.result.doc_gradient, whole.doc_gradient[docs], rtol=1e-12, atol=1e-14
    )
    np.testing.assert_allclose(
        part.result.gradient_terms["doc"], whole.gradient_terms["doc"][docs], rtol=1e-12
    )


LONG_AND_SHORT = BY_NAME["norms 1e-10 to 1e18"]


@pytest.fixture(scope="module")
def right_results() -> dict[str, Array]:
    """What the op computes on rows of very different lengths."""
    batch = LONG_AND_SHORT.batch()
    return run_loss(batch, "shuffle", LONG_AND_SHORT.all_options(batch), "native")


@pytest.mark.parametrize("row", [0, -1], ids=["shortest", "longest"])
@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("loss", "row_loss"),
        ("query", "query_gradient"),
        ("doc", "doc_gradient"),
        ("sample_weight", "sample_weight_gradient"),
    ],
)
@pytest.mark.parametrize("factor", [1.001, np.nan])
def test_a_wrong_row_is_found_whatever_its_length(
    factor: float, name: str, result: str, row: int, right_results: dict[str, Array]
) -> None:
    batch = LONG_AND_SHORT.batch()
    wrong = {**right_results, result: right_results[result].copy()}
    wrong[result][row] *= factor
    found = compare(LONG_AND_SHORT, batch, judge(LONG_AND_SHORT, batch), wrong)
    assert excess(found, LONG_AND_SHORT).keys() == {name}


@pytest.mark.parametrize("name", ["scale", "temperature"])
def test_a_wrong_gradient_of_a_scalar_is_found(
    name: str, right_results: dict[str, Array]
) -> None:
    batch = LONG_AND_SHORT.batch()
    wrong = {**right_results, f"{name}_gradient": right_results[f"{name}_gradient"] * 1.001}
    found = compare(LONG_AND_SHORT, batch, judge(LONG_AND_SHORT, batch), wrong)
    assert excess(found, LONG_AND_SHORT).keys() == {name}


def test_a_loss_that_is_a_difference_of_two_large_numbers_is_found(
    right_results: dict[str, Array],
) -> None:
    # In float32 it loses the digits of a small loss: docs/semantics.md, "Loss".
    case = BY_NAME["cosines 1-1e-7 to -1"]
    batch = case.batch()
    judged = judge(case, batch)
    positive = judged.result.positive_logit.astype(np.float32)
    logits = np.append(positive[:, None], judged.result.logits.astype(np.float32), axis=1)
    naive = oracle.logsumexp(logits).astype(np.float32) - positive
    results = run_loss(batch, case.source, case.all_options(batch), "native")
    found = compare(case, batch, judged, {**results, "row_loss": naive})
    assert excess(found, case).keys() == {"loss"}


def test_a_gradient_beyond_float16_is_infinite_and_no_error() -> None:
    case = HardCase("short rows", random_rows, dtype="float16")
    batch = case.batch()
    batch.query[0] = np.float16(6e-8)
    results = run_loss(batch, case.source, case.all_options(batch), "native")
    assert np.isinf(results["query_gradient"][0]).any()
    assert not excess(compare(case, batch, judge(case, batch), results), case)


# --- The table that is written down. ----------------------------------------------------


def test_the_table_has_every_case_and_no_error_above_its_bound() -> None:
    written = pd.read_csv(ROOT / "benchmarks" / "results" / "errors.csv")
    expected = [(c.name, name) for c in HARD_CASES for name in error_table.IMPLEMENTATIONS]
    assert list(zip(written["case"], written["implementation"], strict=True)) == expected
    for row in written.to_dict("records"):
        case = BY_NAME[row["case"]]
        columns = {f"{name}_error": name for name in bounds(case)}
        found = {name: row[column] for column, name in columns.items()}
        judged = {name: error for name, error in found.items() if not pd.isna(error)}
        assert {"loss", "query", "doc"} <= judged.keys()
        assert not excess(judged, case)


def test_the_command_measures_what_the_tests_measure() -> None:
    case = BY_NAME["zero rows"]
    records = error_table.table([case]).to_dict("records")
    for record in records:
        found = errors(case, record["implementation"])
        assert {name: record[f"{name}_error"] for name in found} == found
        assert record["loss_bound"] == bounds(case)["loss"]
