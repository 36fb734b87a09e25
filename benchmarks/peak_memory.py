"""Peak memory of a step, beyond its inputs and what the program held before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from benchmarks.gpu.gpu_model import Size
from benchmarks.problem import Problem, Step, random_problem
from benchmarks.ways import WAYS, make_step
from examples import peak_memory


def limit_tensorflow(threads: int) -> None:
    """TensorFlow's threads: for the whole process, before its first step."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)


def measure_here(way: str, training: bool, size: Size, threads: int) -> int:
    """The growth of this process's resident memory in one step after a warm-up."""
    if WAYS[way].module == "tensorflow_ways":  # no other way's child imports TensorFlow
        limit_tensorflow(threads)
    return growth_of(make_step(way, training, random_problem(size), "cpu", threads))


def growth_of(step: Step, warm_ups: int = 2) -> int:
    """The growth of this process's resident memory in one step after others.

    Raises:
        MemoryError: a framework finds no room.
    """
    with no_room_as_memory_error():
        return peak_memory.growth_of(lambda: step.wait_for(step.run()), warm_ups)


def cpu_peak_bytes(way: str, modes: Sequence[bool], size: Size, threads: int) -> list[int]:
    """The same of some passes, in a fresh process."""
    with peak_memory.fresh_process() as pool:
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
