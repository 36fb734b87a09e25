"""Interleaved timing: in each round every way takes some steps in a row."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
from tqdm import tqdm

Key = TypeVar("Key")
Result = TypeVar("Result")

WARM_UP_STEPS = 3


def time_rounds(
    ways: Mapping[Key, Callable[[], Result]],
    wait_for: Callable[[Result], None],
    rounds: int,
    steps: int,
) -> dict[Key, list[float]]:
    """Milliseconds a step of each way in each round.

    A change in the machine's speed meets all ways alike. A round's clock stops when its
    last result is at the host; what that takes is part of the time.
    """
    milliseconds: dict[Key, list[float]] = {key: [] for key in ways}
    for way in tqdm(ways.values(), desc="warm-up", leave=False):
        run(way, wait_for, WARM_UP_STEPS)
    for _ in tqdm(range(rounds), desc="rounds", leave=False):
        for key, way in ways.items():
            milliseconds[key].append(1e3 * run(way, wait_for, steps) / steps)
    return milliseconds


def run(way: Callable[[], Result], wait_for: Callable[[Result], None], steps: int) -> float:
    """Seconds that some steps take."""
    start = time.perf_counter()
    for _ in range(steps):
        result = way()
    wait_for(result)
    return time.perf_counter() - start


def summary(times: list[float], fused: list[float]) -> dict[str, float]:
    """Median and quantiles of the rounds, and the median ratio within a round."""
    return {
        "median_ms": float(np.median(times)),
        "q20_ms": float(np.quantile(times, 0.2)),
        "q80_ms": float(np.quantile(times, 0.8)),
        "times_the_fused": float(np.median(np.array(times) / np.array(fused))),
    }
