"""NEGATIVE_COSINE_MAX_ISA: a processor of fewer instructions gets the same numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from negative_cosine import _core

from tests.support.cases import DTYPES, Array, Batch
from tests.support.checkout import ROOT
from tests.support.installed import installation, run_with
from tests.support.tensorflow_runs import run_loss

LEVELS = ["portable", "avx2", "avx512"]
SOURCES = ("shuffle", "ring", "all", "indices")
# Of the largest element; a gradient of 16-bit rows may round to the next number of 16 bits.
TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 2e-5, "float64": 1e-12}


def results() -> dict[str, Array]:
    """Losses, statistics and gradients of the op, for each sampler and dtype."""
    found = {}
    for dtype in DTYPES:
        batch = Batch((37, 60, 100, 31), dtype)
        for source in SOURCES:
            by_name = run_loss(batch, source, {}, "native")
            for name, values in by_name.items():
                found[f"{dtype}-{source}-{name}"] = np.asarray(values, np.float64)
    return found


@pytest.mark.parametrize("level", LEVELS)
def test_the_op_gives_the_same_numbers_to_rounding_at_each_level(
    level: str, tmp_path: Path
) -> None:
    best = _core.instruction_set()
    if LEVELS.index(level) >= LEVELS.index(best):
        pytest.skip(f"the best that this processor has is {best}")
    file = tmp_path / "results.npz"
    code = (
        "import sys, numpy\n"
        "from tests.cpu import test_instruction_sets as it\n"
        f"assert it._core.instruction_set() == {level!r}\n"
        "numpy.savez(sys.argv[1], **it.results())"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(file)],
        env={**os.environ, "NEGATIVE_COSINE_MAX_ISA": level},
        cwd=ROOT,
        check=True,
    )
    expected = results()
    with np.load(file) as found:
        assert set(found.files) == set(expected)
        differs = False
        for name, values in expected.items():
            tolerance = TOLERANCE[name.partition("-")[0]] * max(1e-30, abs(values).max())
            np.testing.assert_allclose(found[name], values, rtol=0, atol=tolerance)
            differs = differs or bool((found[name] != values).any())
    assert differs, "other kernels round otherwise: were they used?"


def refusal(value: str) -> str:
    return (
        "the environment variable NEGATIVE_COSINE_MAX_ISA must be 'portable', 'avx2', "
        f"'avx512' or unset, got '{value}'"
    )


def import_core(value: str) -> subprocess.CompletedProcess[str]:
    """Imports the core, without TensorFlow."""
    code = f"""
import importlib.machinery, importlib.util
loader = importlib.machinery.ExtensionFileLoader("_core", {_core.__file__!r})
core = importlib.util.module_from_spec(importlib.util.spec_from_loader("_core", loader))
loader.exec_module(core)
print(core.instruction_set())
"""
    environment = {**os.environ, "NEGATIVE_COSINE_MAX_ISA": value}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("value", ["AVX2", "avx", "sse4", "avx1024", " avx2", "0"])
def test_the_core_refuses_a_level_that_does_not_exist(value: str) -> None:
    result = import_core(value)
    assert result.returncode != 0
    assert refusal(value) in result.stderr


def test_an_empty_level_is_none() -> None:
    assert import_core("").stdout.strip() == _core.instruction_set()


USE = """
import tensorflow as tf
from negative_cosine import __main__, fused_negative_cosine_loss
rows = tf.eye(4)
for compiled in (None, True):
    try:
        tf.function(fused_negative_cosine_loss, jit_compile=compiled)(rows, rows, 2)
    except tf.errors.FailedPreconditionError as error:
        print(" ".join(str(error).split()))
__main__.main()
"""


def test_the_op_and_the_report_refuse_it_too(tmp_path: Path) -> None:
    variables: dict[str, Any] = {"NEGATIVE_COSINE_MAX_ISA": "avx1024"}
    output = run_with(installation(tmp_path), "-c", USE, variables=variables)
    graph, compiled, *report = output.splitlines()
    assert refusal("avx1024") in graph
    assert refusal("avx1024") in compiled
    (line,) = [line for line in report if line.startswith("CPU kernels in use:")]
    assert refusal("avx1024") in line
