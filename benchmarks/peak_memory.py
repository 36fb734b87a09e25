"""Peak memory of a step, beyond its inputs and what the program held before."""

from __future__ import annotations

import gc
import multiprocessing
import os
import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.gpu_model import Size
from benchmarks.problem import Step, random_problem
from benchmarks.ways import WAYS, make_step


def process_memory(field: str) -> int:
    """Bytes that Linux counts for this process: VmRSS now, VmHWM at most."""
    status = Path("/proc/self/status").read_text()
    match = re.search(rf"^{field}:\s*(\d+) kB$", status, re.MULTILINE)
    assert match, field
    return 1024 * int(match[1])


def limit_tensorflow(threads: int) -> None:
    """TensorFlow's threads: for the whole process, before its first step."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)


def measure_here(way: str, training: bool, size: Size, threads: int) -> int:
    """The growth of this process's resident memory in one step after a warm-up.

    Linux counts to some hundred kilobytes: smaller figures mean nothing.
    """
    if WAYS[way].module == "tensorflow_ways":  # no other way's child imports TensorFlow
        limit_tensorflow(threads)
    step = make_step(way, training, random_problem(size), "cpu", threads)
    for _ in range(2):  # traces and compiles; the results are let go
        step.wait_for(step.run())
    gc.collect()  # JAX lets go of its buffers only then
    before = process_memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
    step.wait_for(step.run())
    return process_memory("VmHWM") - before


def cpu_peak_bytes(way: str, modes: Sequence[bool], size: Size, threads: int) -> list[int]:
    """The same of some passes, in a fresh process.

    Its allocator gives freed blocks back at once: otherwise the memory that the warm-up
    freed would stay resident and hide the step's.
    """
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(64 * 1024)  # new processes inherit it
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return [
            pool.submit(measure_here, way, training, size, threads).result()
            for training in modes
        ]


def gpu_peak_bytes(way: str, modes: Sequence[bool], size: Size, threads: int) -> list[int]:
    """The growth of a framework's memory on the GPU in one step after a warm-up.

    Raises:
        MemoryError: PyTorch finds no room. TensorFlow has an error of its own.
    """
    growth = torch_growth if WAYS[way].module == "torch_ways" else tensorflow_growth
    return [
        growth(make_step(way, training, random_problem(size), "gpu", threads))
        for training in modes
    ]


def tensorflow_growth(step: Step) -> int:
    """What TensorFlow's allocator counts."""
    import tensorflow as tf

    step.wait_for(step.run())
    before = tf.config.experimental.get_memory_info("GPU:0")["current"]
    tf.config.experimental.reset_memory_stats("GPU:0")
    step.wait_for(step.run())
    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"] - before)


def torch_growth(step: Step) -> int:
    """What PyTorch's allocator counts."""
    import torch

    try:
        step.wait_for(step.run())
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step.wait_for(step.run())
    except torch.cuda.OutOfMemoryError as error:
        raise MemoryError(str(error)) from error
    return int(torch.cuda.max_memory_allocated() - before)
