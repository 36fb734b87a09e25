"""What the package runs unasked: it opens its libraries, and does nothing else."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.install.audit import recorded
from tests.support.checkout import ROOT
from tests.support.installed import (
    CORE_LIBRARY,
    LIBRARY,
    XLA_LIBRARY,
    installation,
    run_with,
)

USE = """
import json
import keras, tensorflow as tf
tf.function(lambda x: x + 1, jit_compile=True)(tf.ones([2]))  # starts TensorFlow's parts
from tests.install.audit import mapped_libraries, recorded

def step(rows):
    with tf.GradientTape() as tape:
        tape.watch(rows)
        loss = negative_cosine.fused_negative_cosine_loss(
            rows, rows[::-1], 2, implementation="native")
    return loss, tape.gradient(loss, rows)

before = mapped_libraries()
with recorded() as at_import:
    import negative_cosine
opened = mapped_libraries() - before
with recorded() as at_use:
    step(tf.eye(4, 6))
    tf.function(step, jit_compile=True, autograph=False)(tf.eye(4, 6))
print(json.dumps([negative_cosine.__file__, sorted(opened), at_import, at_use]))
"""


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any, Any]:
    """The package's folder, the libraries that its import opens, and the events."""
    package = installation(tmp_path_factory.mktemp("observed"))
    paths = f"{package.parent}:{ROOT}"
    # Without -B the interpreter would write its cache of the package's bytecode.
    output = run_with(package, "-B", "-c", USE, variables={"PYTHONPATH": paths})
    file, opened, at_import, at_use = json.loads(output.splitlines()[-1])
    assert Path(file).parent == package
    return package, opened, at_import, at_use


def test_an_import_opens_libraries_inside_the_package_alone(
    observed: tuple[Path, Any, Any, Any],
) -> None:
    package, opened, _, _ = observed
    assert opened == [str(package / one) for one in (LIBRARY, XLA_LIBRARY, CORE_LIBRARY)]


def test_an_import_names_libraries_by_their_absolute_paths_and_does_nothing_else(
    observed: tuple[Path, Any, Any, Any],
) -> None:
    package, _, events, _ = observed
    assert set(events) <= {
        f"ctypes.dlopen {package / LIBRARY}",
        f"ctypes.dlopen {package / XLA_LIBRARY}",
    }


def test_a_training_step_opens_no_socket_process_file_or_library(
    observed: tuple[Path, Any, Any, Any],
) -> None:
    *_, events = observed
    assert events == []


def connect() -> None:
    with socket.socket() as one, pytest.raises(OSError, match="refused"):
        one.connect(("127.0.0.1", 1))


FAULTS: dict[str, Callable[[Path], Any]] = {
    "socket.connect": lambda folder: connect(),
    "subprocess.Popen": lambda folder: subprocess.run(["true"]),
    "os.system": lambda folder: os.system("true"),
    "open": lambda folder: (folder / "file").write_text("written"),
    "os.mkdir": lambda folder: (folder / "folder").mkdir(),
    "ctypes.dlopen": lambda folder: __import__("ctypes").CDLL("libc.so.6"),
}


@pytest.mark.parametrize("event", FAULTS)
def test_what_would_break_these_promises_is_recorded(event: str, tmp_path: Path) -> None:
    with recorded() as events:
        FAULTS[event](tmp_path)
    assert [one for one in events if one.startswith(event)]


def test_reading_a_file_is_no_event(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with recorded() as events:
        (tmp_path / "file").read_text()
    assert events == []
