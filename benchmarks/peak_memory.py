"""Peak memory of a step, beyond its inputs and what the program held before."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.gpu.gpu_model import Size
from benchmarks.problem import Problem, Step, random_problem
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
    return growth_of(make_step(way, training, random_problem(size), "cpu", threads))


def growth_of(step: Step, warm_ups: int = 2) -> int:
    """The growth of this process's resident memory in one step after others."""
    with no_room_as_memory_error():
        for _ in range(warm_ups):  # traces and compiles; the results are let go
            step.wait_for(step.run())
    gc.collect()  # JAX lets go of its buffers only then
    before = process_memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
    step.wait_for(step.run())
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


def cpu_peak_bytes(way: str, modes: Sequence[bool], size: Size, threads: int) -> list[int]:
    """The same of some passes, in a fresh process."""
    with fresh_process() as pool:
        return [
            pool.submit(measure_here, way, training, size, threads).result()
            for training in modes
        ]


def gpu_peak_bytes(way: str, modes: Sequence[bool], size: Size, threads: int) -> list[int]:
    """The memory on the GPU that a framework takes for one step after a warm-up.

    Raises:
        MemoryError: a framework finds no room.
    """
    growth = GROWTH[WAYS[way].module]
    with no_room_as_memory_error():
        return [growth(way, training, random_problem(size), threads) for training in modes]


@contextlib.contextmanager
def no_room_as_memory_error() -> Iterator[None]:
    """Each framework says in its own way that it finds no memory; here it becomes one.

    PyTorch raises ``OutOfMemoryError``, TensorFlow ``ResourceExhaustedError``, and JAX an
    error of XLA that begins with the status.
    """
    try:
        yield
    except Exception as error:
        names = ("OutOfMemoryError", "ResourceExhaustedError")
        if type(error).__name__ in names or "RESOURCE_EXHAUSTED" in str(error):
            raise MemoryError(str(error)) from error
        raise


def warmed_up(way: str, training: bool, problem: Problem, threads: int) -> Step:
    """A step on the GPU that was traced and compiled, and has what it keeps for good."""
    step = make_step(way, training, problem, "gpu", threads)
    step.wait_for(step.run())
    return step


def tensorflow_growth(way: str, training: bool, problem: Problem, threads: int) -> int:
    """What TensorFlow's allocator counts."""
    import tensorflow as tf

    step = warmed_up(way, training, problem, threads)
    before = tf.config.experimental.get_memory_info("GPU:0")["current"]
    tf.config.experimental.reset_memory_stats("GPU:0")
    step.wait_for(step.run())
    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"] - before)


def torch_growth(way: str, training: bool, problem: Problem, threads: int) -> int:
    """What PyTorch's allocator counts."""
    import torch

    step = warmed_up(way, training, problem, threads)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step.wait_for(step.run())
    return int(torch.cuda.max_memory_allocated() - before)


def jax_growth(way: str, training: bool, problem: Problem, threads: int) -> int:
    """What XLA planned for the compiled step, once a step has found room for it."""
    from benchmarks import jax_ways

    warmed_up(way, training, problem, threads)
    return jax_ways.planned_bytes(WAYS[way], training, problem, "gpu", threads)


def core_growth(way: str, training: bool, problem: Problem, threads: int) -> int:
    """What the core's caller allocates for a step: outputs, gradients and work memory."""
    from benchmarks import core_ways

    prepared = core_ways.prepare(WAYS[way], training, problem, "gpu")
    return int(prepared.bytes_beside_inputs)


GROWTH = {
    "core_ways": core_growth,
    "tensorflow_ways": tensorflow_growth,
    "torch_ways": torch_growth,
    "jax_ways": jax_growth,
}
