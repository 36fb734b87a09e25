"""XLA's custom calls under JAX's XLA: compiled, in a loop, recorded and replayed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.cases import (
    DTYPES,
    Array,
    Batch,
    assert_gradients_close,
    assert_values_close,
    run_oracle,
)
from tests.support.cores import Core

jax = pytest.importorskip("jax", reason="jax is not installed: make bare-test has it")
pytest.importorskip("_ffi_calls", reason="_ffi_calls is not built: make bare builds it")

from tests.kernels import jax_calls  # noqa: E402

# The emulator's memory is none that XLA could hand over.
pytestmark = pytest.mark.cores("cpu", "device")

SOURCES = pytest.mark.parametrize("source", ["shuffle", "ring", "all", "indices"])
OPTIONS = sorted({*Batch((2, 2, 2, 1), "float32").options} - {"temperature"})


@pytest.fixture(scope="session")
def platform(core: Core) -> str:
    """JAX's name of what the core runs on."""
    if core.name == "cpu":
        jax.config.update("jax_platforms", "cpu")
        return "cpu"
    assert jax.devices()[0].platform in ("gpu", "cuda"), "JAX finds no GPU"
    return "CUDA"


def check(batch: Batch, source: str, options: dict[str, Any], platform: str) -> None:
    expected = run_oracle(batch, source, options)
    results = jax_calls.Loss(batch, source, options, platform).results(batch)
    assert_values_close(results, expected, batch.dtype)
    assert_gradients_close(results, expected, batch.dtype)


@SOURCES
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_compiled_call_matches_the_oracle(platform: str, dtype: str, source: str) -> None:
    check(Batch((37, 60, 100, 31), dtype), source, {}, platform)


@SOURCES
@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_alone_matches_the_oracle(
    platform: str, option: str, source: str
) -> None:
    batch = Batch((37, 41, 20, 5), "float32")
    check(batch, source, batch.only(option), platform)


@pytest.mark.cores("device")
@pytest.mark.parametrize("source", ["ring", "all"])
def test_float32_products_are_rounded_where_the_framework_allows_it(
    platform: str, source: str
) -> None:
    batch = Batch((70, 75, 64, 20), "float32")
    cosine = run_oracle(batch, source, {}).positive_cosine
    loss = jax_calls.Loss(batch, source, {}, platform)
    jax_calls.allow_tf32(True)
    try:
        rounded = loss.results(batch)["positive_cosine"]
    finally:
        jax_calls.allow_tf32(False)
    assert 1e-6 < abs(rounded - cosine).max() < 2**-10


def test_rows_without_reduction_match_the_oracle(platform: str) -> None:
    check(Batch((37, 41, 20, 5), "float64"), "shuffle", {"reduction": "none"}, platform)


def descend(loss: jax_calls.Loss, batch: Batch, steps: int) -> tuple[Array, Array, Array]:
    """Losses, queries and documents of some steps of gradient descent in one loop."""

    def step(rows: Any, _: Any) -> Any:
        value, gradients = jax.value_and_grad(loss.value, argnums=(0, 1))(
            *rows, *loss.arguments(batch)[2:]
        )
        return tuple(r - RATE * g for r, g in zip(rows, gradients, strict=True)), value

    @jax.jit
    def loop(query: Any, doc: Any) -> Any:
        return jax.lax.scan(step, (query, doc), None, length=steps)

    (query, doc), losses = loop(batch.query, batch.doc)
    return np.asarray(losses), np.asarray(query), np.asarray(doc)


RATE, STEPS = 0.5, 4


def descend_as_the_oracle_does(batch: Batch, source: str) -> tuple[Array, Array, Array]:
    losses = []
    for _ in range(STEPS):
        result = run_oracle(batch, source, {})
        losses.append(result.loss)
        batch.query = batch.query - RATE * result.query_gradient
        batch.doc = batch.doc - RATE * result.doc_gradient
    return np.array(losses), batch.query, batch.doc


@SOURCES
def test_steps_inside_of_a_compiled_loop_match_the_oracles(
    platform: str, source: str
) -> None:
    batch = Batch((37, 41, 20, 5), "float64")
    loss = jax_calls.Loss(batch, source, {}, platform)
    results = descend(loss, batch, STEPS)
    expected = descend_as_the_oracle_does(batch, source)
    assert (np.diff(expected[0]) < 0).all()
    for found, exact in zip(results, expected, strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-10, atol=1e-12)


RECORDED = """
import sys
import numpy as np
sys.path[:0] = {folders!r}
import jax
from tests.kernels import jax_calls
from tests.support.cases import Batch
batch = Batch((300, 333, 64, 31), "float32")
loss = jax_calls.Loss(batch, {source!r}, {{}}, "CUDA")
step = jax.jit(jax.value_and_grad(loss.value, argnums=(0, 1)))
arguments = loss.arguments(batch)
runs = [jax.tree.leaves(step(*arguments)) for _ in range(4)]  # the first ones warm up
for run in runs[1:]:
    for first, again in zip(runs[0], run):
        assert np.array_equal(first, again)
np.savez({file!r}, *map(np.asarray, runs[-1]))
"""


def run_apart(source: str, kinds: str, folder: Path) -> tuple[list[bytes], bool]:
    """Loss and gradients of a process whose XLA records calls of these kinds.

    And whether XLA says, in what it dumps of the program, that it records some.
    """
    folder.mkdir()
    flags = f"--xla_gpu_enable_command_buffer={kinds} --xla_gpu_graph_min_graph_size=1"
    file, dump = folder / "results.npz", folder / "dump"
    code = RECORDED.format(
        folders=[path for path in sys.path if path], source=source, file=str(file)
    )
    subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "XLA_FLAGS": f"{flags} --xla_dump_to={dump}"},
        check=True,
    )
    said = "".join(path.read_text(errors="replace") for path in dump.glob("*.txt"))
    with np.load(file) as found:
        results = [found[name].tobytes() for name in found.files]
    return results, bool(re.search("command_?buffer", said, re.IGNORECASE))


@SOURCES
@pytest.mark.cores("device")
def test_calls_that_are_recorded_and_replayed_give_the_same_bits(
    platform: str, source: str, tmp_path: Path
) -> None:
    plain, plain_says_so = run_apart(source, "", tmp_path / "plain")
    replayed, says_so = run_apart(source, "FUSION,CUSTOM_CALL", tmp_path / "replayed")
    assert plain == replayed
    assert not plain_says_so
    assert says_so, "the same bits, but XLA's dump names nothing that it recorded"
