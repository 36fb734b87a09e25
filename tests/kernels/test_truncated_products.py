"""The tiles where tensor cores cut off what they add, as a device's do.

The emulator rounds each addition unless it is told to cut off: that is nearer to the
oracle than a device is.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.cases import Batch
from tests.support.cores import ON_EMULATOR, Core

pytestmark = ON_EMULATOR

CAPABILITIES = pytest.mark.parametrize("capability", [(8, 0), (9, 0)], ids=str)


@CAPABILITIES
@pytest.mark.parametrize("dim", [64, 128, 500, 1024, 2048])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("source", ["ring", "all"])
def test_sums_that_are_cut_off_match_the_oracle(
    core: Core, source: str, dtype: str, dim: int, capability: tuple[int, int]
) -> None:
    batch = Batch((70, 75, dim, 20), dtype)
    core.check(batch, source, {}, capability=capability, truncates=True)


@CAPABILITIES
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sums_of_one_sign_that_are_cut_off_keep_their_digits(
    core: Core, dtype: str, capability: tuple[int, int]
) -> None:
    # Each addition cuts off in the same direction.
    batch = Batch((40, 45, 1024, 20), dtype)
    batch.query, batch.doc = np.abs(batch.query), np.abs(batch.doc)
    core.check(batch, "ring", {}, capability=capability, truncates=True)


def test_it_is_not_what_the_emulator_does_otherwise(core: Core) -> None:
    batch = Batch((70, 75, 128, 20), "bfloat16")
    rounded, truncated = (
        core.run(batch, "ring", {}, truncates=truncates) for truncates in (False, True)
    )
    assert (rounded["row_loss"] != truncated["row_loss"]).any()
