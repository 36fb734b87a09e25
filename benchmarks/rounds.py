"""Interleaved timing: in each round every way takes some steps in a row."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.problem import Step

Key = TypeVar("Key", bound=Hashable)
Times = NDArray[np.float64]  # milliseconds a step in each round, NaN where it sat out

FEWEST_ROUNDS = 3
# Between two ways: the one's threads spin for some milliseconds before they sleep, which
# would slow the other one down.
PAUSE_SECONDS = 0.01


@dataclass(frozen=True)
class Plan:
    """The rounds that a way takes part in, and its steps in each."""

    rounds: frozenset[int]
    steps: int


def make_plan(seconds: float, rounds: int, steps: int, time_limit: float) -> Plan:
    """So many steps that a way whose step takes ``seconds`` keeps to the limit.

    First the steps of a round become fewer, then the rounds, down to three (or all, where
    fewer were asked for), spread over the whole run.
    """
    affordable = time_limit / seconds
    steps = max(1, min(steps, int(affordable / rounds)))
    count = min(rounds, max(FEWEST_ROUNDS, int(affordable / steps)))
    chosen = np.linspace(0, rounds - 1, count).round()
    return Plan(frozenset(map(int, chosen)), steps)


def warm_up(step: Step) -> float:
    """Seconds of a step after one that traces, compiles and allocates."""
    run(step, 1)
    return run(step, 1)


def time_rounds(
    ways: Mapping[Key, Step], rounds: int, steps: int, time_limit: float
) -> tuple[dict[Key, Times], dict[Key, Plan]]:
    """Milliseconds a step of each way in each round, and what each way's rounds were.

    A change in the machine's speed meets all ways alike. A round's clock stops when its
    last result is there; what that takes is part of the time.
    """
    plans = {
        key: make_plan(warm_up(step), rounds, steps, time_limit)
        for key, step in tqdm(ways.items(), desc="warm-up", leave=False)
    }
    times = {key: np.full(rounds, np.nan) for key in ways}
    for number in tqdm(range(rounds), desc="rounds", leave=False):
        for key, step in ways.items():
            if number in plans[key].rounds:
                time.sleep(PAUSE_SECONDS)
                count = plans[key].steps
                times[key][number] = 1e3 * run(step, count) / count
    return times, plans


def run(step: Step, count: int) -> float:
    """Seconds that some steps take."""
    start = time.perf_counter()
    for _ in range(count):
        result = step.run()
    step.wait_for(result)
    return time.perf_counter() - start


def quartiles(rounds: Times) -> list[float]:
    """The lower quartile, the median and the upper one, of the rounds that there are."""
    return [float(number) for number in np.nanquantile(rounds, [0.25, 0.5, 0.75])]


def num_rounds(rounds: Times) -> int:
    """The rounds that there are."""
    return int(np.count_nonzero(~np.isnan(rounds)))


def summary(times: Times, baseline: Times | None) -> dict[str, Any]:
    """Median and quantiles of the rounds, and the median ratio within a round."""
    ratio = np.nan if baseline is None else float(np.nanmedian(times / baseline))
    return {
        "median_ms": float(np.nanmedian(times)),
        "q20_ms": float(np.nanquantile(times, 0.2)),
        "q80_ms": float(np.nanquantile(times, 0.8)),
        "ratio": ratio,
        "samples": num_rounds(times),
    }
