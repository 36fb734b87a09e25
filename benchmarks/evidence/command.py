"""What every step is told: where its results go, which core runs, how much to do."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CORES = ("device", "emulated")
NO_DEVICE = "a dry run has no device to watch"


def parse(description: str, words: Sequence[str] | None) -> argparse.Namespace:
    """A step's command line."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--core", choices=CORES, default=CORES[0])
    parser.add_argument("--small", action="store_true", help="sizes for a dry run")
    return parser.parse_args(words)


def words_for(output: Path, core: str, small: bool) -> list[str]:
    """The command line that ``parse`` reads."""
    return ["--output", str(output), "--core", core, *(["--small"] if small else [])]


def load_core(name: str) -> Any:
    """The CUDA core's module: on the device, or run by the tests' emulator.

    Raises:
        benchmarks.cuda_core.NoDeviceError: it is not built, or there is no device.
    """
    if name == "emulated":
        from tests.support import emulated

        return emulated.cuda_core()
    from benchmarks import cuda_core

    return cuda_core.load_core()
