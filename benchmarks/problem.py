"""What every implementation is given, and what the benchmark gets back from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.gpu_model import Size

SCALE = 20.0

Array = NDArray[Any]


@dataclass(frozen=True)
class Candidates:
    """Candidates that are given, for the checks: as a table, and as the seed of it."""

    table: Array  # int32 [B, K]
    seed: tuple[int, int]


@dataclass(frozen=True)
class Problem:
    """The inputs as NumPy has them, float32 or float64; a way casts them to ``dtype``.

    Without ``candidates`` a way draws its own, anew in each step.
    """

    query: Array
    doc: Array
    num_negatives: int
    dtype: str
    candidates: Candidates | None = None


@dataclass(frozen=True)
class Step:
    """A step that can be run again and again: the loss alone, or with both gradients."""

    run: Callable[[], Any]
    wait_for: Callable[[Any], None]  # until what ``run`` returned is there
    outputs: Callable[[Any], list[Array]]  # the same in NumPy: the loss, the gradients


def random_problem(size: Size, candidates: Candidates | None = None) -> Problem:
    """Normally distributed rows, the same for every way."""
    random = np.random.default_rng(0)
    real = np.float64 if size.dtype == "float64" else np.float32
    query, doc = (
        random.standard_normal((rows, size.dim), real)
        for rows in (size.batch_size, size.num_docs)
    )
    return Problem(query, doc, size.num_negatives, size.dtype, candidates)
