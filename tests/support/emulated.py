"""The modules that run CUDA sources on the host, which ``make emulation`` builds."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

from benchmarks.gpu.gpu_model import SECTOR_BYTES
from tests.support.cases import Batch
from tests.support.checkout import ROOT

FOLDER = ROOT / "build" / "emulation"


def load(name: str) -> Any:
    """The module of that name, or an error that says how to build it."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(f"{name} is not built: run make emulation") from error


def cuda_core() -> Any:
    """The CUDA core, run by the emulator with everything in its order."""
    core = load("_emulated_core")
    core.set_schedule(0)
    core.set_capability(9, 0)
    core.set_multiprocessors()
    core.truncate_products(False)
    core.count_traffic(False)
    return core


Launches = list[dict[str, int]]


def launches_of_a_step(
    batch: Batch,
    source: str = "shuffle",
    training: bool = True,
    capability: tuple[int, int] = (9, 0),
    code_version: int | None = None,
    multiprocessors: int = 4,
    **options: Any,
) -> Launches:
    """The emulator's counts of a training step, or of the loss alone."""
    core = cuda_core()
    core.set_capability(*capability)
    core.set_multiprocessors(multiprocessors)
    if code_version is not None:
        core.set_code_version(code_version)
    candidates: dict[str, Any] = {"sampler": source, "seed": np.array(batch.seed)}
    if source == "indices":
        candidates = {"negative_indices": batch.indices}
    elif source != "all":
        candidates["num_negatives"] = batch.k
    upstream = np.ones(batch.rows if options.get("reduction") == "none" else (), batch.real)
    core.count_traffic(True)
    core.reset_statistics()
    core.negative_cosine_loss(
        batch.query,
        batch.doc,
        **candidates,
        **options,
        loss_gradient=upstream if training else None,
    )
    launches: Launches = core.statistics()
    core.count_traffic(False)
    return launches


def moved(launches: Launches) -> int:
    """Bytes of the sectors that the launches read and write."""
    sectors = sum(each["sectors_read"] + each["sectors_written"] for each in launches)
    return SECTOR_BYTES * sectors
