"""The numbers of the samplers `ring` and `all`, on the core that `--core` names.

By tiles where the device and the rows allow it, row by row elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from negative_cosine import _core

from benchmarks.gpu import tile_shape
from tests.support import oracle
from tests.support.cases import DTYPES, Array, Batch, run_on_arrays, run_oracle
from tests.support.cores import ON_CUDA, ON_EMULATOR, Core
from tests.support.emulated import launches_of_a_step

OPTIONS = sorted(Batch((2, 2, 2, 1), "float32").options)
SAMPLERS = pytest.mark.parametrize("sampler", ["ring", "all"])
OUTPUTS = ("row_loss", "positive_cosine", "query_gradient", "doc_gradient")

# (B, C, D, K): less than a tile, whole ones, one row more; a band within a block of
# columns, of many, and all around; every padded length, and lengths that are padded.
SHAPES = [
    (1, 2, 1, 1),
    (2, 2, 17, 1),
    (3, 7, 64, 2),
    (37, 41, 64, 31),
    (64, 64, 128, 63),
    (65, 65, 33, 5),
    (70, 257, 20, 90),
    (33, 300, 200, 7),
    (130, 131, 256, 40),
]
# Copied by 16 bytes, by 8, by 4, and the odd ones of 16 bits by elements.
SHORT_ROWS = [1, 3, 8, 33, 50, 63, 65, 100, 127, 129, 255]
# 1024 to 4096 bytes, and what is padded to them; 16 bits, 32, 64.
LONG_ROWS = {
    2: [257, 384, 512, 700, 768, 1024, 1280, 1536, 2048],
    4: [180, 192, 200, 256, 300, 384, 512, 640, 768, 1000],
    8: [65, 96, 128, 180, 192, 200, 256, 320, 384, 512],
}
TOO_LONG_ROWS = {2: [2049, 2560], 4: [1025, 1280], 8: [513, 520]}


def by_element_size(dims: dict[int, list[int]]) -> pytest.MarkDecorator:
    """Each dtype with its row lengths."""
    return pytest.mark.parametrize(
        ("dtype", "dim"),
        [(name, dim) for name in DTYPES for dim in dims[np.dtype(DTYPES[name]).itemsize]],
    )


@pytest.mark.parametrize("dtype", DTYPES)
@SAMPLERS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape_and_dtype_matches_the_oracle(
    core: Core, shape: tuple[int, int, int, int], sampler: str, dtype: str
) -> None:
    core.check(Batch(shape, dtype), sampler, {})


# Of devices that take 129 to 160 rows by tiles of a kind, see csrc/cuda/tiles/kernels.cu.
MULTIPROCESSORS = {"twin": 1, "tall": 3, "middle": 5, "flat": 132}
FULL = {"multiprocessors": 1}


@ON_EMULATOR
@pytest.mark.parametrize("dtype", DTYPES)
@SAMPLERS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tiles_of_many_rows_match_the_oracle(
    core: Core, shape: tuple[int, int, int, int], sampler: str, dtype: str
) -> None:
    core.check(Batch(shape, dtype), sampler, {}, **FULL)


# An H100 takes these by middle, tall and twin tiles, and what is smaller by flat ones. Few,
# since the oracle takes long for so many rows.
@pytest.mark.cores("device", "cpu")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "dim"), [(4000, 64), (4300, 128), (8600, 64)])
def test_batches_of_every_size_match_the_oracle(
    core: Core, rows: int, dim: int, dtype: str
) -> None:
    core.check(Batch((rows, rows + 10, dim, 20), dtype), "ring", {})


@ON_EMULATOR
@pytest.mark.parametrize("dtype", DTYPES)
@SAMPLERS
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("kind", MULTIPROCESSORS)
def test_every_option_holds_in_tiles_of_every_kind(
    core: Core, kind: str, option: str, sampler: str, dtype: str
) -> None:
    batch = Batch((70, 140, 72, 90), dtype)
    core.check(batch, sampler, batch.only(option), multiprocessors=MULTIPROCESSORS[kind])


@ON_EMULATOR
@pytest.mark.parametrize(
    ("dtype", "row_bytes"),
    [(dtype, length) for dtype in (*DTYPES, "tf32") for length in tile_shape.ROWS_OF_TILES],
)
def test_the_tiles_are_those_that_the_model_knows(dtype: str, row_bytes: int) -> None:
    storage = "float32" if dtype == "tf32" else dtype
    batch = Batch((130, 150, row_bytes // tile_shape.FACTOR_BYTES[dtype], 5), storage)
    for kind in tile_shape.kinds_of(dtype, row_bytes):
        found = launches_of_a_step(
            batch,
            "ring",
            allow_tf32=dtype == "tf32",
            capability=(8, 6) if kind == "tight" else (9, 0),
            multiprocessors=MULTIPROCESSORS.get(kind, 1),
        )
        shape = tile_shape.TileShape(dtype, row_bytes, kind)
        tiles = -(-150 // shape.rows)
        threads = [launch["threads"] for launch in (found[0], found[-1])]
        of_block = 32 * shape.warps
        # The gradient pass has one block more, for the scale.
        assert threads == [tiles * of_block, (tiles + 1) * of_block], kind


@ON_EMULATOR
@pytest.mark.parametrize(
    ("dtype", "dim", "sampler"), [("bfloat16", 2048, "all"), ("float64", 512, "ring")]
)
def test_wide_bands_find_the_norms_of_all_documents_first(
    core: Core, sampler: str, dtype: str, dim: int
) -> None:
    batch = Batch((270, 272, dim, 271), dtype)
    launches = launches_of_a_step(batch, sampler)
    assert len(launches) == 4  # norms, forward, the sum of the loss, gradient
    batch.doc[7] = 0
    batch.doc[9, 3] = np.nan
    options = {"doc_ids": np.arange(272), "reduction": "none"}
    results = core.run(batch, sampler, options)
    cpu = run_on_arrays(_core, batch, sampler, options)
    for name in ("row_loss", "positive_cosine", "num_kept", "positive_rank"):
        np.testing.assert_allclose(results[name], cpu[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", SHORT_ROWS)
def test_rows_of_every_length_are_padded(core: Core, dim: int, dtype: str) -> None:
    core.check(Batch((40, 45, dim, 9), dtype), "ring", {})


@by_element_size(LONG_ROWS)
@SAMPLERS
def test_warps_share_long_rows(core: Core, dtype: str, dim: int, sampler: str) -> None:
    core.check(Batch((40, 45, dim, 35), dtype), sampler, {})


@by_element_size(TOO_LONG_ROWS)
@SAMPLERS
def test_rows_too_long_for_a_tile_match_the_oracle(
    core: Core, dim: int, sampler: str, dtype: str
) -> None:
    core.check(Batch((17, 21, dim, 9), dtype), sampler, {})


@ON_EMULATOR
@pytest.mark.parametrize("dtype", DTYPES)
@SAMPLERS
@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 6)], ids=str)
def test_every_device_has_a_kernel(
    core: Core, capability: tuple[int, int], sampler: str, dtype: str
) -> None:
    # 7.5 has neither the copies nor the products; 8.6 has less memory for a tile.
    for dim in (60, 128):
        core.check(Batch((37, 41, dim, 9), dtype), sampler, {}, capability=capability)


@ON_EMULATOR
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("capability", "longest"),
    [((7, 5), 0), ((8, 0), 3072), ((8, 6), 1024), ((9, 0), 4096), ((12, 0), 1024)],
    ids=str,
)
def test_a_devices_shared_memory_says_how_long_the_rows_of_tiles_may_be(
    capability: tuple[int, int], longest: int, dtype: str
) -> None:
    if dtype == "float64" and capability == (8, 0):
        longest = 2048  # what is noted beside them takes more room as well

    def shared_bytes(row_bytes: int) -> int:
        dim = row_bytes // np.dtype(DTYPES[dtype]).itemsize
        batch = Batch((5, 6, dim, 3), dtype)
        return launches_of_a_step(batch, "ring", capability=capability)[0]["shared_bytes"]

    assert shared_bytes(longest + 8) == 0
    if longest > 0:
        assert shared_bytes(longest) > 0


# Of which a block gets 99 KiB of shared memory.
SMALLER = pytest.mark.parametrize("capability", [(8, 6), (8, 9), (12, 0)], ids=str)


@ON_EMULATOR
@by_element_size(
    {2: [100, 128, 200, 256, 300, 384, 512], 4: [64, 100, 128, 192, 256], 8: [64]}
)
@SAMPLERS
def test_tight_tiles_match_the_oracle(
    core: Core, sampler: str, dtype: str, dim: int
) -> None:
    core.check(Batch((70, 75, dim, 35), dtype), sampler, {}, capability=(8, 6))


@ON_EMULATOR
@by_element_size({2: [256, 512], 4: [128, 256], 8: []})
@SMALLER
def test_devices_with_less_shared_memory_take_tight_tiles(
    capability: tuple[int, int], dtype: str, dim: int
) -> None:
    batch = Batch((70, 75, dim, 35), dtype)
    launches = launches_of_a_step(batch, "ring", capability=capability, allow_tf32=True)
    assert launches[0]["shared_wavefronts"] > 0  # matrices loaded: no row kernel does


@ON_CUDA
@pytest.mark.parametrize("dtype", DTYPES)
@SAMPLERS
def test_rows_at_an_odd_address_match_the_oracle(
    core: Core, sampler: str, dtype: str
) -> None:
    core.check(Batch((37, 41, 64, 9), dtype), sampler, {}, embedding_offset=1)


@pytest.mark.parametrize(
    ("dtype", "dim"),
    [
        ("bfloat16", 20),
        ("float32", 20),
        ("float64", 20),
        ("float16", 512),
        ("float32", 300),
    ],
)
@SAMPLERS
@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_alone_matches_the_oracle(
    core: Core, option: str, sampler: str, dtype: str, dim: int
) -> None:
    batch = Batch((67, 71, dim, 35), dtype)
    core.check(batch, sampler, batch.only(option))


@SAMPLERS
@pytest.mark.parametrize("name", ["doc_ids", "query_ids"])
def test_ids_that_differ_in_their_upper_half_alone_are_different(
    core: Core, name: str, sampler: str
) -> None:
    batch = Batch((40, 40, 20, 35), "float32")
    low = np.arange(40) % 3
    options = {name: low + (np.arange(40, dtype=np.int64) << 32)}
    results = core.run(batch, sampler, options)
    np.testing.assert_array_equal(results["num_kept"], 35 if sampler == "ring" else 39)
    core.check(batch, sampler, {name: low.astype(np.int64)})


@SAMPLERS
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("normalize_over", ["candidates", "batch"])
def test_each_reduction_matches_the_oracle_with_weights(
    core: Core, normalize_over: str, reduction: str, sampler: str
) -> None:
    batch = Batch((37, 41, 20, 5), "float32")
    options = batch.only("sample_weight", "doc_log_q", "margin", "negative_weight")
    options |= {"normalize_over": normalize_over, "reduction": reduction}
    core.check(batch, sampler, options)


@settings(max_examples=60)
@given(
    names=st.sets(st.sampled_from(OPTIONS)),
    sampler=st.sampled_from(["ring", "all"]),
    dtype=st.sampled_from(sorted(DTYPES)),
    rows=st.integers(1, 80),
    extra=st.integers(1, 70),
    dim=st.integers(1, 140),
    k=st.integers(1, 140),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    seed=st.integers(0, 2**16),
)
def test_options_in_random_combination_match_the_oracle(
    core: Core,
    names: set[str],
    sampler: str,
    dtype: str,
    rows: int,
    extra: int,
    dim: int,
    k: int,
    reduction: str,
    seed: int,
) -> None:
    docs = rows + extra
    batch = Batch((rows, docs, dim, min(k, docs - 1)), dtype, seed)
    core.check(batch, sampler, {**batch.only(*names), "reduction": reduction})


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@SAMPLERS
def test_blocks_without_queries_are_passed_over(
    core: Core, sampler: str, dtype: str
) -> None:
    core.check(Batch((5, 700, 20, 650), dtype), sampler, {})


@SAMPLERS
def test_a_single_document_has_no_candidates(core: Core, sampler: str) -> None:
    batch = Batch((1, 1, 8, 1), "float32")
    if sampler == "ring":
        with pytest.raises(ValueError, match="at most C - 1"):
            core.run(batch, sampler, {})
        return
    assert core.run(batch, sampler, {})["loss"] == 0


@pytest.mark.parametrize("normalize_over", ["candidates", "batch"])
@SAMPLERS
def test_an_empty_batch_has_loss_zero_and_no_gradient(
    core: Core, sampler: str, normalize_over: str
) -> None:
    batch = Batch((1, 70, 4, 2), "float32")
    batch.query, batch.rows = batch.query[:0], 0
    options = {"normalize_over": normalize_over}
    results = core.run(batch, sampler, options)
    assert results["loss"] == 0
    np.testing.assert_array_equal(results["doc_gradient"], np.zeros((70, 4)))


# --- What a caller may not ask for -------------------------------------------------------

# Rows whose columns groups of warps share, and longer ones, that are cut into slices.
SHORT_OR_LONG = pytest.mark.parametrize("dim", [64, 512])


@ON_CUDA
@SHORT_OR_LONG
@SAMPLERS
@pytest.mark.parametrize("normalize_over", ["candidates", "batch"])
def test_a_step_without_statistics_gives_the_same_bits(
    core: Core, normalize_over: str, sampler: str, dim: int
) -> None:
    batch = Batch((70, 75, dim, 35), "bfloat16")
    options = {**batch.only("doc_ids", "doc_log_q"), "normalize_over": normalize_over}
    full = core.run(batch, sampler, options)
    fewer = core.run(batch, sampler, options, statistics=False)
    assert set(full) - set(fewer) == {"num_kept", "positive_rank"}
    for name, values in fewer.items():
        assert values.tobytes() == full[name].tobytes(), name


@ON_CUDA
@SHORT_OR_LONG
@SAMPLERS
@pytest.mark.parametrize("statistics", [False, True])
@pytest.mark.parametrize("normalize_over", ["candidates", "batch"])
def test_the_loss_alone_gives_the_same_bits(
    core: Core, normalize_over: str, statistics: bool, sampler: str, dim: int
) -> None:
    batch = Batch((70, 75, dim, 35), "bfloat16")
    options = {**batch.only("doc_ids", "doc_log_q"), "normalize_over": normalize_over}
    step = core.run(batch, sampler, options)
    alone = core.module.negative_cosine_loss(
        batch.query,
        batch.doc,
        sampler=sampler,
        num_negatives=74 if sampler == "all" else 35,
        seed=np.array(batch.seed),
        statistics=statistics,
        **options,
    )
    assert "query_direction" not in alone
    for name in alone:
        assert alone[name].tobytes() == step[name].tobytes(), name


# --- Hard numbers -----------------------------------------------------------------------


def by_row(values: Array, of: Array) -> Array:
    """Relative to the largest element of each row of ``of``."""
    size = np.abs(np.asarray(of, np.float64)).max(axis=-1, keepdims=True)
    return np.asarray(values, np.float64) / np.where(size > 0, size, 1)


LENGTHS = {
    "float16": [6e-7, 1e-4, 0.03, 300.0, 3e5],
    "bfloat16": [1e-13, 1e-10, 1e15, 3e19, 1e30, 1e38],
    "float32": [1e-13, 1e-10, 1e15, 3e19, 1e30, 2e38],
    "float64": [1e-13, 1e-10, 1e100, 1e200, 1e307],
}


@SAMPLERS
@pytest.mark.parametrize(
    ("dtype", "length"), [(dtype, length) for dtype in LENGTHS for length in LENGTHS[dtype]]
)
@SHORT_OR_LONG
def test_rows_of_any_length_give_what_the_cpu_gives(
    core: Core, dim: int, dtype: str, length: float, sampler: str
) -> None:
    batch = Batch((50, 60, dim, 45), dtype)
    for rows in (batch.query, batch.doc):
        for row in (3, 5):
            unit = rows[row].astype(np.float64)
            rows[row] = (unit * (length / np.linalg.norm(unit))).astype(DTYPES[dtype])
    gpu = core.run(batch, sampler, {"reduction": "sum"})
    cpu = run_on_arrays(_core, batch, sampler, {"reduction": "sum"})
    tolerance = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 2e-5, "float64": 1e-12}
    for name in OUTPUTS:
        exact = 1e-5 if gpu[name].dtype.itemsize >= 4 else tolerance[dtype]
        np.testing.assert_allclose(
            by_row(gpu[name], cpu[name]),
            by_row(cpu[name], cpu[name]),
            atol=max(exact, tolerance[dtype] if "gradient" in name else 0),
            err_msg=name,
        )


@pytest.mark.parametrize("dtype", DTYPES)
@SAMPLERS
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dim", [40, 512])
def test_nan_and_infinity_reach_the_rows_that_use_them_alone(
    core: Core, dim: int, bad: float, sampler: str, dtype: str
) -> None:
    batch = Batch((70, 75, dim, 3), dtype)
    batch.doc[71, 2] = bad
    batch.query[9, 39] = bad
    options = {"doc_ids": np.arange(75)}
    options["doc_ids"][20] = 71  # row 20 drops document 71
    table = oracle.sample_negatives(
        70, 75, 74 if sampler == "all" else 3, sampler, batch.seed
    )
    uses = (table == 71).any(axis=1)
    uses[20] = False
    uses[9] = True
    results = core.run(batch, sampler, options)
    gradient = results["query_gradient"].astype(np.float64)
    np.testing.assert_array_equal(np.isnan(results["row_loss"]), uses)
    np.testing.assert_array_equal(np.isnan(gradient).any(axis=1), uses)
    if sampler == "ring":
        drawn_by_bad = np.unique(table[uses])
        clean = np.setdiff1d(np.arange(75), [*drawn_by_bad, *np.flatnonzero(uses), 71])
        assert clean.size > 30
        assert np.isfinite(results["doc_gradient"].astype(np.float64)[clean]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@SAMPLERS
def test_equal_documents_tie_with_the_positive(
    core: Core, sampler: str, dtype: str
) -> None:
    batch = Batch((70, 75, 100, 9), dtype)
    batch.doc[:] = batch.doc[0]
    results = core.run(batch, sampler, {})
    np.testing.assert_array_equal(results["positive_rank"], 0)


@SAMPLERS
@pytest.mark.parametrize("temperature", [0.5, 0.02])
def test_large_scales_stay_exact(core: Core, temperature: float, sampler: str) -> None:
    batch = Batch((70, 75, 64, 40), "float32")
    options = {"temperature": temperature}
    expected = run_oracle(batch, sampler, options)
    results = core.run(batch, sampler, options)
    error = abs(results["row_loss"] / expected.row_loss - 1).max()
    assert error < 1e-6 * 20 / temperature
    assert np.isfinite(results["query_gradient"]).all()


@ON_CUDA
@SAMPLERS
@pytest.mark.parametrize("scale", [2e3, 1e5, 1e8])
@pytest.mark.parametrize("factor", ["float32", "tf32", "bfloat16"])
def test_both_passes_see_the_same_cosines(
    core: Core, factor: str, scale: float, sampler: str
) -> None:
    # Of cosines that differ in a bit a large scale makes weights that are no weights.
    batch = Batch((70, 75, 64, 40), "bfloat16" if factor == "bfloat16" else "float32")
    if factor == "tf32":
        batch.query, batch.doc = with_ten_bits(batch.query), with_ten_bits(batch.doc)
    options = {"scale": scale, "temperature": 1.0}
    expected = run_oracle(batch, sampler, options)
    results = core.run(batch, sampler, options, allow_tf32=factor == "tf32")
    rounding = {"float32": 2e-5, "tf32": 2e-3, "bfloat16": 2e-2}[factor]
    for name in ("query", "doc"):
        found = results[f"{name}_gradient"].astype(np.float64)
        error = abs(found - getattr(expected, f"{name}_gradient"))
        assert error.max() < rounding * expected.gradient_sizes[name]


# float32 rows with ten bits behind the point, which tf32 leaves as they are.
def with_ten_bits(rows: Array) -> Array:
    return np.asarray(rows.view(np.uint32) & 0xFFFFE000, np.uint32).view(np.float32)


@SAMPLERS
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradients_of_tiny_losses_keep_their_digits(
    core: Core, dtype: str, sampler: str
) -> None:
    # Candidates far below the positive: their weights are far below float16's smallest.
    random = np.random.default_rng(0)
    batch = Batch((40, 40, 64, 9), dtype)
    batch.query = np.eye(40, 64).astype(DTYPES[dtype])
    batch.doc = (np.eye(40, 64) + 0.01 * random.normal(size=(40, 64))).astype(DTYPES[dtype])
    options = {
        "scale": 20.0,
        "reduction": "sum",
        "sample_weight": np.full(40, 2.0**20, batch.real),
    }
    expected = run_oracle(batch, sampler, options)
    assert expected.row_loss.max() < 1e-6
    results = core.run(batch, sampler, options)
    np.testing.assert_allclose(results["row_loss"], expected.row_loss, rtol=1e-5)
    rounding = {"float16": 2e-3, "bfloat16": 8e-3}.get(dtype, 1e-4)
    for name in ("query_gradient", "doc_gradient"):
        found, wanted = results[name], getattr(expected, name)
        np.testing.assert_allclose(
            by_row(found, wanted), by_row(wanted, wanted), atol=rounding, err_msg=name
        )


def directions(*rows: dict[int, float]) -> Array:
    """Rows of 64 elements, of which those named are not 0."""
    found = np.zeros((len(rows), 64), np.float16)
    for row, elements in zip(found, rows, strict=True):
        for column, value in elements.items():
            row[column] = value
    return found


def test_many_candidates_far_below_another_keep_their_part_of_the_query_gradient(
    core: Core,
) -> None:
    # Each of 298 weighs e^-14 of the hardest, by a norm of 60: less than float16 holds.
    batch = Batch((1, 300, 64, 1), "float16")
    batch.query = directions({0: 1})
    tail = {0: 18, 1: 57.25}
    batch.doc = directions({0: 18, 2: 57.25}, {0: 60}, *[tail] * 298)
    expected = run_oracle(batch, "all", {})
    results = core.run(batch, "all", {})
    wanted = expected.query_gradient[0, 1]
    assert wanted > 1e-3
    assert abs(results["query_gradient"][0, 1] / wanted - 1) < 0.01


def test_many_queries_far_below_another_keep_their_part_of_the_doc_gradient(
    core: Core,
) -> None:
    batch = Batch((300, 300, 64, 1), "float16")
    batch.query = directions({0: 1}, {5: 1}, *[{0: 18, 1: 57.25}] * 298)
    batch.doc = directions({2: 1}, {0: 1}, *[{1: 0.744, 4: 0.668}] * 298)
    options = {"reduction": "sum"}
    expected = run_oracle(batch, "all", options)
    results = core.run(batch, "all", options)
    wanted = expected.doc_gradient[1, 1]
    assert wanted > 1e-3
    assert abs(results["doc_gradient"][1, 1] / wanted - 1) < 0.01


# Tensor cores add 16 products at a time, and cut the sum off after its 24th bit.
ELEMENTS_A_SUM, LAST_BIT = 16, 2.0**-23


@ON_CUDA
@SAMPLERS
@pytest.mark.parametrize("dim", [64, 512, 2048])
def test_sums_of_one_sign_lose_at_most_a_last_bit_with_each_addition(
    core: Core, dim: int, sampler: str
) -> None:
    batch = Batch((70, 75, dim, 35), "bfloat16")
    batch.query, batch.doc = abs(batch.query), abs(batch.doc)
    batch.doc[3] = batch.query[2]  # a cosine of 1
    expected = run_oracle(batch, sampler, {})
    results = core.run(batch, sampler, {})
    cosine = dim / ELEMENTS_A_SUM * LAST_BIT + 1e-6
    for name, bound in (("positive_cosine", cosine), ("row_loss", 2 * 20 * cosine)):
        assert abs(results[name] - getattr(expected, name)).max() < bound, name
    for name in ("query", "doc"):
        found = results[f"{name}_gradient"].astype(np.float64)
        error = abs(found - getattr(expected, f"{name}_gradient"))
        assert error.max() < 1e-2 * expected.gradient_sizes[name]


# --- How exact near-parallel rows are, by docs/numerics.md -------------------------------


def near_parallel(dim: int, dtype: str) -> Batch:
    """Rows that differ by a hundredth from one: their products are sums of one sign."""
    random = np.random.default_rng(dim)
    batch = Batch((96, 96, dim, 95), dtype)
    one = abs(random.normal(size=dim))
    for rows in (batch.query, batch.doc):
        rows[:] = (one + 0.01 * random.normal(size=rows.shape)).astype(rows.dtype)
    return batch


def largest_error(core: Core, batch: Batch, **settings: Any) -> float:
    expected = run_oracle(batch, "all", {})
    results = core.run(batch, "all", {}, **settings)
    return float(abs(results["row_loss"] - expected.row_loss).max())


@ON_CUDA
@pytest.mark.parametrize("dim", [64, 128, 256, 512, 1000])
def test_the_loss_of_near_parallel_float32_rows_is_exact_to_5e_6(
    core: Core, dim: int
) -> None:
    assert largest_error(core, near_parallel(dim, "float32")) <= 5e-6


@ON_EMULATOR
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("dim", [64, 128, 256, 512, 1024, 2048])
def test_tensor_cores_that_cut_sums_off_keep_the_loss_of_near_parallel_rows(
    core: Core, dim: int, dtype: str
) -> None:
    batch = near_parallel(dim, dtype)
    assert largest_error(core, batch, truncates=True) <= 1e-5


# --- float32 rows of which the caller allows ten bits ------------------------------------


def run_rounded(
    core: Core, batch: Batch, sampler: str, **settings: Any
) -> dict[str, Array]:
    return core.run(batch, sampler, {}, allow_tf32=True, **settings)


LONG_SHAPES = [(40, 45, dim, 35) for dim in (256, 300, 512, 768, 1024)]


@ON_CUDA
@SAMPLERS
@pytest.mark.parametrize("shape", [*SHAPES, *LONG_SHAPES], ids=str)
def test_tensor_cores_round_float32_rows_where_they_may(
    core: Core, shape: tuple[int, int, int, int], sampler: str
) -> None:
    assert_rounded_but_right(core, Batch(shape, "float32"), sampler)


@ON_EMULATOR
@SAMPLERS
@pytest.mark.parametrize("dim", [100, 128, 200, 256])
def test_tight_tiles_round_them_as_well(core: Core, dim: int, sampler: str) -> None:
    batch = Batch((70, 75, dim, 35), "float32")
    assert_rounded_but_right(core, batch, sampler, capability=(8, 6))


def assert_rounded_but_right(
    core: Core, batch: Batch, sampler: str, **settings: Any
) -> None:
    # Each factor is off by 2^-11 at most, each cosine by 2^-10, logits by 20 of these.
    expected = run_oracle(batch, sampler, {})
    results = run_rounded(core, batch, sampler, **settings)
    assert abs(results["positive_cosine"] - expected.positive_cosine).max() < 2**-10
    assert abs(results["row_loss"] - expected.row_loss).max() < 40 * 2**-10
    np.testing.assert_array_equal(results["num_kept"], expected.num_kept)
    for name in ("query", "doc"):
        found = results[f"{name}_gradient"] - getattr(expected, f"{name}_gradient")
        assert abs(found).max() < 40 * 2**-10 * expected.gradient_sizes[name], name


@ON_CUDA
@pytest.mark.parametrize("dim", [64, 256])
def test_float32_rows_are_rounded_to_the_nearest(core: Core, dim: int) -> None:
    batch = Batch((70, 75, dim, 20), "float32")
    cosines = {
        name: cosine_of_factors(batch, to_factors)
        for name, to_factors in (("rounded", rounded), ("cut", with_ten_bits))
    }
    found = run_rounded(core, batch, "ring")["positive_cosine"]
    assert abs(found - cosines["rounded"]).max() < 1e-6 < abs(found - cosines["cut"]).max()


def rounded(rows: Array) -> Array:
    return with_ten_bits((rows.view(np.uint32) + np.uint32(1 << 12)).view(np.float32))


# The positives' cosines from factors of the products, and the rows' own norms.
def cosine_of_factors(batch: Batch, to_factors: Callable[[Array], Array]) -> Array:
    pairs = (batch.query, batch.doc[: batch.rows])
    factors = [to_factors(rows).astype(np.float64) for rows in pairs]
    norms = [np.linalg.norm(rows.astype(np.float64), axis=1) for rows in pairs]
    return np.asarray((factors[0] * factors[1]).sum(axis=1) / (norms[0] * norms[1]))


@ON_CUDA
@SAMPLERS
@pytest.mark.parametrize("dim", [64, 256])
def test_float32_rows_are_rounded_only_where_they_may(
    core: Core, dim: int, sampler: str
) -> None:
    batch = Batch((70, 75, dim, 20), "float32")
    cosine = run_oracle(batch, sampler, {}).positive_cosine
    exact = core.run(batch, sampler, {})["positive_cosine"]
    rounded = run_rounded(core, batch, sampler)["positive_cosine"]
    assert abs(exact - cosine).max() < 1e-6 < abs(rounded - cosine).max()


@ON_CUDA
@pytest.mark.parametrize("source", ["shuffle", "indices"])
def test_gathered_rows_are_never_rounded(core: Core, source: str) -> None:
    batch = Batch((40, 45, 64, 9), "float32")
    exact = core.run(batch, source, {})
    for name, values in run_rounded(core, batch, source).items():
        assert values.tobytes() == exact[name].tobytes(), name


@ON_CUDA
@SAMPLERS
def test_equal_documents_tie_with_the_positive_when_rounded_too(
    core: Core, sampler: str
) -> None:
    batch = Batch((70, 75, 100, 9), "float32")
    batch.doc[:] = batch.doc[0]
    np.testing.assert_array_equal(run_rounded(core, batch, sampler)["positive_rank"], 0)


# --- What does not depend on the machine ------------------------------------------------


@ON_EMULATOR
@pytest.mark.parametrize("dtype", DTYPES)
@SAMPLERS
@pytest.mark.parametrize("normalize_over", ["candidates", "batch"])
@SHORT_OR_LONG
def test_the_order_of_lanes_warps_and_blocks_does_not_change_a_bit(
    core: Core, dim: int, normalize_over: str, sampler: str, dtype: str
) -> None:
    batch = Batch((70, 75, dim, 35), dtype)
    options = batch.only("doc_ids", "doc_log_q", "sample_weight")
    options["normalize_over"] = normalize_over
    for multiprocessors in (1, 2, 3, 132):
        device = {"multiprocessors": multiprocessors}
        in_order = core.run(batch, sampler, options, **device)
        for schedule in (1, 2):
            again = core.run(batch, sampler, options, schedule=schedule, **device)
            for name, values in in_order.items():
                assert again[name].tobytes() == values.tobytes(), name
