"""The numbers of `all` and of wide rings by warpgroups, on the core that `--core` names.

Hopper's kernels: they are asked for by the environment, NEGATIVE_COSINE_WARPGROUPS=1.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from negative_cosine import _core

from benchmarks.evidence.warpgroups import SWITCH
from tests.support.cases import DTYPES, Batch, run_on_arrays
from tests.support.cores import ON_CUDA, ON_EMULATOR, Core
from tests.support.emulated import Launches, launches_of_a_step

pytestmark = ON_CUDA

OPTIONS = sorted({*Batch((2, 2, 2, 1), "float16").options} - {"normalize_over"})
HALVES = pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
SAMPLERS = pytest.mark.parametrize("sampler", ["ring", "all"])
# A device of one multiprocessor takes tiles of 128 rows, where as many fill three of them,
# one of many those of 64.
ROWS_OF_TILES = pytest.mark.parametrize("rows", [128, 64])
MULTIPROCESSORS = {128: 1, 64: 132}
# Each of both, where that is enough.
SOME_TILES = pytest.mark.parametrize(
    ("dtype", "rows"), [("float16", 64), ("bfloat16", 128)]
)
THREADS = 384

# (B, C, D, K): whole tiles and panels, some rows less, every padded length, more documents
# than queries.
SHAPES = [
    (384, 384, 64, 256),
    (323, 323, 128, 322),
    (320, 383, 96, 300),
    (300, 384, 40, 260),
    (290, 350, 200, 270),
]
DOCS_OF_A_STEP = 350


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


def threads_of_blocks(launches: Launches) -> list[int]:
    """Of each launch."""
    return [launch["threads"] // launch["blocks"] for launch in launches]


@HALVES
@SAMPLERS
@ROWS_OF_TILES
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape_matches_the_oracle(
    core: Core, shape: tuple[int, int, int, int], rows: int, sampler: str, dtype: str
) -> None:
    core.check(batch_of(shape, dtype), sampler, {}, **settings_of(core, rows))


@SOME_TILES
@SAMPLERS
@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_alone_matches_the_oracle(
    core: Core, option: str, rows: int, sampler: str, dtype: str
) -> None:
    batch = batch_of((300, 350, 72, 270), dtype)
    core.check(batch, sampler, batch.only(option), **settings_of(core, rows))


@HALVES
@SAMPLERS
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_all_options_together_match_the_oracle(
    core: Core, reduction: str, sampler: str, dtype: str
) -> None:
    batch = batch_of((300, 350, 128, 270), dtype)
    options = {**batch.only(*OPTIONS), "reduction": reduction}
    core.check(batch, sampler, options, **settings_of(core, 128))


@HALVES
@SAMPLERS
@pytest.mark.parametrize("temperature", [0.001, 0.02, 3.0])
def test_large_and_small_logits_match_the_oracle(
    core: Core, temperature: float, sampler: str, dtype: str
) -> None:
    batch = batch_of((323, 330, 64, 280), dtype)
    core.check(batch, sampler, {"temperature": temperature}, **settings_of(core, 128))


def collapsed(batch: Batch) -> None:
    """All rows around one, so that their weights nearly cancel."""
    random = np.random.default_rng(5)
    centre = random.normal(size=batch.dim)
    for rows in (batch.query, batch.doc):
        rows[:] = (centre + 0.1 * random.normal(size=rows.shape)).astype(rows.dtype)


def near_duplicates(batch: Batch) -> None:
    """Sixteen documents each that are almost equal, and queries close to their own."""
    random = np.random.default_rng(6)
    centres = random.normal(size=(-(-batch.docs // 16), batch.dim))
    docs = np.repeat(centres, 16, axis=0)[: batch.docs]
    docs = docs + 0.02 * random.normal(size=docs.shape)
    batch.doc[:] = docs.astype(batch.doc.dtype)
    noise = random.normal(size=batch.query.shape)
    batch.query[:] = (docs[: batch.rows] + 0.3 * noise).astype(batch.query.dtype)


def of_every_length(batch: Batch) -> None:
    """Rows of lengths from a thousandth to a thousand."""
    random = np.random.default_rng(7)
    for rows in (batch.query, batch.doc):
        lengths = np.exp(random.uniform(-7, 7, (len(rows), 1)))
        rows[:] = (random.normal(size=rows.shape) * lengths).astype(rows.dtype)


@SOME_TILES
@SAMPLERS
@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("change", [collapsed, near_duplicates, of_every_length])
def test_rounded_weights_cost_no_more_than_the_gradients_own_rounding(
    core: Core,
    change: Callable[[Batch], None],
    dim: int,
    rows: int,
    sampler: str,
    dtype: str,
) -> None:
    batch = batch_of((384, 384, dim, 300), dtype)
    change(batch)
    core.check(batch, sampler, {}, **settings_of(core, rows))


@HALVES
@SAMPLERS
@ROWS_OF_TILES
def test_rows_without_direction_match_the_oracle(
    core: Core, rows: int, sampler: str, dtype: str
) -> None:
    batch = batch_of((300, 350, 64, 270), dtype)
    for row in (0, 63, 140, 299):
        batch.query[row] = batch.doc[(row + 7) % batch.docs] = 0
    core.check(batch, sampler, {}, **settings_of(core, rows))


@HALVES
@SAMPLERS
@ROWS_OF_TILES
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_padding_may_hold_nan(
    core: Core, bad: float, rows: int, sampler: str, dtype: str
) -> None:
    batch = batch_of((300, 350, 64, 270), dtype)
    options = batch.only("sample_weight", "doc_log_q", "doc_ids")
    queries, docs = [3, 64, 127, 299], [3, 64, 127, 299, 320]
    options["sample_weight"][queries] = 0
    options["doc_log_q"][docs] = np.inf
    settings = settings_of(core, rows)
    expected = core.run(batch, sampler, options, **settings)
    batch.query[queries], batch.doc[docs] = bad, bad
    results = core.run(batch, sampler, options, **settings)
    for name in ("row_loss", "query_gradient", "doc_gradient"):
        padding = docs if name == "doc_gradient" else queries
        for values in (expected[name], results[name]):
            values[padding] = 0
        assert expected[name].tobytes() == results[name].tobytes(), name


@HALVES
@SAMPLERS
@ROWS_OF_TILES
def test_nan_is_where_the_cpu_has_it(
    core: Core, rows: int, sampler: str, dtype: str
) -> None:
    batch = batch_of((300, 350, 64, 270), dtype)
    batch.doc[320, 3], batch.query[70, 0] = np.nan, np.inf
    expected = run_on_arrays(_core, batch, sampler, {})
    results = core.run(batch, sampler, {}, **settings_of(core, rows))
    for name in ("row_loss", "query_gradient", "doc_gradient"):
        np.testing.assert_array_equal(np.isnan(results[name]), np.isnan(expected[name]))


@ON_EMULATOR
@HALVES
@SAMPLERS
@ROWS_OF_TILES
def test_no_order_of_threads_and_blocks_changes_a_bit(
    core: Core, rows: int, sampler: str, dtype: str
) -> None:
    batch = batch_of((300, 350, 128, 270), dtype)
    settings = settings_of(core, rows)
    first = core.run(batch, sampler, {}, schedule=0, **settings)
    for schedule in (1, 2, 3):
        again = core.run(batch, sampler, {}, schedule=schedule, **settings)
        for name, value in first.items():
            assert value.tobytes() == again[name].tobytes(), (name, schedule)


@ON_EMULATOR
@HALVES
@SAMPLERS
def test_products_that_are_cut_off_match_the_oracle(
    core: Core, sampler: str, dtype: str
) -> None:
    batch = batch_of((300, 350, 128, 270), dtype)
    core.check(batch, sampler, {}, truncates=True, **settings_of(core, 128))


@HALVES
@SAMPLERS
@pytest.mark.parametrize("statistics", [False, True])
def test_the_loss_alone_gives_the_same_bits(
    core: Core, statistics: bool, sampler: str, dtype: str
) -> None:
    batch = batch_of((300, 350, 64, 270), dtype)
    options = batch.only("doc_ids", "doc_log_q")
    step = core.run(batch, sampler, options, **settings_of(core, 128))
    alone = core.module.negative_cosine_loss(
        batch.query,
        batch.doc,
        sampler=sampler,
        num_negatives=batch.docs - 1 if sampler == "all" else batch.k,
        seed=np.array(batch.seed),
        statistics=statistics,
        **options,
    )
    assert "query_direction" not in alone
    for name in alone:
        assert alone[name].tobytes() == step[name].tobytes(), name


@ON_EMULATOR
@HALVES
@SAMPLERS
@ROWS_OF_TILES
def test_a_step_takes_the_kernels_of_warpgroups(
    core: Core, rows: int, sampler: str, dtype: str
) -> None:
    batch = batch_of((300, DOCS_OF_A_STEP, 64, 270), dtype)
    launches = launches_of_a_step(batch, sampler, multiprocessors=MULTIPROCESSORS[rows])
    tiles = -(-DOCS_OF_A_STEP // rows)
    # Norms, forward, the sum of the loss, gradient with a block more for the scale.
    assert [launches[1]["blocks"], launches[3]["blocks"]] == [tiles, tiles + 1]
    threads = threads_of_blocks(launches)
    assert threads[1] == threads[3] == THREADS


# Few candidates or queries, short rows, rows that are no whole packets, the batch's
# softmax, many more documents than queries, and other devices.
OTHERS: dict[str, tuple[tuple[int, int, int, int], dict[str, Any], dict[str, Any]]] = {
    "few candidates": ((300, 350, 64, 255), {}, {}),
    "few queries": ((255, 330, 64, 300), {}, {}),
    "short rows": ((300, 350, 24, 270), {}, {}),
    "long rows": ((300, 350, 264, 270), {}, {}),
    "odd rows": ((300, 350, 65, 270), {}, {}),
    "over the batch": ((300, 350, 64, 270), {"normalize_over": "batch"}, {}),
    "gaps": ((300, 450, 64, 270), {}, {}),
    "an older device": ((300, 350, 64, 270), {}, {"capability": (8, 0)}),
    "a newer device": ((300, 350, 64, 270), {}, {"capability": (10, 0)}),
}


@ON_EMULATOR
@pytest.mark.parametrize("why", OTHERS)
def test_what_they_are_not_for_is_taken_by_other_kernels(core: Core, why: str) -> None:
    shape, options, settings = OTHERS[why]
    launches = launches_of_a_step(Batch(shape, "bfloat16"), "ring", **options, **settings)
    assert THREADS not in threads_of_blocks(launches)


@ON_EMULATOR
@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if "16" not in dtype])
def test_longer_elements_are_taken_by_other_kernels(core: Core, dtype: str) -> None:
    launches = launches_of_a_step(Batch((300, 350, 64, 270), dtype), "ring")
    assert THREADS not in threads_of_blocks(launches)


@ON_EMULATOR
@pytest.mark.parametrize("value", ["", "0"])
def test_they_are_not_used_unless_asked_for(
    core: Core, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWITCH, value)
    launches = launches_of_a_step(Batch((300, 350, 64, 270), "bfloat16"), "all")
    assert THREADS not in threads_of_blocks(launches)


@ON_EMULATOR
def test_a_wrong_value_of_the_switch_is_an_error_that_says_what_is_allowed(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWITCH, "yes")
    with pytest.raises(
        RuntimeError, match=f"{SWITCH} must be '0', '1' or unset, got 'yes'"
    ):
        core.run(Batch((2, 2, 8, 1), "bfloat16"), "ring", {})
