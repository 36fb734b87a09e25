"""The modules that run CUDA sources on the host, which ``make emulation`` builds."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "build" / "emulation"


def load(name: str) -> Any:
    """The module of that name, or an error that says how to build it."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{name} is not built in {FOLDER}: run make emulation") from error


def cuda_core() -> Any:
    """The CUDA core, run by the emulator with everything in its order."""
    core = load("_emulated_core")
    core.set_schedule(0)
    core.set_capability(9, 0)
    core.count_traffic(False)
    return core
