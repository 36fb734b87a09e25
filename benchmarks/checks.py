"""Before it is timed, every implementation is compared with the reference.

A small batch, on candidates that are the same for both: the loss and, in training, both
gradients.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.gpu_model import Size
from benchmarks.problem import Array, Candidates, Problem, random_problem
from benchmarks.ways import WAYS, Way, make_step

SEED = (3, 5)
CHECK_SIZE = Size(batch_size=64, num_negatives=5, dim=32)
NAMES = ("loss", "gradient of query", "gradient of doc")

# Relative to the largest element of what is compared. The peers do all their arithmetic in
# the dtype of their rows; on a GPU their float32 products have ten bits (TensorFloat-32).
TOLERANCE = {"float64": 1e-10, "float32": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}
GPU_TOLERANCE = {**TOLERANCE, "float32": 1e-2}


class WrongResultError(Exception):
    """An implementation computes something else than the reference."""


def draw_candidates(size: Size, sampler: str) -> Candidates:
    """What this package's sampler draws."""
    from negative_cosine import sample_negatives

    rows = size.batch_size
    count = None if sampler == "all" else size.num_negatives
    table = sample_negatives(rows, rows, count, sampler, SEED)
    return Candidates(table.numpy(), SEED)


def reference_outputs(way: Way, training: bool, problem: Problem) -> list[Array]:
    """What the reference computes on the problem's table, on the CPU."""
    import tensorflow as tf
    from negative_cosine import reference_negative_cosine_loss

    assert problem.candidates is not None
    with tf.device("/cpu:0"), tf.GradientTape() as tape:
        query, doc = (
            tf.constant(rows, problem.dtype) for rows in (problem.query, problem.doc)
        )
        tape.watch([query, doc])
        loss = reference_negative_cosine_loss(
            query,
            doc,
            negative_indices=problem.candidates.table,
            mask_self=way.masks_self,
        )
    gradients = tape.gradient(loss, [query, doc]) if training else []
    return [np.asarray(value).astype(np.float64) for value in (loss, *gradients)]


def sums_of_rows(training: bool, problem: Problem) -> list[Array]:
    """What reading the rows of the problem's table adds up to, in float64."""
    from benchmarks.gather_way import as_words

    assert problem.candidates is not None
    matrices = [problem.doc, problem.query] if training else [problem.doc]
    table = problem.candidates.table
    rows = [as_words(matrix, problem.dtype).astype(np.float64) for matrix in matrices]
    return [np.array(sum(matrix[table].sum() for matrix in rows))]


def check(
    name: str, training: bool, dtype: str, device: str = "cpu", threads: int = 2
) -> None:
    """Raises WrongResultError if a way differs from the reference."""
    way = WAYS[name]
    size = replace(CHECK_SIZE, dtype=dtype)
    problem = random_problem(size, draw_candidates(size, way.sampler))
    step = make_step(name, training, problem, device, threads)
    actual = step.outputs(step.run())
    tolerance = (GPU_TOLERANCE if device == "gpu" else TOLERANCE)[dtype]
    if way.reads_alone:
        expected = sums_of_rows(training, problem)
        tolerance = TOLERANCE["float32"]  # what it reads, it adds up in float32
    else:
        expected = reference_outputs(way, training, problem)
    for what, mine, reference in zip(NAMES, actual, expected, strict=False):
        difference = relative_difference(mine, reference)
        if not difference <= tolerance:  # NaN is a difference too
            raise WrongResultError(
                f"{name} is wrong in {dtype}: its {what} differs from the reference by "
                f"{difference:.2g} of the largest element, allowed is {tolerance:g}. "
                "Nothing was timed"
            )
    if len(actual) != len(expected):
        raise WrongResultError(
            f"{name} gives {len(actual)} results, the reference {len(expected)}"
        )


def relative_difference(actual: Array, expected: Array) -> float:
    """The largest difference, relative to the largest element of what is expected."""
    if actual.shape != expected.shape:
        return float("inf")
    return float(np.abs(actual - expected).max() / np.abs(expected).max())
