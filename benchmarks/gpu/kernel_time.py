"""How long a kernel takes: a range, from its compiled loop and what its resources allow.

The low end is the slowest resource while everything else happens at the same time. The high
end is the time of warps that hide little of each other's waiting: the compiler's own stall
counts, times what the first measured kernels executed and waited beyond these.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

SCHEDULERS = 4  # of a multiprocessor; each issues an instruction a clock
LANES = 32
THREADS_OF_A_MULTIPROCESSOR = 2048
REGISTERS_OF_A_MULTIPROCESSOR = 65536
WAVEFRONT_BYTES = 128  # of shared memory, a clock and multiprocessor

# What ncu counted on an H100 of `all` (results/gpu_ncu.csv);
# tests/benchmarks/test_gpu_validation.py computes these from it.
# Instructions executed for each one of the shortest way, in both passes over 128 elements.
EXECUTED = 1.66
# Clocks for each stall of the executed instructions, of the slower pass: with two warps a
# scheduler (768 elements) and with four (128).
WAITED = {2: 1.95, 4: 3.26}
# From an address to its data in device memory, in clocks, as docs/cuda_kernels.md takes it.
LATENCY = 475
# Of the instructions outside of a loop about half are for other cases: narrower copies,
# float16's divisors, the sum of the scale's gradient.
EXECUTED_OUTSIDE = 0.5
# And the stall counts of each: the kernels of bfloat16 for sm_90 have 2.5 to 3.3 there.
STALLS_OUTSIDE = 2.9

# An empty kernel of a graph (benchmarks/results/gpu_checks.json), and one that the host
# launches behind others: nine in ten steps of benchmarks/results/gpu.csv took about a
# microsecond a launch longer than as a graph, or less.
LAUNCH_LOW = 0.81e-6
LAUNCH_HIGH = 1.9e-6
# The kernel that adds up the blocks' losses: one block, one wave (gpu_ncu.csv, "unnamed").
FINISH_HIGH = 3.8e-6


class Prediction(NamedTuple):
    """A time in seconds, and what bounds its low end."""

    low: float
    high: float
    bound: str

    @property
    def middle(self) -> float:
        """The geometric mean; the low end where nothing is known of the high one."""
        return math.sqrt(self.low * self.high) if math.isfinite(self.high) else self.low


@dataclass(frozen=True)
class Warp:
    """What a warp executes in a kernel, and when nothing delays it the clocks of that."""

    instructions: float
    stalls: float

    def __add__(self, other: Warp) -> Warp:
        return Warp(self.instructions + other.instructions, self.stalls + other.stalls)

    def times(self, factor: float) -> Warp:
        """So many of it."""
        return Warp(factor * self.instructions, factor * self.stalls)

    def slow_clocks(self, warps: int) -> float:
        """The most clocks that a scheduler takes for so many such warps.

        Of warps beyond a number that was measured the instructions are all that counts.
        """
        known = max(count for count in WAITED if count <= max(warps, min(WAITED)))
        more = max(warps - known, 0) * self.instructions
        return EXECUTED * (WAITED[known] * self.stalls + more)


def slow_clocks_outside(instructions: float, warps: int) -> float:
    """The most clocks of what is outside of a loop."""
    executed = EXECUTED_OUTSIDE * instructions
    return Warp(executed, STALLS_OUTSIDE * executed).slow_clocks(warps) / EXECUTED


def slowest(limits: Mapping[str, float]) -> tuple[float, str]:
    """The largest of some times, and its name."""
    bound = max(limits, key=limits.__getitem__)
    return limits[bound], bound


def step(kernels: Iterable[Prediction], launches: int, finishes: bool) -> Prediction:
    """Kernels one after another, and their launches; the bound is the longest one's."""
    found = list(kernels)
    longest = max(found, key=lambda kernel: kernel.low)
    return Prediction(
        sum(kernel.low for kernel in found) + launches * LAUNCH_LOW,
        sum(kernel.high for kernel in found)
        + launches * LAUNCH_HIGH
        + (FINISH_HIGH if finishes else 0),
        longest.bound,
    )
