"""What people use instead, on the same inputs, each checked first: gpu_peers.csv.

Each is called as its own users call it, launch by launch; those of PyTorch and this
package's kernels are also recorded into a CUDA graph and replayed. All times are the
host's: some steps are put on the device, and the clock stops when the last is done.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from benchmarks import checks, core_ways, limits, machine, peak_memory
from benchmarks.evidence.command import load_core, parse
from benchmarks.evidence.device import facts
from benchmarks.evidence.tables import Table
from benchmarks.evidence.tools import run_tool
from benchmarks.gpu.gpu_model import MODES, Size
from benchmarks.problem import Problem, Step, random_problem
from benchmarks.rounds import Times, summary, time_rounds
from benchmarks.steps import LeftOutError, part
from benchmarks.ways import WAYS, make_step

FILE = "gpu_peers.csv"
COLUMNS = (
    "impl",
    "label",
    "mode",
    "batch_size",
    "num_negatives",
    "dim",
    "dtype",
    "launch",
    "median_us",
    "q20_us",
    "q80_us",
    "samples",
    "steps",
    "ratio",
    "ratio_to",
    "peak_bytes",
    "versions",
)

NAMES = [
    *("core", "core-ring", "core-all"),
    *("torch", "torch-compile", "triton-atomics", "jax"),
    *("torch-in-batch", "torch-in-batch-compile", "jax-in-batch"),
    *("inf-cl", "inf-cl-triton", "liger", "cut-cross-entropy"),
]


class Comparison(NamedTuple):
    """A size and mode; torch.compile needs ten seconds or so for each of its own."""

    size: Size
    training: bool = True
    with_compiler: bool = True


# What the documents show first.
SIZES = (
    Comparison(Size(8192, 50, 128, "bfloat16")),
    Comparison(Size(8192, 50, 128, "float32")),
    Comparison(Size(65536, 50, 128, "bfloat16")),
    Comparison(Size(8192, 50, 128, "bfloat16"), training=False),
    Comparison(Size(4096, 20, 128, "float32"), with_compiler=False),
    Comparison(Size(8192, 64, 768, "bfloat16"), with_compiler=False),
    Comparison(Size(1024, 20, 128, "float32"), with_compiler=False),
)
SMALL = (Comparison(Size(24, 5, 32)),)

SAMPLES, STEPS, SECONDS_OF_A_WAY = 30, 20, 0.3
MEMORY_GIB = 20.0  # of an H100's 78, which three libraries hold at the same time
CHECKED = Size(64, 5, 32, "bfloat16")  # a size and type that every way takes
SECONDS_OF_A_CHECK = 100.0
RECORDED_GIB = 2.0  # a graph keeps its memory for good: larger steps are not recorded
THREADS = 2

CHECK = "import sys; from benchmarks.evidence import peers; peers.check_here(*sys.argv[1:])"

Key = tuple[str, str]  # a way, and how it is launched


def why_not(name: str, size: Size, device: str, training: bool = True) -> Iterator[str]:
    """Why a way does not run at a size; without a GPU the emulator runs the core."""
    is_emulated = WAYS[name].module == "core_ways" and device == "cpu"
    where = "gpu" if is_emulated else device
    return limits.problems(name, training, size, where, MEMORY_GIB)


def check_here(name: str, device: str) -> None:
    """Compares a way with the oracle in the dtypes that it is timed in."""
    dtypes = {each.size.dtype for each in (SIZES if device == "gpu" else SMALL)}
    for dtype, training in itertools.product(sorted(dtypes), (True, False)):
        if dtype in WAYS[name].dtypes:
            checks.check(name, training, dtype, device, THREADS)


def check(name: str, device: str) -> bool:
    """The same in a process of its own, as a part: a crash there ends nothing here."""
    reported: list[bool] = []
    with part(f"check {name}"):
        if reason := next(why_not(name, CHECKED, device), ""):
            raise LeftOutError(reason)
        command = [sys.executable, "-c", CHECK, name, device]
        status, output = run_tool(command, SECONDS_OF_A_CHECK)
        last = (output.strip().splitlines() or ["no output"])[-1]
        assert status == 0, f"exit status {status}: {last}"
        reported.append(True)
    return bool(reported)


def recorded(step: Step) -> Step:
    """A step of PyTorch as a CUDA graph: nothing of Python runs when it is replayed."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # as PyTorch asks for before a recording
        for _ in range(3):
            step.run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # What other threads do meanwhile, JAX's among them, is no part of the recording.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        step.run()
    return Step(graph.replay, lambda _: torch.cuda.synchronize(), step.outputs)


def variants(
    name: str, training: bool, problem: Problem, device: str
) -> Iterator[tuple[str, Step]]:
    """The ways to launch a step, of which the first is the users' own."""
    if WAYS[name].module == "core_ways":
        prepared = core_ways.prepare(WAYS[name], training, problem, device)
        for launch in ("plain", "graph"):
            yield launch, core_ways.step_of(prepared, launch)
        return
    step = make_step(name, training, problem, device, THREADS)
    yield "plain", step
    if device == "gpu" and can_be_recorded(name, training, problem):
        yield "graph", recorded(step)


def can_be_recorded(name: str, training: bool, problem: Problem) -> bool:
    """Whether a CUDA graph of a step can be made, and has room beside the others."""
    way = WAYS[name]
    rows, dim = problem.query.shape
    size = Size(rows, problem.num_negatives, dim, problem.dtype)
    fits = way.predicted_bytes(size, training) < RECORDED_GIB * limits.GIB
    return way.module == "torch_ways" and not way.waits and fits


def all_variants(
    names: Sequence[str], training: bool, size: Size, device: str
) -> tuple[dict[Key, Step], dict[str, float]]:
    """Every step that can be made, and the peak memory of each way."""
    problem = random_problem(size)
    steps: dict[Key, Step] = {}
    peaks: dict[str, float] = {}
    for name in names:
        with part(f"{name}, {MODES[training]}, {size}, {size.dtype}") as found:
            if reason := next(why_not(name, size, device, training), ""):
                raise LeftOutError(reason)
            if device == "gpu":
                (peaks[name],) = peak_memory.gpu_peak_bytes(name, [training], size, THREADS)
                let_go_of_memory()
            for launch, step in variants(name, training, problem, device):
                step.wait_for(step.run())
                steps[name, launch] = step
                found.setdefault("launches", []).append(launch)
    return steps, peaks


def let_go_of_memory() -> None:
    """PyTorch keeps what a step has freed: JAX could not take it."""
    if "torch" in sys.modules:
        sys.modules["torch"].cuda.empty_cache()


def baseline_of(key: Key, times: Mapping[Key, Times]) -> Key | None:
    """This package's step with the same candidates, launched in the same way."""
    own = "core-all" if WAYS[key[0]].sampler == "all" else "core"
    return next((each for each in ((own, key[1]), (own, "plain")) if each in times), None)


def time_size(
    names: Sequence[str], training: bool, size: Size, device: str, table: Table
) -> None:
    """The rows of one size and mode; all steps in one process, by turns."""
    steps, peaks = all_variants(names, training, size, device)
    times, plans = time_rounds(steps, SAMPLES, STEPS, SECONDS_OF_A_WAY)
    for key, rounds in times.items():
        name, launch = key
        baseline = baseline_of(key, times)
        figures = summary(rounds, times[baseline] if baseline else None)
        table.add(
            {
                "impl": name,
                "label": WAYS[name].label,
                "mode": MODES[training],
                "batch_size": size.batch_size,
                "num_negatives": size.num_negatives,
                "dim": size.dim,
                "dtype": size.dtype,
                "launch": launch,
                **{f"{q}_us": round(1e3 * figures[f"{q}_ms"], 2) for q in QUANTILES},
                "samples": figures["samples"],
                "steps": plans[key].steps,
                "ratio": round(figures["ratio"], 3),
                "ratio_to": ", ".join(baseline) if baseline else "",
                "peak_bytes": peaks.get(name, ""),
                "versions": versions(name),
            }
        )


QUANTILES = ("median", "q20", "q80")


def versions(name: str) -> str:
    """What a way imports, with its versions."""
    found = ((package, machine.version(package)) for package in WAYS[name].packages)
    return ", ".join(f"{package} {version}" for package, version in found)


def main(words: Sequence[str] | None = None) -> None:
    """Checks all side by side, then times them size by size."""
    arguments = parse(__doc__ or "", words)
    device, sizes = ("cpu", SMALL) if arguments.small else ("gpu", SIZES)
    table = Table(arguments.output / FILE, COLUMNS, facts(load_core(arguments.core)))
    # JAX compiles a step for its peak memory and again to time it: once by this.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", tempfile.mkdtemp())
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    with ThreadPoolExecutor(8 if device == "gpu" else 1) as pool:
        passed = pool.map(lambda name: check(name, device), NAMES)
        names = [name for name, right in zip(NAMES, passed, strict=True) if right]
    for size, training, with_compiler in sizes:
        chosen = [name for name in names if with_compiler or not is_torch_compile(name)]
        with part(f"times, {MODES[training]}, {size}, {size.dtype}"):
            time_size(chosen, training, size, device, table)


def is_torch_compile(name: str) -> bool:
    """Whether PyTorch compiles a way anew for each size."""
    return WAYS[name].module == "torch_ways" and WAYS[name].compiled


if __name__ == "__main__":
    main()
