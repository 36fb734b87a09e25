"""The Python tests with the package's core under AddressSanitizer.

``make asan`` builds the package once more, with UndefinedBehaviorSanitizer too, in
``build/asan``. The core and the NumPy module are watched. TensorFlow, Python and what
includes TensorFlow's headers are not, so the sanitizers' libraries have to be loaded
before everything else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cpu.sanitized import without_random_addresses
from tests.support.checkout import ROOT

pytestmark = pytest.mark.nightly

TESTS = ROOT / "tests"
PACKAGE = ROOT / "build" / "asan" / "package"

# What calls the libraries; a process that it starts inherits the sanitizers.
FILES = (
    "loss/test_parity.py",
    "loss/test_gradients.py",
    "loss/test_errors.py",
    "loss/test_numerics.py",
    "sampler/test_sampler.py",
    "cpu/test_core.py",
    "tensorflow/test_compiled.py",
    "keras/test_keras_layer.py",
)

# Python and TensorFlow hold memory to the end. Python's allocator would hide ours.
ASAN_OPTIONS = "detect_leaks=0:protect_shadow_gap=0:allocator_may_return_null=1"

# NumPy is told of one row more than there is memory for.
READS_BEHIND = """
import numpy as np
from negative_cosine import _core

rows = np.ones((99, 64), np.float32)
query = np.lib.stride_tricks.as_strided(rows, (100, 64))
_core.negative_cosine_loss(query, query, num_negatives=3, seed=np.array([1, 2]))
"""


def sanitizers_libraries() -> list[str]:
    """What has to be loaded first: the libraries that ours was linked with."""
    libraries = list(PACKAGE.glob("negative_cosine/_core.*.so"))
    if not libraries:
        raise FileNotFoundError(f"{PACKAGE} has no libraries: run make asan")
    listed = subprocess.run(["ldd", *libraries], capture_output=True, text=True, check=True)
    paths = [line.split()[2] for line in listed.stdout.splitlines() if "=> /" in line]
    wanted = ("libasan", "libubsan", "libstdc++")
    return [path for name in wanted for path in paths if Path(path).name.startswith(name)]


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with the instrumented package, from the folder of the tests."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{PACKAGE}:{ROOT}",
        "PYTHONMALLOC": "malloc",
        "LD_PRELOAD": " ".join(sanitizers_libraries()),
        "ASAN_OPTIONS": ASAN_OPTIONS,
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    return subprocess.run(
        [*without_random_addresses(), sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("file", FILES)
def test_the_python_tests_pass_under_the_sanitizers(file: str) -> None:
    arguments = ("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", "not gpu")
    result = run_python(*arguments, str(TESTS / file))
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]
    assert " passed" in result.stdout


def test_the_libraries_under_test_are_the_instrumented_ones() -> None:
    result = run_python(
        "-c", "import negative_cosine as n; print(n.__file__, n.native_library().path)"
    )
    folder = PACKAGE / "negative_cosine"
    paths = f"{folder / '__init__.py'} {folder / '_negative_cosine_ops.so'}"
    assert result.stdout.strip() == paths, result.stderr


def test_a_planted_read_behind_an_array_is_found_in_the_kernels() -> None:
    result = run_python("-c", READS_BEHIND)
    assert result.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in result.stderr
    assert "/csrc/cpu/kernels.cc" in result.stderr
