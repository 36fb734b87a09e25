"""What it takes to sort a table of candidates by document, counted by the emulator.

The gradient pass needs for each document the rows that drew it. No machine is needed to
count launches, blocks and sectors: they are the guard of the speed that is promised.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.cases import Batch
from tests.support.cores import ON_EMULATOR, Core
from tests.support.emulated import Launches, launches_of_a_step, moved

pytestmark = ON_EMULATOR

OF_A_STEP = 3  # forward, its sum, and gradient
PAIRS_OF_A_BLOCK = 2048  # at least, see csrc/cuda/candidates/pairs.cuh
DIGITS_OF_A_SCAN = 8  # of a block's


def sort_of(batch: Batch, source: str = "indices", **options: Any) -> Launches:
    """The launches between the forward pass and the gradient pass."""
    return launches_of_a_step(batch, source, **options)[2:-1]


def sectors_of_a_pair(batch: Batch, **options: Any) -> float:
    launches = sort_of(batch, **options)
    sectors = sum(each["sectors_read"] + each["sectors_written"] for each in launches)
    return sectors / (batch.rows * batch.k)


@pytest.mark.parametrize(
    ("docs", "passes"), [(40, 1), (256, 1), (257, 2), (65_536, 2), (65_537, 3)]
)
def test_a_sort_is_three_launches_a_byte_of_the_number_of_documents_and_one(
    docs: int, passes: int
) -> None:
    launches = launches_of_a_step(Batch((37, docs, 4, 20), "float32"), "indices")
    assert len(launches) == OF_A_STEP + 3 * passes + 1


def test_draws_are_sorted_where_that_costs_less_than_their_inverses() -> None:
    assert len(sort_of(Batch((40, 70_000, 4, 40), "float32"), "shuffle")) == 10
    for few in [(40, 300, 4, 40), (300, 1150, 4, 2000)]:  # few inverses, few documents
        assert not sort_of(Batch(few, "float32"), "shuffle")


@pytest.mark.parametrize(("dtype", "most"), [("int32", 1.65), ("int64", 1.78)])
def test_a_pair_is_moved_by_few_sectors(dtype: str, most: float) -> None:
    # 4 bytes of a number are an eighth of a sector: read twice by each pass, beside the
    # row in the second, written once, and with the row twice by runs of 16 pairs.
    batch = Batch((1024, 1024, 4, 50), "float32")
    batch.indices = batch.indices.astype(dtype)
    assert sectors_of_a_pair(batch) <= most


def test_the_sort_moves_less_than_a_quarter_of_the_gather_behind_it() -> None:
    batch = Batch((1024, 1024, 128, 50), "bfloat16")
    launches = launches_of_a_step(batch, "indices")
    assert moved(launches[2:-1]) <= 0.25 * moved(launches[-1:])


@pytest.mark.parametrize("rows", [100, 1024, 4000])
def test_the_blocks_of_a_sort_follow_the_pairs_and_of_its_scan_the_digits(
    rows: int,
) -> None:
    batch = Batch((rows, 4096, 4, 50), "float32")
    tiles = -(-rows * 50 // PAIRS_OF_A_BLOCK)
    scans = 64 // DIGITS_OF_A_SCAN
    *passes, starts = sort_of(batch)
    assert [each["blocks"] for each in passes] == 2 * [tiles, scans, tiles]
    assert starts["threads"] >= batch.docs


@pytest.mark.parametrize("source", ["indices", "shuffle"])
def test_dropped_pairs_are_neither_sorted_nor_counted_after_the_first_pass(
    source: str,
) -> None:
    batch = Batch((40, 70_000, 4, 40), "float32")
    nobodys = {"doc_log_q": np.full(70_000, np.inf, np.float32)}
    first, others = 3, sort_of(batch, source, **nobodys)
    assert all(each["sectors_written"] > 0 for each in others[:first])
    moves = others[2:-1:3]
    assert [each["bytes_written"] for each in moves] == [8, 0, 0]  # how many are kept


@pytest.mark.parametrize("schedule", [1, 2, 3])
@pytest.mark.parametrize("source", ["indices", "shuffle"])
def test_the_order_of_threads_and_blocks_changes_no_bit(
    core: Core, source: str, schedule: int
) -> None:
    batch = Batch((40, 66_000, 4, 130), "float32")
    options = batch.only("doc_ids")
    expected = core.run(batch, source, options)
    found = core.run(batch, source, options, schedule=schedule)
    for name, values in expected.items():
        assert np.asarray(values).tobytes() == np.asarray(found[name]).tobytes(), name


# --- The checks see what they are for. --------------------------------------------------


def test_runs_of_few_pairs_fail_the_count_of_sectors() -> None:
    # 40 pairs of 128 digits: nothing lies side by side.
    assert sectors_of_a_pair(Batch((4, 16_384, 4, 10), "float32")) > 3
