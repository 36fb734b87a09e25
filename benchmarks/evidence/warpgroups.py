"""The times of the kernels of warpgroups, over sizes and types: gpu_warpgroups.csv.

The columns are those of gpu.csv, which has the same runs by the usual kernels.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks.evidence.command import parse
from benchmarks.evidence.families import Run
from benchmarks.evidence.kernels import time_runs, unique

FILE = "gpu_warpgroups.csv"
SWITCH = "NEGATIVE_COSINE_WARPGROUPS"

USUAL = Run("all", "bfloat16", 8192, 8191, 128)
BATCH_SIZES = (1000, 2048, 4096, 8192, 10000, 16384, 32768, 65536)
DIMS = (64, 128, 200, 256)
COUNTS = (256, 500, 1000)


def runs() -> Iterator[Run]:
    """What is timed; what the documents show first."""
    for batch_size in BATCH_SIZES:
        yield replace(USUAL, batch_size=batch_size)
    for dim, dtype in itertools.product(DIMS, ("bfloat16", "float16")):
        yield replace(USUAL, dim=dim, dtype=dtype)
    for count in COUNTS:
        yield replace(USUAL, source="ring", num_negatives=count)


def main(words: Sequence[str] | None = None) -> None:
    """Asks for them, and times what there is to time."""
    os.environ[SWITCH] = "1"  # the core reads it once, at the first step
    time_runs(parse(__doc__ or "", words), FILE, unique(runs()))


if __name__ == "__main__":
    main()
