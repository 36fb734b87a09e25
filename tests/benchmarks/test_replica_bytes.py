"""The count of bytes between replicas, beside counts by hand and by force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import replica_bytes
from benchmarks.replica_bytes import foreign_documents, pass_around, simulate


def test_passed_around_every_device_gets_every_other_block() -> None:
    np.testing.assert_array_equal(pass_around(np.array([3, 5, 7])), [12, 10, 8])


def test_two_replicas_of_three_rows_are_counted_by_hand() -> None:
    # 3 rows of 2 numbers of 4 bytes are 24 bytes; each device gets the other's.
    record = simulate(2, rows=3, dim=2, negatives=2)
    assert record["scatter"] == 24 + 24
    assert record["gather"] == 24 + 2 * 24
    assert record["gather_memory"] == 2 * 2 * 24
    # In blocks the last rows' queries meet the first two documents of the other.
    assert record["blocks"] == 2 * 2 * 8
    assert record["blocks_memory"] == 2 * (3 + 2) * 8


def test_the_neighbours_of_a_ring_are_counted_by_hand() -> None:
    owners = np.array([0, 1, 1, 0, 1, 0])
    # Device 0 meets one of the pair behind 0, then 4; device 1 meets 3 and 5.
    np.testing.assert_array_equal(foreign_documents(owners, 1), [2, 2])
    # With one more, 0 meets 1 and 2; 1 also goes round from 5 to 0.
    np.testing.assert_array_equal(foreign_documents(owners, 2), [3, 3])


@pytest.mark.parametrize("negatives", [1, 3, 7, 24, 59])
@pytest.mark.parametrize(
    "order", [replica_bytes.ring_of_documents, replica_bytes.blocks_of_documents]
)
def test_the_documents_of_others_are_those_that_queries_meet_one_by_one(
    order: object, negatives: int
) -> None:
    assert callable(order)
    owners = order(5, 12, 3)
    met: list[set[int]] = [set() for _ in range(5)]
    for place, owner in enumerate(owners):
        for distance in range(1, negatives + 1):
            other = (place + distance) % len(owners)
            if owners[other] != owner:
                met[owner].add(other)
    expected = [len(documents) for documents in met]
    np.testing.assert_array_equal(foreign_documents(owners, negatives), expected)


@pytest.mark.parametrize("replicas", [2, 8, 64])
def test_the_formulas_of_the_page_are_what_is_counted(replicas: int) -> None:
    rows, dim, negatives = 64, 8, 10
    record = simulate(replicas, rows, dim, negatives)
    block = rows * dim * 4
    assert record["gather"] == 3 * (replicas - 1) * block
    assert record["scatter"] == 2 * (replicas - 1) * block
    assert record["blocks"] == 2 * negatives * dim * 4
    # A document is met where one of a replica's B is among the K before it.
    missed = (1 - 1 / replicas) ** negatives
    expected = 2 * (replicas - 1) * (1 - missed) * block
    assert record["ring"] == pytest.approx(expected, rel=0.2)


def test_what_blocks_need_does_not_grow_with_the_replicas() -> None:
    few, many = (simulate(replicas, rows=16, negatives=40) for replicas in (8, 256))
    assert few["blocks"] == many["blocks"]


def test_the_command_writes_a_row_for_each_number_of_replicas(tmp_path: Path) -> None:
    replica_bytes.main(["--output", str(tmp_path / "bytes.csv")])
    written = pd.read_csv(tmp_path / "bytes.csv")
    assert list(written["replicas"]) == list(replica_bytes.REPLICAS)
