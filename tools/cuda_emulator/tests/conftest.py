"""The module of the planted faults, which CMakeLists.txt builds."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MODULES = Path(__file__).parents[3] / "build" / "emulation"


@pytest.fixture(name="planted")
def planted_module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The planted faults, and the emulator's settings as they were after the test."""
    monkeypatch.syspath_prepend(MODULES)
    module = importlib.import_module("_planted_faults")
    module.reset_statistics()
    yield module
    module.set_schedule(0)
    module.count_traffic(False)
    module.reset_statistics()
    module.set_memory_limit(2**32)
    module.set_capability(9, 0)
    module.truncate_products(False)
    module.set_multiprocessors()
