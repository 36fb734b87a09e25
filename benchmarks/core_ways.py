"""Steps of this package's CUDA core by itself: on a GPU, or on the CPU emulated."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.checks import rounded
from benchmarks.evidence.command import load_core
from benchmarks.problem import SCALE, Array, Problem, Step
from benchmarks.ways import Way

OUTPUTS = ("loss", "query_gradient", "doc_gradient")


def prepare(way: Way, training: bool, problem: Problem, device: str) -> Any:
    """The core's step; on a GPU float32 products may be rounded, as the others' are."""
    count = len(problem.doc) - 1 if way.sampler == "all" else problem.num_negatives
    seed = problem.candidates.seed if problem.candidates else (1, 2)
    return load_core("device" if device == "gpu" else "emulated").prepare_step(
        rounded(problem.query, problem.dtype),
        rounded(problem.doc, problem.dtype),
        logit_scale=SCALE,
        num_negatives=count,
        sampler=way.sampler,
        seed=np.array(seed),
        training=training,
        statistics=False,
        allow_tf32=device == "gpu",
    )


def make_step(
    way: Way, training: bool, problem: Problem, device: str, threads: int
) -> Step:
    """A step on inputs that stay where they are, launch by launch."""
    return step_of(prepare(way, training, problem, device), "plain")


def step_of(prepared: Any, launch: str) -> Step:
    """The core's step as the benchmarks run it; ``launch`` is "plain" or "graph"."""

    def outputs(_: None) -> list[Array]:
        results = prepared.results()
        names = [name for name in OUTPUTS if name in results]
        return [np.asarray(results[name], np.float64) for name in names]

    return Step(lambda: prepared.launch(1, launch), lambda _: prepared.wait(), outputs)
