"""What is timed through TensorFlow: the problems and the ways. It imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.gpu.gpu_model import MODES, Size
from benchmarks.measurements import Task
from benchmarks.ways import WAYS

# What bench.py does not time: its tables are long enough.
COMPILED = {
    f"{name}-xla": replace(WAYS[name], label=f"{WAYS[name].label}, XLA", compiled=True)
    for name in ("fused-ring", "fused-all")
}
OURS = ("fused", "fused-xla", "fused-ring", "fused-ring-xla", "fused-all", "fused-all-xla")
THEIRS = ("article", "vectorised", "in-batch")
# Last: where a library is missing XLA may do without it, or end the process.
THEIRS_COMPILED = tuple(f"{name}-xla" for name in THEIRS)
ALL = (*OURS, *THEIRS, *THEIRS_COMPILED)
NEED_MATMUL = ("vectorised", "in-batch")
NEED_XLA = tuple(name for name in ALL if name.endswith("-xla"))
# XLA takes seconds to compile each of the others anew for each size.
FEW = tuple(name for name in ALL if name == "fused-xla" or name not in NEED_XLA)


@dataclass(frozen=True)
class Timing:
    """A problem, the ways to time and their modes; compiled ways train only."""

    size: Size
    ways: tuple[str, ...]
    modes: tuple[bool, ...] = (True,)

    def tasks(self) -> Iterator[Task]:
        """Every way in every mode."""
        for name in self.ways:
            for training in self.modes:
                if training or name not in NEED_XLA:
                    yield name, training


TIMINGS = {
    "usual": Timing(Size(4096, 20, 128), ALL, (False, True)),
    "wide": Timing(Size(8192, 64, 256, "bfloat16"), FEW),
    "large": Timing(Size(65536, 50, 128), FEW),
}
SMALL = Size(64, 5, 32)  # of a dry run


def part_name(task: Task) -> str:
    """What a way in a mode is called."""
    return f"{task[0]}, {MODES[task[1]]}"


def way_of(part: str) -> str:
    """The way of a part, "" if it is not one way's."""
    way = part.split(",")[0]
    return way if way in ALL else ""
