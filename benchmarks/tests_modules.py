"""What the benchmarks share with the tests: the judge, the emulator, recorded instructions.

The modules of ``tests/`` stand beside what they import, and are found by their folders.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent / "tests"


def tests_module(name: str) -> Any:
    """A module of ``tests`` or ``tests/kernels``."""
    for folder in (TESTS, TESTS / "kernels"):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    return importlib.import_module(name)
