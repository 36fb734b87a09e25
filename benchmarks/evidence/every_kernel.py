"""Runs each family of kernels once on small arrays: for compute-sanitizer to watch.

compute-sanitizer --tool memcheck python -m benchmarks.evidence.every_kernel
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.checks import rounded
from benchmarks.command_line import positive
from benchmarks.cuda_core import load_core
from benchmarks.gpu.tile_shape import BYTES

ROWS, MORE_DOCS, K = 37, 4, 20
# Rows in bytes. Row kernels: those that registers hold, in pieces and in packets, of one
# warp and of several, and streamed ones; tiles: padded, of one slice and of several.
ROW_BYTES = (68, 256, 512, 1024, 2048, 4096, 4104, 6144, 16400)
# Which an H100 takes by tiles of other kinds than so few. And so many candidates that
# the documents' norms come first.
ROWS_OF_KINDS = {"middle": 4000, "tall": 4300, "twin": 8600}
WIDE_K = 1024
STRIDE = 7  # prime to how many sources, row sizes and dtypes there are
SOURCES = ("shuffle", "ring", "all", "indices")


def calls() -> Iterator[dict[str, Any]]:
    """The settings of each run."""
    for dtype, row_bytes, source in itertools.product(BYTES, ROW_BYTES, SOURCES):
        for tf32 in {False, dtype == "float32" and source in ("ring", "all")}:
            dim = row_bytes // BYTES[dtype] + (row_bytes == ROW_BYTES[0])
            yield {"dtype": dtype, "dim": dim, "source": source, "allow_tf32": tf32}
    for dtype in ("float16", "bfloat16", "float32"):
        ring = {"dtype": dtype, "source": "ring", "allow_tf32": dtype == "float32"}
        dim = 256 // BYTES[dtype]
        for rows in ROWS_OF_KINDS.values():
            yield {**ring, "dim": dim, "rows": rows}
        yield {**ring, "dim": 2 * dim, "rows": ROWS_OF_KINDS["tall"]}
        yield {**ring, "dim": dim, "rows": ROWS_OF_KINDS["tall"], "k": WIDE_K}
    for source in SOURCES:  # the softmax over the batch has kernels of its own
        setting = {"dtype": "float32", "dim": 64, "source": source, "allow_tf32": False}
        yield {**setting, "normalize_over": "batch"}


def spread(everything: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same in strides: what little time allows is of every kind."""
    return [call for first in range(STRIDE) for call in everything[first::STRIDE]]


def run(
    core: Any,
    random: np.random.Generator,
    dtype: str,
    dim: int,
    source: str,
    rows: int = ROWS,
    k: int = K,
    **rest: Any,
) -> None:
    """A training step with ids, logQ and weights; some indices point nowhere."""
    real = np.float64 if dtype == "float64" else np.float32
    docs = rows + MORE_DOCS
    query, doc = (rounded(random.normal(size=(n, dim)), dtype) for n in (rows, docs))
    candidates: dict[str, Any] = {
        "num_negatives": docs - 1 if source == "all" else k,
        "sampler": source,
        "seed": np.array([1, 2]),
    }
    if source == "indices":
        candidates = {"negative_indices": random.integers(-1, docs + 1, (rows, k))}
    core.negative_cosine_loss(
        query,
        doc,
        **candidates,
        doc_ids=random.integers(0, 20, docs),
        query_ids=random.integers(0, 20, rows).astype(np.int32),
        doc_log_q=random.normal(size=docs).astype(real),
        sample_weight=random.uniform(size=rows).astype(real),
        loss_gradient=np.ones((), real),
        **rest,
    )


def main(words: Sequence[str] | None = None) -> None:
    """Runs them all, or what there is time for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=positive, default=math.inf, help="ends then")
    arguments = parser.parse_args(words)
    core, random = load_core(), np.random.default_rng(0)
    wanted = spread([*calls()])
    end, done = time.monotonic() + arguments.seconds, 0
    for call in wanted:
        if done and time.monotonic() > end:
            break
        run(core, random, **call)
        done += 1
    print(f"{done} of {len(wanted)} runs", flush=True)


if __name__ == "__main__":
    main()
