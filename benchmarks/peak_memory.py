"""Peak memory of a step, beyond its inputs and what the program held before."""

from __future__ import annotations

import multiprocessing
import os
import re
from pathlib import Path

from benchmarks.gpu_model import Size


def process_memory(field: str) -> int:
    """Bytes that Linux counts for this process: VmRSS now, VmHWM at most."""
    status = Path("/proc/self/status").read_text()
    match = re.search(rf"^{field}:\s*(\d+) kB$", status, re.MULTILINE)
    assert match, field
    return 1024 * int(match[1])


def measure_here(way: str, training: bool, size: Size, threads: int) -> int:
    """The growth of this process's resident memory in one step after a warm-up.

    Linux counts to some hundred kilobytes: smaller figures mean nothing.
    """
    import tensorflow as tf

    from benchmarks.ways import make_step

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    step = make_step(way, training, size)
    for _ in range(2):  # traces and compiles; the results are let go
        step()
    before = process_memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
    step()
    return process_memory("VmHWM") - before


def cpu_peak_bytes(way: str, size: Size, threads: int) -> list[int]:
    """The same of the loss and of the step, in a fresh process.

    Its allocator gives freed blocks back at once: otherwise the memory that the warm-up
    freed would stay resident and hide the step's.
    """
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(64 * 1024)  # new processes inherit it
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.starmap(
            measure_here, [(way, training, size, threads) for training in (False, True)]
        )


def gpu_peak_bytes(way: str, size: Size, threads: int) -> list[int]:
    """The growth of TensorFlow's memory on the GPU in one step after a warm-up."""
    import tensorflow as tf

    from benchmarks.ways import make_step, wait_for

    del threads
    peaks = []
    for training in (False, True):
        step = make_step(way, training, size, "gpu")
        wait_for(step())
        before = tf.config.experimental.get_memory_info("GPU:0")["current"]
        tf.config.experimental.reset_memory_stats("GPU:0")
        wait_for(step())
        peaks.append(tf.config.experimental.get_memory_info("GPU:0")["peak"] - before)
    return peaks
