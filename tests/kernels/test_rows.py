"""The kernels' numbers, on the core that `--core` names: see tests/support/cores.py.

Where the emulator runs them, it stops at an access out of bounds, a misaligned packet, a
read of what nothing wrote, a missing barrier: each test here is a test of those too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from negative_cosine import _core

from tests.support import oracle
from tests.support.cases import DTYPES, SHAPES, Array, Batch, run_on_arrays, run_oracle
from tests.support.cores import ON_CUDA, ON_EMULATOR, Core

OPTIONS = sorted(Batch((2, 2, 2, 1), "float32").options)

# Rows of each way to hold them, by bytes: 8, 16 and 32 lanes of one packet, whole and in
# part; two, four and eight packets a lane; several warps.
ROW_BYTES = [16, 80, 128, 144, 240, 256, 320, 512, 528, 1024, 1040, 2048, 2064, 4096]
LONG_ROW_BYTES = [4112, 6144, 8192, 12288, 16384, 16400]
# Rows of no whole packets: the longest of each way to hold them in pieces of so many
# bytes, and one that is streamed.
IN_PIECES = [
    (row_bytes - piece, piece)
    for row_bytes in (128, 256, 512, 1024, 2048, 4096)
    for piece in (8, 4, 2)
]

ALL_OUTPUTS = ("loss", "row_loss", "positive_cosine", "query_gradient", "doc_gradient")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", ["shuffle", "indices"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape_and_dtype_matches_the_oracle(
    core: Core, shape: tuple[int, int, int, int], source: str, dtype: str
) -> None:
    core.check(Batch(shape, dtype), source, {"mask_self": source == "shuffle"})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row_bytes", ROW_BYTES + LONG_ROW_BYTES)
def test_every_way_to_hold_a_row_matches_the_oracle(
    core: Core, row_bytes: int, dtype: str
) -> None:
    dim = row_bytes // np.dtype(DTYPES[dtype]).itemsize
    core.check(Batch((9, 12, dim, 37), dtype), "shuffle", {})


@pytest.mark.parametrize(
    ("dtype", "row_bytes"),
    [
        (dtype, row_bytes)
        for dtype in DTYPES
        for row_bytes, piece in IN_PIECES
        if piece >= np.dtype(DTYPES[dtype]).itemsize
    ],
)
def test_every_way_to_hold_a_row_in_pieces_matches_the_oracle(
    core: Core, dtype: str, row_bytes: int
) -> None:
    dim = row_bytes // np.dtype(DTYPES[dtype]).itemsize
    core.check(Batch((9, 12, dim, 37), dtype), "shuffle", {})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", range(1, 71))
def test_rows_of_every_small_length_match_the_oracle(
    core: Core, dim: int, dtype: str
) -> None:
    core.check(Batch((5, 7, dim, 9), dtype), "shuffle", {})


@ON_CUDA
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("elements", [1, 2, 4])
@pytest.mark.parametrize("dim", [64, 100])
def test_rows_off_an_aligned_address_match_the_oracle(
    core: Core, dim: int, elements: int, dtype: str
) -> None:
    batch = Batch((9, 12, dim, 37), dtype)
    core.check(batch, "shuffle", {}, embedding_offset=elements)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("source", ["shuffle", "indices"])
@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_alone_matches_the_oracle(
    core: Core, option: str, source: str, dtype: str
) -> None:
    batch = Batch((37, 41, 20, 35), dtype)
    core.check(batch, source, batch.only(option))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("normalize_over", ["candidates", "batch"])
def test_each_reduction_matches_the_oracle_with_weights(
    core: Core, normalize_over: str, reduction: str
) -> None:
    batch = Batch((37, 41, 20, 5), "float64")
    options = batch.only("sample_weight", "doc_log_q", "margin", "negative_weight")
    core.check(
        batch,
        "shuffle",
        {**options, "normalize_over": normalize_over, "reduction": reduction},
    )


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    names=st.sets(st.sampled_from(OPTIONS)),
    source=st.sampled_from(["shuffle", "indices"]),
    dtype=st.sampled_from(sorted(DTYPES)),
    rows=st.integers(1, 40),
    extra=st.integers(0, 9),
    dim=st.integers(1, 70),
    k=st.integers(1, 70),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    seed=st.integers(0, 2**16),
)
def test_options_in_random_combination_match_the_oracle(
    core: Core,
    names: set[str],
    source: str,
    dtype: str,
    rows: int,
    extra: int,
    dim: int,
    k: int,
    reduction: str,
    seed: int,
) -> None:
    batch = Batch((rows, rows + extra, dim, k), dtype, seed)
    core.check(batch, source, {**batch.only(*names), "reduction": reduction})


@pytest.mark.parametrize("rows", [1, 2, 3, 37, 257])
def test_every_odd_size_matches_the_oracle(core: Core, rows: int) -> None:
    for dim in (1, 3, 17, 64, 100, 129):
        for k in (1, 2, 31, 100):
            for extra in (0, 3):
                core.check(Batch((rows, rows + extra, dim, k), "float32"), "shuffle", {})


# (B, C, D, K): a sort in which a block takes one tile, and two, and the last block one;
# more streamed rows than take turns.
LARGE = {
    "indices": [(2100, 2100, 4, 40), (2200, 2200, 4, 1000)],
    "shuffle": [(2100, 2300, 3, 2), (2100, 2300, 515, 2), (4200, 4300, 515, 1)],
}


@pytest.mark.parametrize("normalize_over", ["candidates", "batch"])
@pytest.mark.parametrize(
    ("source", "shape"), [(source, shape) for source in LARGE for shape in LARGE[source]]
)
def test_large_batches_give_what_the_cpu_gives(
    core: Core, source: str, shape: tuple[int, int, int, int], normalize_over: str
) -> None:
    batch = Batch(shape, "float32")
    options = {"normalize_over": normalize_over, "reduction": "sum"}
    found = core.run(batch, source, options)
    cpu = run_on_arrays(_core, batch, source, options)
    for name in (*ALL_OUTPUTS, "scale_gradient"):
        np.testing.assert_allclose(
            found[name], cpu[name], atol=2e-5 * np.abs(cpu[name]).max(), err_msg=name
        )


@pytest.mark.parametrize("source", ["shuffle", "all"])
def test_a_scale_of_nan_gives_nan(core: Core, source: str) -> None:
    # The package makes it of a scale that is not above 0; a host refuses it.
    batch = Batch((37, 41, 64, 35), "float32")
    if core.name == "cpu":
        with pytest.raises(ValueError, match="must be above 0 and finite, got nan"):
            core.run(batch, source, {"scale": np.nan})
        return
    results = core.run(batch, source, {"scale": np.nan})
    for name in ("loss", "row_loss", "query_gradient", "doc_gradient"):
        assert np.isnan(results[name]).all(), name


@pytest.mark.parametrize("scale", [0.0, -20.0, np.inf])
def test_a_host_refuses_a_scale_that_is_not_above_zero_and_finite(scale: float) -> None:
    batch = Batch((3, 4, 8, 2), "float32")
    with pytest.raises(ValueError, match=r"scale / temperature must be above 0 and finite"):
        run_on_arrays(_core, batch, "shuffle", {"scale": scale})


@ON_EMULATOR
def test_the_memory_of_few_long_rows_is_that_of_the_rows(core: Core) -> None:
    batch = Batch((4, 4, 100_003, 3), "float32")
    core.module.set_memory_limit(20 * batch.query.nbytes)
    try:
        core.run(batch, "shuffle", {})
    finally:
        core.module.set_memory_limit(2**32)


@pytest.mark.parametrize("temperature", [0.5, 0.02])
def test_a_scale_beyond_the_safe_logits_takes_a_running_maximum(
    core: Core, temperature: float
) -> None:
    for dim in (64, 33):
        batch = Batch((37, 41, dim, 70), "float32")
        options = {"temperature": temperature}
        expected = run_oracle(batch, "shuffle", options)
        results = core.run(batch, "shuffle", options)
        # The cosines' own rounding, 2^-24 or so, times the scale.
        error = abs(results["row_loss"] / expected.row_loss - 1).max()
        assert error < 1e-6 * 20 / temperature
        assert np.isfinite(results["query_gradient"]).all()


@pytest.mark.parametrize("scale", [15.0, 30.0])
def test_a_tiny_loss_keeps_its_digits(core: Core, scale: float) -> None:
    random = np.random.default_rng(0)
    batch = Batch((8, 8, 64, 5), "float32")
    batch.query = np.eye(8, 64).astype(np.float32)
    batch.doc = (np.eye(8, 64) + 0.01 * random.normal(size=(8, 64))).astype(np.float32)
    expected = run_oracle(batch, "shuffle", {"scale": scale})
    results = core.run(batch, "shuffle", {"scale": scale})
    assert expected.row_loss.max() < 1e-4
    np.testing.assert_allclose(results["row_loss"], expected.row_loss, rtol=1e-5)


@pytest.mark.parametrize("dim", [64, 33, 515], ids=["packets", "pieces", "streamed"])
@pytest.mark.parametrize("length", [1e-13, 1e-10, 1e15, 3e19, 1e30, 2e38])
def test_rows_of_any_length_give_what_the_cpu_gives(
    core: Core, length: float, dim: int
) -> None:
    batch = Batch((9, 12, dim, 37), "float32")
    for rows in (batch.query, batch.doc):
        rows[3] *= length / np.linalg.norm(rows[3])
        rows[5] *= length / np.linalg.norm(rows[5])
    gpu = core.run(batch, "shuffle", {})
    cpu = run_on_arrays(_core, batch, "shuffle", {})
    for name in ALL_OUTPUTS:
        size = np.abs(cpu[name]).max(axis=-1, keepdims=True) if cpu[name].ndim else 1
        np.testing.assert_allclose(
            gpu[name] / (size + (size == 0)), cpu[name] / (size + (size == 0)), atol=1e-5
        )


# Their gradients are rounded to 8 bits.
@pytest.mark.parametrize("dim", [40, 64, 104, 128])
@pytest.mark.parametrize("length", [1e-13, 1e-10, 1e15, 3e19, 1e30, 2e38])
def test_bfloat16_rows_of_any_length_give_what_the_cpu_gives(
    core: Core, length: float, dim: int
) -> None:
    batch = Batch((9, 12, dim, 37), "bfloat16")
    for rows in (batch.query, batch.doc):
        for row in (3, 5):
            values = rows[row].astype(np.float64)
            rows[row] = (values * (length / np.linalg.norm(values))).astype(rows.dtype)
    gpu = core.run(batch, "shuffle", {})
    cpu = run_on_arrays(_core, batch, "shuffle", {})
    for name in ALL_OUTPUTS:
        found, expected = gpu[name].astype(np.float64), cpu[name].astype(np.float64)
        size = np.abs(expected).max(axis=-1, keepdims=True) if expected.ndim else 1
        tolerance = 2**-7 if "gradient" in name else 1e-5
        assert (np.abs(found - expected) <= tolerance * (size + (size == 0))).all(), name


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("dim", [40, 64, 100, 128, 256])
def test_losses_of_nearly_parallel_rows_match_the_oracle(
    core: Core, dim: int, dtype: str
) -> None:
    batch = Batch((37, 41, dim, 31), dtype)
    random = np.random.default_rng(0)
    common = random.uniform(0.5, 1.5, dim)
    for rows in (batch.query, batch.doc):
        noise = 1e-2 * random.normal(size=rows.shape)
        rows[:] = (common * (1 + noise)).astype(rows.dtype)
    core.check(batch, "shuffle", {})


@pytest.mark.parametrize(
    ("dtype", "dim"),
    [
        *[("float32", 64), ("float32", 33), ("float32", 515)],
        *[("bfloat16", 40), ("bfloat16", 128)],
    ],
)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_reach_the_rows_that_use_them_alone(
    core: Core, bad: float, dtype: str, dim: int
) -> None:
    batch = Batch((37, 41, dim, 3), dtype)
    batch.doc[39, 2] = bad
    table = oracle.sample_negatives(37, 41, 3, "shuffle", batch.seed)
    results = core.run(batch, "shuffle", {})
    uses = (table == 39).any(axis=1)
    assert uses.any()
    np.testing.assert_array_equal(np.isnan(results["row_loss"]), uses)
    np.testing.assert_array_equal(np.isnan(results["query_gradient"]).any(axis=1), uses)


def test_statistics_over_the_batch_do_not_let_a_nan_candidate_into_the_gradients(
    core: Core,
) -> None:
    batch = Batch((37, 41, 20, 31), "float32")
    batch.doc[39] = np.nan
    options = {"normalize_over": "batch"}
    results = core.run(batch, "shuffle", options)
    for name in ("loss", "query_gradient", "logit_scale_gradient"):
        assert np.isfinite(results[name]).all(), name


@pytest.mark.parametrize("sampler", ["shuffle", "ring", "all"])
def test_a_nan_query_is_nan_beside_documents_without_direction(
    core: Core, sampler: str
) -> None:
    batch = Batch((9, 12, 20, 5), "float32")
    batch.doc[:] = 0
    batch.query[4, 7] = np.nan
    results = core.run(batch, sampler, {})
    for name in ("row_loss", "positive_cosine"):
        np.testing.assert_array_equal(np.isnan(results[name]), np.arange(9) == 4, name)


@ON_CUDA
@pytest.mark.parametrize("bad", [-1, 41, 2**40, -(2**62)])
def test_an_index_outside_the_documents_is_dropped_and_never_read(
    core: Core, bad: int
) -> None:
    batch = Batch((37, 41, 20, 5), "float32")
    kept = batch.indices.copy()
    batch.indices[7, 2] = bad
    kept[7] = [*np.delete(kept[7], 2), 7]  # a row's own positive is dropped as well
    dropped = core.run(batch, "indices", {})
    batch.indices = kept
    expected = core.run(batch, "indices", {})
    for name in ALL_OUTPUTS:
        np.testing.assert_allclose(dropped[name], expected[name], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("rows_of_doc", ["one document", "no document", "all but one"])
def test_uneven_tables_match_the_oracle(core: Core, rows_of_doc: str) -> None:
    batch = Batch((300, 310, 16, 9), "float32")
    batch.indices = {
        "one document": np.full((300, 9), 4),
        "no document": np.arange(300)[:, None].repeat(9, 1),  # each row's own: dropped
        "all but one": np.tile(np.arange(1, 10), (300, 1)),
    }[rows_of_doc]
    core.check(batch, "indices", {})


# (B, C, D, K): keys of 17 bits take three passes, and rows of the table or of the draws
# are longer than a tile of the sort, as long, or shorter. The draws are sorted too.
MANY_DOCUMENTS = [(3, 70_000, 4, 1000), (1, 66_000, 4, 4097), (2049, 66_000, 4, 40)]


@pytest.mark.parametrize("names", [(), ("doc_ids", "query_ids"), ("doc_log_q",)], ids=str)
@pytest.mark.parametrize("shape", MANY_DOCUMENTS, ids=str)
@pytest.mark.parametrize("source", ["indices", "shuffle"])
def test_many_documents_take_several_passes_of_the_sort(
    core: Core, source: str, shape: tuple[int, int, int, int], names: tuple[str, ...]
) -> None:
    batch = Batch(shape, "float32")
    options = batch.only(*names)
    expected = run_on_arrays(_core, batch, source, options)
    results = core.run(batch, source, options)
    size = np.abs(expected["doc_gradient"]).max()
    np.testing.assert_allclose(
        results["doc_gradient"], expected["doc_gradient"], atol=1e-5 * size
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", ["shuffle", "ring"])
@pytest.mark.parametrize("names", [(), ("doc_ids", "query_ids"), ("doc_log_q",)], ids=str)
def test_documents_that_few_queries_draw_from_match_the_oracle(
    core: Core, names: tuple[str, ...], source: str, dtype: str
) -> None:
    batch = Batch((5, 300, 17, 40), dtype)
    core.check(batch, source, batch.only(*names))


# A block keeps the keys of 128 draws, of domains above 512: csrc/cuda/candidates. Rows of
# one warp, four in a block or one, and of four warps.
@pytest.mark.parametrize("k", [1, 31, 33, 127, 128, 129, 200])
@pytest.mark.parametrize("docs", [512, 513, 1500])
@pytest.mark.parametrize("rows", [5, 300])
def test_draws_with_kept_keys_and_without_match_the_oracle(
    core: Core, rows: int, docs: int, k: int
) -> None:
    core.check(Batch((rows, docs, 4, k), "float32"), "shuffle", {})


@pytest.mark.parametrize("source", ["shuffle", "ring"])
@pytest.mark.parametrize("docs", [300, 600])
def test_draws_of_rows_of_several_warps_match_the_oracle(
    core: Core, docs: int, source: str
) -> None:
    core.check(Batch((7, docs, 1032, 130), "float32"), source, {})


@pytest.mark.parametrize("docs", [0, 3])
@pytest.mark.parametrize("source", ["shuffle", "indices"])
@pytest.mark.parametrize("normalize_over", ["candidates", "batch"])
def test_an_empty_batch_has_loss_zero_and_empty_gradients(
    core: Core, normalize_over: str, source: str, docs: int
) -> None:
    batch = Batch((1, 3, 4, 2), "float32")
    batch.query, batch.doc = batch.query[:0], batch.doc[:docs]
    batch.indices, batch.rows = batch.indices[:0], 0
    options = {"normalize_over": normalize_over}
    results = core.run(batch, source, options)
    assert results["loss"] == 0
    assert results["query_gradient"].shape == (0, 4)
    np.testing.assert_array_equal(results["doc_gradient"], np.zeros((docs, 4)))


def bits_of(results: dict[str, Array]) -> dict[str, bytes]:
    return {name: values.tobytes() for name, values in results.items()}


@pytest.mark.parametrize("source", ["shuffle", "ring", "all", "indices"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_two_runs_give_the_same_bits(core: Core, dtype: str, source: str) -> None:
    batch = Batch((257, 300, 100, 31), dtype)
    first, second = (bits_of(core.run(batch, source, {})) for _ in range(2))
    assert first == second


@ON_EMULATOR
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", ["shuffle", "indices"])
@pytest.mark.parametrize("dim", [32, 64, 128, 256, 33, 1025, 2048])
@pytest.mark.parametrize("normalize_over", ["candidates", "batch"])
def test_the_order_of_lanes_warps_and_blocks_does_not_change_a_bit(
    core: Core, normalize_over: str, dim: int, source: str, dtype: str
) -> None:
    batch = Batch((37, 41, dim, 35), dtype)
    options = batch.only("doc_ids", "doc_log_q", "sample_weight")
    options["normalize_over"] = normalize_over
    in_order = bits_of(core.run(batch, source, options))
    for schedule in (1, 2, 3):
        again = core.run(batch, source, options, schedule=schedule)
        assert bits_of(again) == in_order


@ON_EMULATOR
@pytest.mark.parametrize("source", LARGE)
def test_the_order_of_many_blocks_does_not_change_a_bit(core: Core, source: str) -> None:
    batch = Batch(LARGE[source][0], "float32")
    in_order = bits_of(core.run(batch, source, {}))
    assert bits_of(core.run(batch, source, {}, schedule=3)) == in_order


@ON_EMULATOR
def test_a_launch_that_needs_more_memory_than_there_is_says_so(core: Core) -> None:
    batch = Batch((37, 41, 64, 5), "float32")
    core.module.set_memory_limit(20_000)
    try:
        with pytest.raises(RuntimeError, match=r"allocating \d+ bytes of device memory"):
            core.run(batch, "shuffle", {})
    finally:
        core.module.set_memory_limit(2**32)


DRIVERS = {  # what the message says of them, of a build with CUDA 12.8
    0: "no NVIDIA driver was found, and CUDA 12.8, which the CUDA kernels were built with, "
    "needs driver 525 or later",
    11040: "the machine's NVIDIA driver is for CUDA 11.4 and too old for CUDA 12.8, which "
    "the CUDA kernels were built with: install driver 525 or later, or build again with "
    "the toolkit of CUDA 11",
}


ROWS = np.ones((3, 4), np.float32)
# Whatever is asked of the module first.
FIRST_CALLS: dict[str, Callable[[Any], Any]] = {
    "loss": lambda module: module.negative_cosine_loss(ROWS, ROWS, sampler="all"),
    "step": lambda module: module.prepare_step(ROWS, ROWS, sampler="all"),
    "device_info": lambda module: module.device_info(),
    "copies": lambda module: module.copy_bandwidth(64, 1),
}


@ON_EMULATOR
@pytest.mark.parametrize("call", FIRST_CALLS)
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_too_old_for_the_toolkit_is_refused_with_the_one_that_is_needed(
    core: Core, driver: int, call: str
) -> None:
    core.module.set_driver_version(driver)
    try:
        with pytest.raises(RuntimeError, match=re.escape(DRIVERS[driver])):
            FIRST_CALLS[call](core.module)
    finally:
        core.module.set_driver_version(12080)


@ON_EMULATOR
@pytest.mark.parametrize("driver", [12000, 12080, 13000])
def test_a_driver_of_the_toolkits_generation_or_later_will_do(
    core: Core, driver: int
) -> None:
    core.module.set_driver_version(driver)
    try:
        core.check(Batch((3, 4, 8, 2), "float32"), "shuffle", {})
    finally:
        core.module.set_driver_version(12080)


@ON_EMULATOR
def test_a_device_older_than_the_kernels_is_refused_with_its_version(core: Core) -> None:
    batch = Batch((3, 4, 8, 2), "float32")
    with pytest.raises(RuntimeError, match=r"capability 7\.0, older than 7\.5"):
        core.run(batch, "shuffle", {}, capability=(7, 0))
