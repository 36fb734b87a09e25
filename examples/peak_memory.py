"""How much memory a step needs beside what its process holds, by Linux's count."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path


def process_memory(field: str) -> int:
    """Bytes that Linux counts for this process: VmRSS now, VmHWM at most."""
    status = Path("/proc/self/status").read_text()
    match = re.search(rf"^{field}:\s*(\d+) kB$", status, re.MULTILINE)
    assert match, field
    return 1024 * int(match[1])


def growth_of(step: Callable[[], object], warm_ups: int = 2) -> int:
    """The growth of this process's resident memory in one step after others.

    Linux counts to some hundred kilobytes: smaller figures mean nothing.
    """
    for _ in range(warm_ups):  # traces and compiles; the results are let go
        step()
    gc.collect()  # JAX lets go of its buffers only then
    before = process_memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
    step()
    return process_memory("VmHWM") - before


@contextlib.contextmanager
def fresh_process() -> Iterator[ProcessPoolExecutor]:
    """A process to measure the growth of, whose allocators give freed blocks back at once.

    Otherwise the memory that the warm-up freed would stay resident and hide the step's:
    malloc keeps small blocks, and TensorFlow all of them where oneDNN is on, as on
    processors with AVX512_VNNI.
    """
    variables = {
        "MALLOC_MMAP_THRESHOLD_": str(64 * 1024),
        "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1",
    }
    os.environ.update(variables)  # new processes inherit them
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            yield pool
    finally:
        for name in variables:
            del os.environ[name]
