"""The families of kernels, by the sizes that users have: what ncu looks at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.checks import rounded
from benchmarks.problem import Array


@dataclass(frozen=True)
class Run:
    """A step: how candidates are found, the rows' type, the sizes."""

    source: str  # a sampler, or "indices"
    dtype: str
    batch_size: int
    num_negatives: int
    dim: int
    tf32: bool = False
    statistics: bool = True

    def __str__(self) -> str:
        size = f"{self.batch_size}x{self.num_negatives}x{self.dim}"
        without = "" if self.statistics else ", without statistics"
        return f"{self.source}, {self.columns['dtype']}, {size}{without}"

    @property
    def columns(self) -> dict[str, Any]:
        """As the result files have them."""
        return {
            "source": self.source,
            "dtype": "tf32" if self.tf32 else self.dtype,
            "batch_size": self.batch_size,
            "num_negatives": self.num_negatives,
            "dim": self.dim,
            "statistics": self.statistics,
        }

    def smaller(self) -> Run:
        """Of a size that an emulator runs in no time."""
        rows, dim = min(self.batch_size, 24), min(self.dim, 40)
        count = rows - 1 if self.source == "all" else min(self.num_negatives, 5)
        return replace(self, batch_size=rows, num_negatives=count, dim=dim)


# The first ones are those that most users run.
FAMILIES = {
    "rows, 16 bits": Run("shuffle", "bfloat16", 8192, 50, 128),
    "tiles, 16 bits": Run("all", "bfloat16", 8192, 8191, 128),
    "tiles, a band": Run("ring", "bfloat16", 8192, 100, 128),
    "tiles, sliced rows": Run("all", "bfloat16", 8192, 8191, 768),
    "rows, float32": Run("shuffle", "float32", 8192, 50, 128),
    "tiles, tf32": Run("all", "float32", 8192, 8191, 128, tf32=True),
    "tiles, float32": Run("ring", "float32", 8192, 100, 128),
    "rows of several packets": Run("shuffle", "bfloat16", 8192, 50, 768),
    "rows of several warps": Run("shuffle", "float32", 4096, 20, 2048),
    "rows, element by element": Run("shuffle", "bfloat16", 4096, 20, 100),
    "given indices": Run("indices", "bfloat16", 8192, 50, 128),
    "rows, float64": Run("shuffle", "float64", 4096, 20, 128),
}


class Rows:
    """Random rows of any size up to the largest, drawn once for each type."""

    def __init__(self, batch_size: int, dim: int) -> None:
        random = np.random.default_rng(0)
        self._rows = random.standard_normal((2, batch_size, dim), np.float32)

    def of(self, run: Run) -> tuple[Array, Array]:
        """Queries and documents."""
        query, doc = self._rows[:, : run.batch_size, : run.dim]
        return rounded(query, run.dtype), rounded(doc, run.dtype)


def candidates_of(run: Run) -> dict[str, Any]:
    """Where a step finds its candidates, as arguments of the core."""
    if run.source != "indices":
        count = {"num_negatives": run.num_negatives, "seed": np.array([1, 2])}
        return {"sampler": run.source, **count}
    shape = (run.batch_size, run.num_negatives)
    indices = np.random.default_rng(1).integers(run.batch_size, size=shape, dtype=np.int32)
    return {"negative_indices": indices}


def prepare(core: Any, run: Run, rows: Rows, training: bool) -> Any:
    """The step, with its arrays on the device."""
    query, doc = rows.of(run)
    return core.prepare_step(
        query,
        doc,
        **candidates_of(run),
        training=training,
        statistics=run.statistics,
        allow_tf32=run.tf32,
    )
