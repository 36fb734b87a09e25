"""The device as it is found, and what it can do at most: the ceilings of all else.

Copies in memory and in the L2 cache, of random bytes; a bfloat16 matrix product through
PyTorch, of random numbers; a launch of a kernel that does nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import nvidia_smi
from benchmarks.evidence.command import load_core, parse
from benchmarks.machine import LARGE, commit
from benchmarks.steps import LeftOutError, part

# As nvidia-smi names them.
STATE = (
    "name",
    "driver_version",
    "pstate",
    "clocks.sm",
    "clocks.mem",
    "clocks.max.sm",
    "clocks.max.mem",
    "clocks_event_reasons.active",
    "temperature.gpu",
    "power.draw",
    "power.limit",
    "memory.used",
    "ecc.mode.current",
    "compute_mode",
)


def facts(core: Any) -> dict[str, str]:
    """What every row of a result file says of where it comes from."""
    info = core.device_info()
    try:
        driver = nvidia_smi.query("driver_version")["driver_version"]
    except LeftOutError:
        driver = f"for CUDA {info['driver_version']}"
    return {
        "device": info["name"],
        "driver": driver,
        "toolkit": info["runtime_version"],
        "commit": commit(),
    }


def product_rate(size: int, rounds: int) -> float:
    """Operations a second of a bfloat16 matrix product, the best round."""
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise LeftOutError(f"PyTorch multiplies the matrices: {error}") from error
    if not torch.cuda.is_available():
        raise LeftOutError(f"PyTorch {torch.__version__} finds no GPU")
    left, right = torch.randn(2, size, size, device="cuda", dtype=torch.bfloat16)
    times = []
    for _ in range(rounds + 3):  # the first ones warm up
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        events[0].record()
        left @ right
        events[1].record()
        torch.cuda.synchronize()
        times.append(events[0].elapsed_time(events[1]))
    return float(2 * size**3 / (1e-3 * min(times[3:])))


def launch_microseconds(core_name: str, in_graph: bool) -> float:
    """A launch of a kernel that does nothing: the median of 30 samples."""
    name = "_emulated_vectors" if core_name == "emulated" else "_vectors"
    times = vectors_module(name).launch_milliseconds(30, 100, in_graph)
    return float(1e3 * np.median(times))


def vectors_module(name: str) -> Any:
    """The module of instructions that tests/cuda/vectors has, for a device or emulated."""
    if name == "_emulated_vectors":
        from tests.support import emulated

        return emulated.load(name)
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise LeftOutError(f"{error}: make bare builds it") from error


def main(words: Sequence[str] | None = None) -> None:
    """Reports the card, and each ceiling."""
    arguments = parse(__doc__ or "", words)
    core = load_core(arguments.core)
    with part("device") as found:
        found.update(core.device_info(), commit=commit())
    with part("card as found") as found:
        found.update(nvidia_smi.query(*STATE))
    l2_bytes = core.device_info()["l2_bytes"]
    for name, size in (("memory", LARGE), ("L2", l2_bytes // 4)):
        with part(f"copies in {name}, bytes read and written a second") as found:
            size = min(size, 1 << 12) if arguments.small else size
            found.update(bytes=size, rate=core.copy_bandwidth(size, 10))
    for how, in_graph in (("by itself", False), ("in a graph", True)):
        with part(f"launch of an empty kernel {how}, microseconds") as found:
            found.update(microseconds=launch_microseconds(arguments.core, in_graph))
    with part("bfloat16 matrix product, operations a second") as found:
        found.update(rate=product_rate(64 if arguments.small else 8192, 10))
    with part("card afterwards") as found:
        found.update(nvidia_smi.query(*STATE))


if __name__ == "__main__":
    main()
