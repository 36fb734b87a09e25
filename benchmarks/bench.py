"""Times the loss alone and the training step (loss and both gradients), way by way.

All ways run in one process after a warm-up, interleaved: in each round each way takes
some steps in a row, as training does. The table gives the median and the 20% and 80%
quantiles of the rounds; the CSV also says what it ran on. A TensorFlow step includes
what TensorFlow takes to start it; without TensorFlow only the kernels are timed.

    python -m benchmarks.bench --output benchmarks/results/cpu.csv
    python -m benchmarks.bench --device gpu --sizes 4096x20x128 8192x64x256 --plot gpu.png
    python -m benchmarks.bench --without-tensorflow
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if not __package__:  # started as a file, which puts its folder on the path
    sys.path[0] = str(Path(__file__).parent.parent)

import pandas as pd

from benchmarks import cuda_core, machine, measurements, report
from benchmarks.gpu_model import BYTES, parse_size

NO_GPU = (
    "no GPU found: TensorFlow lists none. Use --device cpu, or --without-tensorflow to "
    "time the CUDA core by itself"
)
# A GPU's step takes microseconds, and what stops the clock once a round nearly a thousand.
STEPS = {"cpu": 5, "gpu": 500}


def count(text: str) -> int:
    """A number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number of 1 or more, got {text!r}")
    return int(text)


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=list(STEPS), help="default: cpu")
    parser.add_argument(
        "--without-tensorflow", action="store_true", help="the CUDA core by itself"
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=parse_size,
        metavar="BxKxD",
        default=[parse_size("4096x20x128")],
    )
    parser.add_argument("--dtypes", nargs="+", choices=list(BYTES), default=["float32"])
    parser.add_argument("--rounds", type=count, default=15)
    parser.add_argument("--steps", type=count, help=f"of each way in a round: {STEPS}")
    parser.add_argument("--threads", type=count, default=2, help="of the CPU")
    parser.add_argument("--ways", nargs="+", metavar="WAY", help="default: all")
    parser.add_argument("--output", type=Path, metavar="CSV")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    return parser


def check_tensorflow(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace
) -> None:
    """Ends the program if TensorFlow sees no GPU, or a way has no such name."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.get_logger().setLevel("ERROR")  # new ways' new functions look like retracing
    if arguments.device == "gpu" and not tf.config.list_physical_devices("GPU"):
        parser.exit(2, f"{NO_GPU}\n")
    from benchmarks.ways import WAYS

    unknown = set(arguments.ways or ()) - set(WAYS)
    if unknown:
        parser.error(f"no such way: {sorted(unknown)}; there are {list(WAYS)}")
    if arguments.ways and "fused" not in arguments.ways:
        parser.error("--ways must include 'fused', which the others are compared with")


def measure(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """The rows of results, or the end of the program where there is no device."""
    sizes = [
        replace(size, dtype=dtype) for size in arguments.sizes for dtype in arguments.dtypes
    ]
    if arguments.without_tensorflow:
        try:
            core = cuda_core.load_core()
        except cuda_core.NoDeviceError as error:
            parser.exit(2, f"{error}\n")
        return measurements.without_tensorflow(core, arguments, sizes)
    check_tensorflow(parser, arguments)
    run = measurements.on_gpu if arguments.device == "gpu" else measurements.on_cpu
    return run(arguments, sizes)


def make_writable(parser: argparse.ArgumentParser, path: Path) -> None:
    """Ends the program before it measures if there is no writing to ``path``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    except OSError as error:
        parser.error(f"cannot write {path}: {error.strerror}")


def main(command_line: Sequence[str] | None = None) -> None:
    """Measures, prints and, where asked to, writes a CSV and a PNG."""
    parser = make_parser()
    arguments = parser.parse_args(command_line)
    if arguments.without_tensorflow and arguments.device == "cpu":
        parser.error("--without-tensorflow times the CUDA core: there is no cpu for it")
    if arguments.without_tensorflow and arguments.ways:
        parser.error("--without-tensorflow times the fused passes alone: leave --ways out")
    for path in (arguments.output, arguments.plot):
        if path is not None:
            make_writable(parser, path)
    arguments.device = arguments.device or (
        "gpu" if arguments.without_tensorflow else "cpu"
    )
    arguments.steps = arguments.steps or STEPS[arguments.device]
    results = pd.DataFrame(measure(parser, arguments))
    results["package"] = machine.package_version()
    results["rounds"], results["steps"] = arguments.rounds, arguments.steps
    results = report.complete(results)
    report.show(results)
    if arguments.output:
        results.to_csv(arguments.output, index=False)
    if arguments.plot:
        report.plot(results, arguments.plot)


if __name__ == "__main__":
    main()
