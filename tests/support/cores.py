"""The core that the kernels' tests run on: ``--core emulated``, ``device`` or ``cpu``.

The same tests for all three. The CUDA core is run by the emulator (``make emulation``) or
by a device; the CPU's core computes the same by another way, and so tests the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.support import emulated
from tests.support.cases import (
    Array,
    Batch,
    assert_gradients_close,
    assert_values_close,
    run_on_arrays,
    run_oracle,
)

NAMES = ("emulated", "device", "cpu")

# For tests of what the CPU's core has not: rounded products, steps without statistics,
# rows at odd addresses, indices that are dropped.
ON_CUDA = pytest.mark.cores("emulated", "device")
# For tests of what no device can tell without waiting: whether values are right.
ON_CPU = pytest.mark.cores("cpu")
# For tests of what no device can be asked for: another order of its threads, another
# device, less memory, a count of what moved.
ON_EMULATOR = pytest.mark.cores("emulated")


@dataclass(frozen=True)
class Core:
    """A module with ``negative_cosine_loss`` on NumPy arrays."""

    name: str
    module: Any

    def run(
        self, batch: Batch, source: str, options: dict[str, Any], **settings: Any
    ) -> dict[str, Array]:
        """Loss, statistics and gradients by name; ``settings`` are the module's own."""
        return run_on_arrays(self.module, batch, source, options, **settings)

    def check(
        self, batch: Batch, source: str, options: dict[str, Any], **settings: Any
    ) -> None:
        """Everything against the oracle."""
        expected = run_oracle(batch, source, options)
        results = self.run(batch, source, options, **{**self.varied(batch), **settings})
        assert_values_close(results, expected, batch.dtype)
        assert_gradients_close(results, expected, batch.dtype)

    def varied(self, batch: Batch) -> dict[str, Any]:
        """Settings that change from batch to batch and may not change a result."""
        return {}


class EmulatedCore(Core):
    """The CUDA core as the emulator runs it: on any device, in any order."""

    def run(
        self,
        batch: Batch,
        source: str,
        options: dict[str, Any],
        *,
        schedule: int = 0,
        capability: tuple[int, int] = (9, 0),
        multiprocessors: int = 4,
        truncates: bool = False,
        **settings: Any,
    ) -> dict[str, Array]:
        """The same; lanes, warps and blocks run in the order of ``schedule``, 0: theirs.

        A device that few rows leave half idle takes ``ring`` and ``all`` by flat tiles.
        With ``truncates`` tensor cores cut off as a device's do, and do not round.
        """
        self.module.set_schedule(schedule)
        self.module.set_capability(*capability)
        self.module.set_multiprocessors(multiprocessors)
        self.module.truncate_products(truncates)
        self.module.count_traffic(False)
        return super().run(batch, source, options, **settings)

    def varied(self, batch: Batch) -> dict[str, Any]:
        """What the right order hides, such as a race, another one shows.

        Every second batch meets a device that is full with one tile: it takes tall ones.
        """
        multiprocessors = 1 if batch.seed[0] % 2 else 132
        return {"schedule": batch.seed[0] % 5, "multiprocessors": multiprocessors}


def open_core(name: str) -> Core:
    """The core of that name.

    Raises:
        ImportError: it is not built.
        RuntimeError: there is no device.
    """
    if name == "emulated":
        return EmulatedCore(name, emulated.cuda_core())
    if name == "cpu":
        from negative_cosine import _core

        return Core(name, _core)
    from negative_cosine import _cuda_core

    _cuda_core.device_info()
    return Core(name, _cuda_core)
