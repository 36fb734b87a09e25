"""An installation that its user may not write to works, and stays as it is."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.installed import installation, run_with

SOMEBODY_ELSE = 65534  # the user "nobody"

USE = """
import pathlib
import pytest
import tensorflow as tf

with pytest.raises(PermissionError):
    (pathlib.Path("negative_cosine") / "new").touch()

import negative_cosine
from negative_cosine import __main__ as report

def step(rows):
    with tf.GradientTape() as tape:
        tape.watch(rows)
        loss = negative_cosine.fused_negative_cosine_loss(
            rows, rows[::-1], 2, seed=(1, 2), implementation="native")
    return loss, tape.gradient(loss, rows)

rows = tf.eye(4, 6)
assert tf.reduce_all(step(rows)[1] == tf.function(step, jit_compile=True)(rows)[1])
report.main()
"""


def give_up_the_right_to_write_anywhere() -> None:
    """Makes a superuser one whom files' modes bind; does nothing to others."""
    drop_from_bounding_set, override_modes = 24, 1
    ctypes.CDLL(None).prctl(drop_from_bounding_set, override_modes, 0, 0, 0)


@pytest.fixture
def read_only_package(tmp_path: Path) -> Iterator[Path]:
    """A copy that nobody may write to; another user's where we may give it away."""
    package = installation(tmp_path)
    everything = [package, *package.rglob("*")]
    for path in everything:
        if os.geteuid() == 0:
            os.chown(path, SOMEBODY_ELSE, SOMEBODY_ELSE)
        path.chmod(path.stat().st_mode & ~0o222)
    yield package
    for path in everything:
        path.chmod(path.stat().st_mode | 0o200)  # for pytest, which removes the folder


@pytest.mark.parametrize("dont_write_bytecode", ["", "1"])
def test_a_read_only_installation_of_another_user_works(
    dont_write_bytecode: str, read_only_package: Path
) -> None:
    before = sorted(read_only_package.rglob("*"))
    output = run_with(
        read_only_package,
        "-c",
        USE,
        variables={"PYTHONDONTWRITEBYTECODE": dont_write_bytecode},
        preexec_fn=give_up_the_right_to_write_anywhere,
    )
    assert "auto on CPU:                         native" in output
    assert sorted(read_only_package.rglob("*")) == before
