"""Before it is timed, every implementation is compared with the tests' float64 oracle.

A small batch, on candidates that are the same for both: the loss and, in training, both
gradients. It needs no framework but the implementation's own.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from benchmarks.gpu.gpu_model import Size
from benchmarks.problem import SCALE, Array, Candidates, Problem, random_problem
from benchmarks.ways import WAYS, Way, make_step
from tests.support import oracle

SEED = (3, 5)
CHECK_SIZE = Size(batch_size=64, num_negatives=5, dim=32)
NAMES = ("loss", "gradient of query", "gradient of doc")

# Relative to the largest element of what is compared. The peers do all their arithmetic in
# the dtype of their rows; on a GPU their float32 products have ten bits (TensorFloat-32).
TOLERANCE = {"float64": 1e-10, "float32": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}
GPU_TOLERANCE = {**TOLERANCE, "float32": 1e-2}


class WrongResultError(Exception):
    """An implementation computes something else than the oracle."""


def draw_candidates(size: Size, sampler: str) -> Candidates:
    """What this package's sampler draws."""
    from negative_cosine import _core

    rows, docs = size.batch_size, size.num_docs
    count = docs - 1 if sampler == "all" else size.num_negatives
    return Candidates(_core.sample_negatives(rows, docs, count, *SEED, sampler), SEED)


def rounded(rows: Array, dtype: str) -> Array:
    """Rows as an implementation gets them."""
    if dtype == "bfloat16":
        import ml_dtypes  # it comes with TensorFlow and JAX, and a bare machine may lack it

        return rows.astype(ml_dtypes.bfloat16)
    return rows.astype(dtype)


def expected_outputs(way: Way, training: bool, problem: Problem) -> list[Array]:
    """What the oracle computes of the problem's rows and table."""
    assert problem.candidates is not None
    query, doc = (rounded(rows, problem.dtype) for rows in (problem.query, problem.doc))
    result = oracle.negative_cosine_loss(
        query, doc, problem.candidates.table, scale=SCALE, mask_self=way.masks_self
    )
    gradients = [result.query_gradient, result.doc_gradient] if training else []
    return [np.asarray(value) for value in (result.loss, *gradients)]


def sums_of_rows(training: bool, problem: Problem) -> tuple[list[Array], float]:
    """What reading the rows of the problem's table adds up to, and what is allowed.

    The numbers are added up in float32 and nearly cancel: the error is relative to the sum
    of their magnitudes.
    """
    from benchmarks.gather_way import as_words, rows_of

    assert problem.candidates is not None
    matrices = [problem.doc, problem.query] if training else [problem.doc]
    words = [as_words(matrix, problem.dtype).astype(np.float64) for matrix in matrices]
    table = problem.candidates.table
    read = np.concatenate([matrix[rows_of(matrix, table)] for matrix in words])
    allowed = TOLERANCE["float32"] * np.abs(read).sum() / abs(read.sum())
    return [np.array(read.sum())], float(allowed)


def more_docs_of_check(size: Size) -> int:
    """As many documents for a query as a size has: how the core adds up depends on it."""
    return math.ceil(CHECK_SIZE.batch_size * size.more_docs / size.batch_size)


def check(
    name: str,
    training: bool,
    dtype: str,
    device: str = "cpu",
    threads: int = 2,
    more_docs: int = 0,
) -> None:
    """Raises WrongResultError if a way differs from the oracle."""
    way = WAYS[name]
    size = replace(CHECK_SIZE, dtype=dtype, more_docs=more_docs)
    problem = random_problem(size, draw_candidates(size, way.sampler))
    step = make_step(name, training, problem, device, threads)
    actual = step.outputs(step.run())
    if way.reads_alone:
        expected, tolerance = sums_of_rows(training, problem)
    else:
        expected = expected_outputs(way, training, problem)
        tolerance = (GPU_TOLERANCE if device == "gpu" else TOLERANCE)[dtype]
    for what, mine, exact in zip(NAMES, actual, expected, strict=False):
        difference = relative_difference(mine, exact)
        if not difference <= tolerance:  # NaN is a difference too
            raise WrongResultError(
                f"{name} is wrong in {dtype}: its {what} differs from the float64 oracle's "
                f"by {difference:.2g} of the largest element, allowed is {tolerance:g}. "
                "Nothing was timed"
            )
    if len(actual) != len(expected):
        raise WrongResultError(
            f"{name} gives {len(actual)} results, the oracle {len(expected)}"
        )


def relative_difference(actual: Array, expected: Array) -> float:
    """The largest difference, relative to the largest element of what is expected."""
    if actual.shape != expected.shape:
        return float("inf")
    return float(np.abs(actual - expected).max() / np.abs(expected).max())
