"""A wheel in an empty environment, outside the checkout, with no network at run time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.checkout import ROOT, copy_sources

pytestmark = pytest.mark.nightly

# A namespace without a network, which a user may make without further rights.
WITHOUT_NETWORK = ("unshare", "--map-root-user", "--net")


def run(*command: str | Path, cwd: Path, check: bool = True) -> str:
    """What a command prints, started without our paths."""
    ours = ("PYTHONPATH", "VIRTUAL_ENV")
    result = subprocess.run(
        command,
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if k not in ours},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0 or not check, result.stdout
    return result.stdout


def offline(*command: str | Path, cwd: Path, check: bool = True) -> str:
    return run(*WITHOUT_NETWORK, *command, cwd=cwd, check=check)


def can_block_the_network() -> bool:
    """Whether this system has such namespaces."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*WITHOUT_NETWORK, "true"]).returncode == 0


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment into which pip installed the wheel of the sdist."""
    if not can_block_the_network():
        pytest.skip("this system lets nobody make a network of their own")
    folder = tmp_path_factory.mktemp("wheel")
    sources = copy_sources(folder / "sources")
    sdist: Sequence[str] = ("setup.py", "--quiet", "sdist", "--dist-dir", str(folder))
    run(sys.executable, *sdist, cwd=sources)
    (archive,) = folder.glob("*.tar.gz")
    build = ("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder))
    run(sys.executable, *build, archive, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    shutil.rmtree(sources)
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", f"{wheel}[examples]", cwd=folder)
    return folder


def test_the_network_is_blocked(environment: Path) -> None:
    code = "import socket; socket.create_connection(('192.0.2.1', 80), 5)"
    output = offline(sys.executable, "-c", code, cwd=environment, check=False)
    assert "Network is unreachable" in output


def test_the_report_runs_from_the_wheel(environment: Path) -> None:
    output = offline("venv/bin/python", "-m", "negative_cosine", cwd=environment)
    assert "native library:                      loaded" in output
    assert "library for compiled functions:      loaded" in output
    assert "auto on CPU:                         native" in output


def test_the_demo_runs_from_the_wheel(environment: Path) -> None:
    for name in ("examples", "benchmarks"):
        shutil.copytree(ROOT / name, environment / name)
    options = ("--limit", "4000", "--epochs", "1")
    demo = ("venv/bin/python", "-m", "examples.code_search", *options)
    output = offline(*demo, cwd=environment)
    assert "this loss, shuffle" in output
    assert (environment / "demo" / "scores.csv").is_file()
