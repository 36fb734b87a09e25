"""Rings of many more documents than queries, most of whose places have no query.

On a device that they fill, tiles of short rows are made of the queries alone
(csrc/cuda/tiles).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu import tile_shape
from tests.support import oracle
from tests.support.cases import DTYPES, Batch
from tests.support.cores import ON_EMULATOR, Core
from tests.support.emulated import Launches, launches_of_a_step

pytestmark = ON_EMULATOR

OPTIONS = sorted(Batch((2, 2, 2, 1), "float32").options)
# Devices that few tiles fill: with room for two of them at a time, and of less memory.
FULL: dict[str, Any] = {"multiprocessors": 1}
TIGHT: dict[str, Any] = {"multiprocessors": 1, "capability": (8, 6)}


# Longer rows take the usual tiles.
LENGTHS = (
    *(n for n in tile_shape.ROWS_OF_TILES if n <= tile_shape.LONGEST_ROW_OF_GROUPS),
    768,
)


def step_of(shape: tuple[int, int, int, int], dtype: str, **options: Any) -> Launches:
    return launches_of_a_step(Batch(shape, dtype), "ring", **FULL, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row_bytes", LENGTHS)
@pytest.mark.parametrize("device", [FULL, TIGHT], ids=["full", "tight"])
def test_rows_of_every_length_match_the_oracle(
    core: Core, device: dict[str, Any], row_bytes: int, dtype: str
) -> None:
    dim = row_bytes // np.dtype(DTYPES[dtype]).itemsize
    core.check(Batch((40, 230, dim, 9), dtype), "ring", {}, **device)


# (B, C, K): a query, and as many documents as are enough for a second tile; bands that lie
# apart, that overlap, and that go all around; a third more documents.
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "docs", "k"),
    [(1, 66, 3), (5, 700, 4), (64, 400, 130), (70, 140, 139), (100, 134, 20)],
)
def test_bands_near_and_far_match_the_oracle(
    core: Core, rows: int, docs: int, k: int, dtype: str
) -> None:
    core.check(Batch((rows, docs, 60, k), dtype), "ring", {}, **FULL)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("dim", [60, 128])
def test_every_option_matches_the_oracle(
    core: Core, dim: int, option: str, dtype: str
) -> None:
    batch = Batch((50, 200, dim, 70), dtype)
    core.check(batch, "ring", batch.only(option), **FULL)


def queries_of_spans(batch: Batch, span: int) -> list[int]:
    """How many queries are at the places of each tile of the forward pass."""
    order = oracle.Permutation(batch.seed, 0, batch.docs)
    starts = [*range(0, batch.docs, span), batch.docs]
    return [
        sum(order(place) < batch.rows for place in range(start, end))
        for start, end in pairwise(starts)
    ]


def test_a_span_with_more_queries_than_the_tile_has_rows_takes_turns(core: Core) -> None:
    tile = tile_shape.TileShape("float32", 128, "twin")
    batch = Batch((200, 2000, 32, 9), "float32")
    span = int(((tile.rows + 1) ** 0.5 - 1) ** 2 * batch.docs / batch.rows)
    while max(queries_of_spans(batch, span)) <= tile.rows:
        batch.seed = (batch.seed[0] + 1, batch.seed[1])
    tiles = len(queries_of_spans(batch, span))
    forward = launches_of_a_step(batch, "ring", **FULL)[1]
    assert forward["threads"] == 32 * tile.warps * tiles
    for reduction in ("mean", "none"):
        core.check(batch, "ring", {"reduction": reduction}, **FULL)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_order_of_lanes_warps_and_blocks_does_not_change_a_bit(
    core: Core, dtype: str
) -> None:
    batch = Batch((70, 300, 60, 90), dtype)
    options = batch.only("doc_ids", "doc_log_q", "sample_weight")
    in_order = core.run(batch, "ring", options, **FULL)
    for schedule in (1, 2, 3):
        again = core.run(batch, "ring", options, schedule=schedule, **FULL)
        for name, values in in_order.items():
            assert again[name].tobytes() == values.tobytes(), name


# --- What a step costs -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_of_all_documents_come_first(dtype: str) -> None:
    assert len(step_of((70, 300, 60, 20), dtype)) == 4


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_launch_has_an_atomic(dtype: str) -> None:
    launches = step_of((70, 300, 60, 20), dtype, doc_ids=np.arange(300))
    assert not any(launch["atomics"] for launch in launches)


# Without a look at where the queries are, ten times the documents take ten times the
# matrices.
@pytest.mark.parametrize("k", [20, 60])
def test_ten_times_the_documents_take_at_most_three_times_the_products(k: int) -> None:
    def matrices(docs: int) -> int:
        launches = step_of((64, docs, 128, k), "bfloat16")
        return sum(launch["shared_wavefronts"] for launch in launches)

    assert matrices(640) <= 3 * matrices(66)
