"""Programs that came from TensorFlow 1 get the same losses, gradients and errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.tensorflow.tensorflow1_cases import PROGRAMS

CASES = Path(__file__).parent / "tensorflow1_cases.py"


# Between them these turn every switch, in sessions and in functions.
USUAL = (
    "every behaviour of TensorFlow 2 off",
    "sizes as Dimension, control flow of TensorFlow 1",
)


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(program, marks=() if program in USUAL else pytest.mark.nightly)
        for program in PROGRAMS
    ],
)
def test_every_case_holds_in(program: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)],
        env={**os.environ, "TENSORFLOW1_PROGRAM": program},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout
    (passed,) = re.findall(r"(\d+) passed", result.stdout)
    assert int(passed) > 50
