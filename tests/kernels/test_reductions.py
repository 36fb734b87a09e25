"""What needs every row of a batch: in one block of few rows, in several of many."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from negative_cosine import _core

from tests.support.cases import Batch, run_on_arrays
from tests.support.cores import ON_EMULATOR, Core
from tests.support.emulated import launches_of_a_step

# Of one block at most, see csrc/cuda/reductions.cu.
ROWS_OF_ONE_SOFTMAX = 8192
ROWS_OF_ONE_SUM = 32_768
ROWS_OF_A_BLOCK = 2048  # of several

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
OF_BATCH = {"normalize_over": "batch"}


def make_batch(rows: int, dtype: str = "float32") -> Batch:
    return Batch((rows, rows, 2, 1), dtype)


def excluded(batch: Batch) -> dict[str, Any]:
    """Documents of no row, all of the first block's among them."""
    log_q = np.zeros(batch.docs, batch.real)
    log_q[: ROWS_OF_A_BLOCK + 100] = np.inf
    log_q[-1] = np.inf
    return {"doc_log_q": log_q}


def padded(batch: Batch) -> dict[str, Any]:
    """Rows of NaN that have no weight."""
    weight = np.ones(batch.rows, batch.real)
    weight[[0, 5000, batch.rows - 1]] = 0
    batch.query[weight == 0] = np.nan
    return {"sample_weight": weight}


def far_apart(batch: Batch) -> dict[str, Any]:
    """Logits that leave one row's share alone."""
    log_q = np.zeros(batch.docs, batch.real)
    log_q[6000] = -600
    return {"doc_log_q": log_q}


def plain(batch: Batch) -> dict[str, Any]:
    return batch.only("doc_log_q", "sample_weight", "margin")


@pytest.mark.parametrize("reduction", ["sum", "mean", "none"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("make_options", [plain, excluded, padded, far_apart])
def test_the_softmax_of_many_rows_is_the_cpus(
    core: Core, make_options: Any, dtype: str, reduction: str
) -> None:
    batch = make_batch(ROWS_OF_ONE_SOFTMAX + 900, dtype)
    options = {**make_options(batch), **OF_BATCH, "reduction": reduction}
    found = core.run(batch, "ring", options)
    expected = run_on_arrays(_core, batch, "ring", options)
    counted = np.isfinite(expected["positive_cosine"])
    for name in ("loss", "row_loss", "query_gradient", "doc_gradient"):
        ours, theirs = np.asarray(found[name]), np.asarray(expected[name])
        if theirs.shape == counted.shape:
            ours, theirs = ours[counted], theirs[counted]
        size = np.abs(theirs[np.isfinite(theirs)]).max(initial=0)
        np.testing.assert_allclose(
            ours, theirs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * size, err_msg=name
        )


@pytest.mark.parametrize("rows", [40, ROWS_OF_ONE_SOFTMAX + 900])
def test_one_row_of_nan_makes_every_loss_nan(core: Core, rows: int) -> None:
    batch = make_batch(rows)
    batch.query[rows // 2] = np.nan
    results = core.run(batch, "ring", OF_BATCH)
    assert np.isnan(results["loss"])
    assert np.isnan(results["row_loss"]).all()


def test_the_coefficients_of_very_many_rows_are_added_up_in_two_stages(core: Core) -> None:
    batch = make_batch(ROWS_OF_ONE_SUM + 1)
    options = {**batch.only("sample_weight"), **OF_BATCH}
    found = core.run(batch, "ring", options)
    expected = run_on_arrays(_core, batch, "ring", options)
    for name in ("query_gradient", "doc_gradient"):
        size = np.abs(expected[name]).max()
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5 * size)


@ON_EMULATOR
@pytest.mark.parametrize("schedule", [1, 2])
def test_the_order_of_blocks_changes_no_bit_of_the_softmax(
    core: Core, schedule: int
) -> None:
    batch = make_batch(ROWS_OF_ONE_SOFTMAX + 1)
    expected = core.run(batch, "ring", OF_BATCH)
    found = core.run(batch, "ring", OF_BATCH, schedule=schedule)
    for name, values in expected.items():
        assert np.asarray(values).tobytes() == np.asarray(found[name]).tobytes(), name


# The launches between the forward pass and the gradient pass, by their blocks.
REDUCTIONS: dict[tuple[int, str, str], list[int]] = {
    (40, "candidates", "mean"): [1],
    (ROWS_OF_ONE_SOFTMAX + 1, "candidates", "mean"): [1],
    (ROWS_OF_ONE_SOFTMAX + 1, "candidates", "none"): [],
    (ROWS_OF_ONE_SOFTMAX, "batch", "mean"): [1, 1],
    (ROWS_OF_ONE_SOFTMAX + 1, "batch", "mean"): [5, 5, 1, 1],
    (ROWS_OF_ONE_SOFTMAX + 1, "batch", "none"): [5, 5, 1],
    (ROWS_OF_ONE_SUM + 1, "batch", "mean"): [17, 17, 1, 17, 1],
}


@ON_EMULATOR
@pytest.mark.parametrize("case", REDUCTIONS, ids=str)
def test_more_rows_than_one_block_should_take_are_given_to_several(
    case: tuple[int, str, str],
) -> None:
    rows, normalize_over, reduction = case
    options: dict[str, Any] = {"normalize_over": normalize_over, "reduction": reduction}
    launches = launches_of_a_step(make_batch(rows), "ring", **options)
    assert [each["blocks"] for each in launches[1:-1]] == REDUCTIONS[case]
