"""Copies of the installed package that a test may break, and Python run on one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import negative_cosine

LIBRARY = "_negative_cosine_ops.so"
XLA_LIBRARY = "_negative_cosine_xla.so"
CORE_LIBRARY = "libnegative_cosine_core.so"


def installation(folder: Path) -> Path:
    """A copy of the installed package."""
    package = folder / "negative_cosine"
    source = Path(negative_cosine.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    return package


def start_with(
    package: Path, *arguments: str, variables: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Runs Python on a copy of the package."""
    environment = {**os.environ, "PYTHONPATH": str(package.parent), **(variables or {})}
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        cwd=package.parent,
        **options,
    )


def run_with(package: Path, *arguments: str, **options: Any) -> str:
    """The same, and what it prints; a failure fails the test."""
    result = start_with(package, *arguments, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout
