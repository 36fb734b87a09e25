"""The numbers of `all` and of wide rings by warpgroups, on the core that `--core` names.

Hopper's kernels: they are asked for by the environment, NEGATIVE_COSINE_WARPGROUPS=1.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from tests.support.cases import DTYPES, Array, Batch, run_oracle
from tests.support.cores import ON_CUDA, ON_EMULATOR, Core
from tests.support.emulated import launches_of_a_step

pytestmark = ON_CUDA

SWITCH = "NEGATIVE_COSINE_WARPGROUPS"
OPTIONS = sorted({*Batch((2, 2, 2, 1), "float16").options} - {"normalize_over"})
HALVES = pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
SAMPLERS = pytest.mark.parametrize("sampler", ["ring", "all"])
# A device of one multiprocessor takes tiles of 128 rows, one of many those of 64.
ROWS_OF_TILES = pytest.mark.parametrize("rows", [128, 64])
MULTIPROCESSORS = {128: 1, 64: 132}
THREADS = 384

# (B, C, D, K): whole tiles and panels, some rows more or less, every padded length, more
# documents than queries.
SHAPES = [
    (257, 257, 64, 256),
    (257, 257, 128, 256),
    (320, 384, 96, 300),
    (300, 390, 40, 260),
    (256, 260, 200, 259),
]


@pytest.fixture(autouse=True)
def warpgroups(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asks for them: the emulator reads the environment anew for each device."""
    if core.name == "device" and os.environ.get(SWITCH) != "1":
        pytest.skip(f"a process asks for them once and for all: set {SWITCH}=1")
    monkeypatch.setenv(SWITCH, "1")


def batch_of(shape: tuple[int, int, int, int], dtype: str, seed: int = 0) -> Batch:
    """A ring has at most as many candidates as there are other documents."""
    rows, docs, dim, k = shape
    return Batch((rows, docs, dim, min(k, docs - 1)), dtype, seed)


def settings_of(core: Core, rows: int, **further: Any) -> dict[str, Any]:
    """Of the emulator alone: which tiles its device takes."""
    if core.name == "device":
        return {}
    return {"multiprocessors": MULTIPROCESSORS[rows], **further}


@HALVES
@SAMPLERS
@ROWS_OF_TILES
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape_matches_the_oracle(
    core: Core, shape: tuple[int, int, int, int], rows: int, sampler: str, dtype: str
) -> None:
    core.check(batch_of(shape, dtype), sampler, {}, **settings_of(core, rows))


@ON_EMULATOR
@HALVES
@SAMPLERS
@ROWS_OF_TILES
def test_a_step_takes_the_kernels_of_warpgroups(
    core: Core, rows: int, sampler: str, dtype: str
) -> None:
    batch = batch_of((256, 300, 64, 270), dtype)
    launches = launches_of_a_step(batch, sampler, multiprocessors=MULTIPROCESSORS[rows])
    tiles = -(-300 // rows)
    # Norms, forward, the sum of the loss, gradient with a block more for the scale.
    threads = [launch["threads"] for launch in launches]
    assert [threads[1], threads[3]] == [tiles * THREADS, (tiles + 1) * THREADS]
