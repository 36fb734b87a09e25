"""Times the loss alone and the training step (loss and both gradients), way by way.

Every implementation is first compared with a float64 oracle on a small batch. Then all run
in one process after a warm-up, interleaved: in each round each way takes some steps in a
row, as training does. The table gives the median and the 20% and 80% quantiles of the
rounds; the CSV also says what it ran on. A step includes what its framework takes to
start it; without TensorFlow the CUDA kernels are timed by themselves.

    python -m benchmarks.bench --case 1024 4096 --output results.csv
    python -m benchmarks.bench --case large --impl fused torch-compile jax --mode train
    python -m benchmarks.bench --device gpu --sizes 4096x20x128 8192x64x256
    python -m benchmarks.bench --without-tensorflow
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # started as a file, which puts its folder on the path
    sys.path[0] = str(Path(__file__).parent.parent)

import pandas as pd

from benchmarks import command_line, cuda_core, machine, measurements, report
from benchmarks.checks import WrongResultError

NO_GPU = (
    "no GPU found: TensorFlow lists none. Use --device cpu, or --without-tensorflow to "
    "time the CUDA core by itself"
)


def start_tensorflow(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace
) -> None:
    """Sets TensorFlow's threads; ends the program if a GPU is wanted and none is there."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # By itself it takes all of a GPU's memory, and leaves none to PyTorch.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.get_logger().setLevel("ERROR")  # new ways' new functions look like retracing
    if arguments.device == "gpu" and not tf.config.list_physical_devices("GPU"):
        parser.exit(2, f"{NO_GPU}\n")


def measure(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """The rows of results, or the end of the program where there can be none."""
    if not arguments.without_tensorflow:
        start_tensorflow(parser, arguments)
    run = measurements.on_gpu if arguments.device == "gpu" else measurements.on_cpu
    try:
        rows = run(arguments)
    except cuda_core.NoDeviceError as error:
        parser.exit(2, f"{error}\n")
    except WrongResultError as error:
        parser.exit(1, f"{error}\n")
    if not rows:
        parser.exit(1, "nothing was timed: every implementation was left out\n")
    return rows


def make_writable(parser: argparse.ArgumentParser, path: Path) -> None:
    """Ends the program before it measures if there is no writing to ``path``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    except OSError as error:
        parser.error(f"cannot write {path}: {error.strerror}")


def main(words: Sequence[str] | None = None) -> None:
    """Measures, prints and, where asked to, writes a CSV."""
    parser = command_line.make_parser((__doc__ or "").splitlines()[0])
    arguments = command_line.parse(parser, words)
    if arguments.output:
        make_writable(parser, arguments.output)
    results = pd.DataFrame(measure(parser, arguments))
    results["package"] = machine.version("negative-cosine")
    results = report.complete(results)
    report.show(results)
    if arguments.output:
        results.to_csv(arguments.output, index=False)


if __name__ == "__main__":
    main()
