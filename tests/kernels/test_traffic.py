"""How much memory the CUDA kernels move, counted by the emulator against the formulas.

The counts do not depend on a machine: they are the guard of the speed that is promised.
A sector is 32 bytes, the least that a GPU's caches move.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.gpu.gpu_model import SECTOR_BYTES
from tests.support import emulated
from tests.support.cases import DTYPES, Batch
from tests.support.cores import ON_EMULATOR, Core
from tests.support.emulated import Launches, launches_of_a_step, moved

pytestmark = ON_EMULATOR

# B x D x K. Rows of at least 256 bytes in any dtype: beside shorter ones the 32 bytes of
# a row's facts weigh more than the tolerance.
SIZES = [(256, 128, 20), (256, 256, 64), (128, 768, 20), (64, 1024, 50), (64, 1536, 20)]


def rows_of_a_pass(batch: Batch) -> int:
    """The bytes of a query, its positive and K others, for each query."""
    return batch.rows * (batch.k + 2) * batch.dim * batch.query.dtype.itemsize


def outputs_of_a_step(batch: Batch) -> int:
    """The bytes of both gradients, and of the direction, written and read."""
    row = batch.dim * (batch.query.dtype.itemsize + np.dtype(batch.real).itemsize)
    return 2 * batch.rows * row


def assert_moves_what_the_formula_says(launches: Launches, batch: Batch) -> None:
    """Within 15% of two passes over the rows and the outputs."""
    expected = 2 * rows_of_a_pass(batch) + outputs_of_a_step(batch)
    assert 0.95 * expected <= moved(launches) <= 1.15 * expected


def assert_reads_whole_sectors(launch: dict[str, int]) -> None:
    """Sectors within 10% of the bytes that the lanes ask for."""
    assert SECTOR_BYTES * launch["sectors_read"] <= 1.1 * launch["bytes_read"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_training_step_moves_what_the_formula_says(
    size: tuple[int, int, int], dtype: str
) -> None:
    rows, dim, k = size
    batch = Batch((rows, rows, dim, k), dtype)
    assert_moves_what_the_formula_says(launches_of_a_step(batch), batch)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("dim", [32, 64, 96])
def test_beside_short_rows_only_their_facts_add_to_it(dim: int, dtype: str) -> None:
    batch = Batch((256, 256, dim, 50), dtype)
    facts = SECTOR_BYTES * batch.rows * batch.k
    expected = 2 * rows_of_a_pass(batch) + outputs_of_a_step(batch) + facts
    assert moved(launches_of_a_step(batch)) <= 1.15 * expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_rows_are_read_by_whole_sectors(size: tuple[int, int, int], dtype: str) -> None:
    rows, dim, k = size
    launches = launches_of_a_step(Batch((rows, rows, dim, k), dtype))
    for launch in (launches[0], launches[-1]):
        assert_reads_whole_sectors(launch)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_are_read_by_packets_of_16_bytes(dtype: str) -> None:
    batch = Batch((256, 256, 128, 20), dtype)
    forward = launches_of_a_step(batch)[0]
    assert 16 * forward["reads_of_16_bytes"] >= rows_of_a_pass(batch)


# What the pass reads by pieces of so many bytes, of what its rows are.
def share_read_by(piece: int, batch: Batch) -> float:
    forward = launches_of_a_step(batch)[0]
    return piece * forward[f"reads_of_{piece}_bytes"] / rows_of_a_pass(batch)


@pytest.mark.parametrize(
    ("dtype", "dim", "piece"),
    [
        *[("bfloat16", 128, 16), ("bfloat16", 100, 8), ("bfloat16", 50, 4)],
        *[("float16", 300, 8), ("float32", 50, 8), ("float32", 33, 4)],
        *[("float32", 300, 16), ("float64", 33, 8)],
    ],
)
def test_rows_are_read_by_the_widest_pieces_that_fit(
    dtype: str, dim: int, piece: int
) -> None:
    assert share_read_by(piece, Batch((256, 256, dim, 50), dtype)) >= 0.95


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_odd_rows_of_16_bits_are_read_by_their_elements(dtype: str) -> None:
    batch = Batch((256, 256, 99, 50), dtype)
    assert max(share_read_by(piece, batch) for piece in (16, 8, 4)) < 0.1


# A piece of 8 bytes is a lane's, those of a row lie side by side: an access of 128 or 256
# bytes that starts within a sector takes one sector more.
@pytest.mark.parametrize(
    ("dtype", "dim", "packets_dim"),
    [
        *[("bfloat16", 100, 104), ("float16", 300, 304)],
        *[("float32", 50, 52), ("float64", 33, 34)],
    ],
)
def test_pieces_read_at_most_a_fifth_more_sectors_than_packets(
    dtype: str, dim: int, packets_dim: int
) -> None:
    pieces, packets = (
        launches_of_a_step(Batch((256, 256, d, 50), dtype)) for d in (dim, packets_dim)
    )
    for first, second in ((pieces[0], packets[0]), (pieces[-1], packets[-1])):
        assert first["sectors_read"] <= 1.2 * second["sectors_read"]


def test_the_loss_alone_moves_half_of_a_step() -> None:
    batch = Batch((256, 256, 256, 64), "float32")
    step = launches_of_a_step(batch)
    assert moved(launches_of_a_step(batch, training=False)) <= 0.55 * moved(step)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_training_step_of_shuffle_is_at_most_three_launches(
    reduction: str, dtype: str
) -> None:
    batch = Batch((37, 41, 64, 20), dtype)
    options = batch.only("doc_ids", "query_ids", "doc_log_q", "sample_weight", "margin")
    launches = launches_of_a_step(batch, **options, reduction=reduction)
    assert len(launches) == (2 if reduction == "none" else 3)


def test_few_rows_are_spread_over_many_multiprocessors_and_give_the_same_bits(
    core: Core,
) -> None:
    batch = Batch((256, 256, 64, 20), "float32")
    blocks = {
        count: launches_of_a_step(batch, multiprocessors=count)[0]["blocks"]
        for count in (4, 132)
    }
    assert blocks[4] < blocks[132] == batch.rows
    few, many = (core.run(batch, "shuffle", {}, multiprocessors=each) for each in blocks)
    for name in ("row_loss", "query_gradient", "doc_gradient"):
        assert few[name].tobytes() == many[name].tobytes(), name


@pytest.mark.parametrize("normalize_over", ["candidates", "batch"])
@pytest.mark.parametrize("source", ["shuffle", "indices"])
def test_no_launch_has_an_atomic(source: str, normalize_over: str) -> None:
    batch = Batch((37, 41, 64, 20), "float32")
    launches = launches_of_a_step(batch, source, normalize_over=normalize_over)
    assert not any(launch["atomics"] for launch in launches)


# --- The checks see what they are for. -------------------------------------------------


def test_a_kernel_that_reads_every_row_twice_fails() -> None:
    # Rows that no block's registers hold are streamed, and read twice.
    batch = Batch((32, 32, 8192, 20), "float32")
    with pytest.raises(AssertionError):
        assert_moves_what_the_formula_says(launches_of_a_step(batch), batch)


def test_a_kernel_that_reads_parts_of_sectors_fails() -> None:
    faults = emulated.load("_planted_faults")
    faults.count_traffic(True)
    try:
        for wrong in (False, True):
            faults.reset_statistics()
            faults.run(
                "copy_with_a_stride",
                np.ones(1024, np.float32),
                wrong=wrong,
                blocks=8,
                threads=128,
            )
            (launch,) = faults.statistics()
            if not wrong:
                assert_reads_whole_sectors(launch)
                continue
            with pytest.raises(AssertionError):
                assert_reads_whole_sectors(launch)
    finally:
        faults.count_traffic(False)
