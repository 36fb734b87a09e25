"""The named problems of the benchmark: `--case`."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.gpu.gpu_model import Size

LARGE = Size(65536, 50, 128)
USUAL = Size(4096, 20, 128)

# The sweeps change one of B, K and D; benchmarks/plot.py draws them.
CASES: dict[str, tuple[Size, ...]] = {
    "small": (Size(8, 4, 128),),
    "1024": (Size(1024, 20, 128),),
    "4096": (USUAL,),
    "8192": (Size(8192, 50, 128),),
    "large": (LARGE,),
    "batch": tuple(
        replace(USUAL, batch_size=rows)
        for rows in (8, 32, 128, 512, 2048, 8192, 32768, 65536)
    ),
    "as-they-come": tuple(
        replace(USUAL, batch_size=rows)
        for rows in (1000, 1024, 4096, 4100, 6000, 8192, 10_000, 65_536)
    ),
    "negatives": tuple(
        replace(USUAL, num_negatives=count) for count in (4, 16, 64, 256, 1000)
    ),
    "dim": tuple(replace(USUAL, dim=dim) for dim in (32, 64, 128, 256, 768)),
    "bfloat16": (LARGE, replace(LARGE, dtype="bfloat16")),
    # Behind the batch: queues of 16 and 128 batches, and the batches of 7 other replicas.
    "more-docs": (
        *(Size(512, 50, 64, more_docs=batches * 512) for batches in (16, 128)),
        Size(1024, 50, 128, more_docs=7 * 1024),
    ),
}
DEFAULT = "4096"
# What --sizes calls a problem that has no name here.
UNNAMED = "sizes"
