"""The floor: reading the rows that a step must read, and nothing else, on the CPU."""

from __future__ import annotations

import numpy as np
from negative_cosine import _probes

from benchmarks.gpu.tile_shape import BYTES
from benchmarks.problem import Array, Problem, Step
from benchmarks.ways import Way


def make_step(
    way: Way, training: bool, problem: Problem, device: str, threads: int
) -> Step:
    """Reads a positive and K random rows of doc for each query.

    In training it then reads as many rows of query: the queries that drew a document.
    """
    del way, device
    docs, shape = len(problem.doc), (len(problem.query), problem.num_negatives + 1)
    if problem.candidates:
        indices = problem.candidates.table
    else:
        indices = np.random.default_rng(0).integers(docs, size=shape)
    indices = indices.astype(np.int32).ravel()
    matrices = [problem.doc, problem.query] if training else [problem.doc]
    reads = [
        (as_words(matrix, problem.dtype), rows_of(matrix, indices)) for matrix in matrices
    ]

    def run() -> list[float]:
        return [_probes.read_rows(matrix, rows, threads) for matrix, rows in reads]

    return Step(run, lambda sums: None, lambda sums: [np.array(sum(sums))])


def rows_of(matrix: Array, indices: Array) -> Array:
    """Rows of documents as rows of a matrix, which may be the shorter one of queries."""
    return indices % len(matrix)


def as_words(matrix: Array, dtype: str) -> Array:
    """Rows of as many bytes as the dtype's: what counts is not what is in them."""
    words = -(-matrix.shape[1] * BYTES[dtype] // 4)
    wide = np.resize(matrix.astype(np.float32), (len(matrix), words))
    return np.ascontiguousarray(wide)
