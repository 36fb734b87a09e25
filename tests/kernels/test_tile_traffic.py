"""How much memory the tiles move, and by which pieces: counted by the emulator.

The counts do not depend on a machine: they are the guard of the speed that is promised.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.gpu.gpu_model import Size, tile_bytes
from tests.support.cases import DTYPES, Batch
from tests.support.cores import ON_EMULATOR
from tests.support.emulated import launches_of_a_step, moved

pytestmark = ON_EMULATOR

# A device that few rows fill, which takes tall tiles, and one that takes flat ones.
MULTIPROCESSORS = pytest.mark.parametrize("multiprocessors", [1, 132])

SAMPLERS = pytest.mark.parametrize("sampler", ["ring", "all"])

# (B, D, K): rows of at least 256 bytes. Beside shorter ones the row's own results, which
# the ring scatters over as many sectors, weigh more than the tolerance.
SIZES = [(256, 128, 50), (512, 128, 64), (128, 256, 50), (256, 256, 20), (128, 512, 50)]


# What a pass reads by pieces of so many bytes: nearly all of its rows, if by any.
def share_read_by(piece: int, batch: Batch, **options: Any) -> float:
    forward = launches_of_a_step(batch, "ring", multiprocessors=1, **options)[0]
    size = Size(batch.rows, batch.k, batch.dim, batch.dtype)
    rows = tile_bytes(size, 1, training=False)
    return piece * forward[f"reads_of_{piece}_bytes"] / rows


@pytest.mark.parametrize(
    ("dtype", "dim", "piece"),
    [
        *[("bfloat16", 128, 16), ("bfloat16", 100, 8), ("bfloat16", 50, 4)],
        *[("float32", 128, 16), ("float32", 50, 8), ("float32", 33, 4)],
        *[("float64", 64, 16), ("float64", 33, 8)],
    ],
)
def test_rows_are_copied_by_the_largest_pieces_that_fit(
    dtype: str, dim: int, piece: int
) -> None:
    batch = Batch((128, 128, dim, 64), dtype)
    assert share_read_by(piece, batch) >= 0.95


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@MULTIPROCESSORS
def test_a_training_step_on_the_ring_moves_what_the_formula_says(
    multiprocessors: int, size: tuple[int, int, int], dtype: str
) -> None:
    rows, dim, k = size
    batch = Batch((rows, rows, dim, k), dtype)
    expected = tile_bytes(Size(rows, k, dim, dtype), multiprocessors)
    launches = launches_of_a_step(batch, "ring", multiprocessors=multiprocessors)
    assert 0.95 * expected <= moved(launches) <= 1.2 * expected


# Shared memory's turns of 128 bytes for each pair, by both passes: matrices and packets.
# A warp of 32 rows took two thirds of them, and an H100 was slower with half as many warps.
@pytest.mark.parametrize(
    ("dtype", "dim", "most"),
    [("bfloat16", 64, 0.36), ("bfloat16", 128, 0.71), ("float32", 64, 0.60)],
)
def test_tall_tiles_read_shared_memory_little_for_each_pair(
    dtype: str, dim: int, most: float
) -> None:
    batch = Batch((512, 512, dim, 20), dtype)
    launches = launches_of_a_step(batch, "all", multiprocessors=1, allow_tf32=True)
    turns = sum(
        launch["shared_wavefronts"] + launch["packet_wavefronts"] for launch in launches
    )
    assert turns / 512**2 <= most


@pytest.mark.parametrize("dtype", DTYPES)
@SAMPLERS
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_training_step_is_at_most_three_launches(
    reduction: str, sampler: str, dtype: str
) -> None:
    batch = Batch((70, 75, 64, 20), dtype)
    options = batch.only("doc_ids", "query_ids", "doc_log_q", "sample_weight", "margin")
    launches = launches_of_a_step(batch, sampler, **options, reduction=reduction)
    assert len(launches) == (2 if reduction == "none" else 3)


@pytest.mark.parametrize("normalize_over", ["candidates", "batch"])
@pytest.mark.parametrize("dtype", DTYPES)
@SAMPLERS
@MULTIPROCESSORS
def test_no_launch_has_an_atomic_or_a_bank_conflict(
    multiprocessors: int, sampler: str, dtype: str, normalize_over: str
) -> None:
    options: dict[str, Any] = {"normalize_over": normalize_over, "allow_tf32": True}
    options["multiprocessors"] = multiprocessors
    # Rows that a warp holds, and two, four and eight; and a tight tile.
    settings = [(row_bytes, (9, 0)) for row_bytes in (128, 512, 1024, 2048, 3072)]
    for row_bytes, capability in [*settings, (512, (8, 6))]:
        dim = row_bytes // np.dtype(DTYPES[dtype]).itemsize
        batch = Batch((70, 75, dim, 20), dtype)
        launches = launches_of_a_step(batch, sampler, capability=capability, **options)
        assert not any(launch["atomics"] for launch in launches)
        conflicts = [launch["bank_conflicts"] for launch in launches]
        if dtype == "float64":  # has some where it reads its own rows, once a tile
            turns = sum(launch["packet_wavefronts"] for launch in launches)
            assert sum(conflicts) < 0.05 * turns
            continue
        assert not any(conflicts)
        assert launches[0]["shared_wavefronts"] > 0  # matrices loaded, and counted
        assert launches[0]["packet_wavefronts"] > 0


# --- The checks see what they are for. --------------------------------------------------


def test_rows_at_an_odd_address_fail_the_count_of_pieces() -> None:
    batch = Batch((128, 128, 128, 64), "bfloat16")
    assert share_read_by(16, batch) >= 0.95
    assert share_read_by(16, batch, embedding_offset=1) < 0.05


@pytest.mark.parametrize(("device", "code"), [((7, 5), 75), ((9, 0), 75)], ids=str)
def test_older_devices_and_code_for_them_gather_every_candidate_which_fails_the_count(
    device: tuple[int, int], code: int
) -> None:
    batch = Batch((256, 256, 128, 50), "bfloat16")
    launches = launches_of_a_step(batch, "ring", capability=device, code_version=code)
    assert moved(launches) > 1.2 * tile_bytes(Size(256, 50, 128, "bfloat16"), 132)
