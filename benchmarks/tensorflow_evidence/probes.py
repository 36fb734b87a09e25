"""What the machine has, and which of CUDA's libraries work: each tried by itself.

A TensorFlow without cuBLAS, cuDNN or what XLA needs says so in an error, or ends the
process: that is found out here, before the steps that need them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from negative_cosine.__main__ import report_lines

from benchmarks import nvidia_smi
from benchmarks.steps import part
from benchmarks.tensorflow_evidence.child import (
    choose_device,
    kind_of,
    make_parser,
    needing_a_library,
    require_close,
    require_device,
    start_tensorflow,
)


def report(device: str) -> None:
    """The package's own report, the devices, and the kernels that every step needs."""
    kind = kind_of(device).upper()
    with part("package") as facts:
        facts |= dict(report_lines())
        chosen = facts.get(f"auto on {kind}")
        assert chosen == "native", f"auto on {kind}: {chosen}"
    with part("devices") as facts:
        found = tf.config.list_physical_devices(kind)
        assert found, f"TensorFlow sees no {kind}"
        details = tf.config.experimental.get_device_details
        facts |= {each.name: details(each) for each in found}
    with part("elementwise kernels, sums, random numbers"), tf.device(device):
        numbers = tf.random.stateless_uniform([1000], (1, 2))
        require_device("a number", [numbers], device)
        doubled = (numbers * 2 + 1).numpy()
        require_close("an elementwise result", doubled, numbers.numpy() * 2 + 1, 1e-6)
        require_close("a sum", tf.reduce_sum(numbers), numbers.numpy().sum(), 1e-5)
    with part("memory growth") as facts:
        found = nvidia_smi.query("memory.used", "memory.total").values()
        used, total = (int(value.removesuffix(" MiB")) for value in found)
        facts |= {"used_mib": used, "total_mib": total}
        assert used < total / 4, f"{used} of {total} MiB are taken, by few numbers"


def matmul(device: str) -> None:
    """Matrix products, by cuBLAS."""
    numbers = np.random.default_rng(0).normal(size=(2, 64, 64))
    for dtype, tolerance in (("float32", 1e-2), ("float16", 1e-2), ("bfloat16", 5e-2)):
        with part(dtype), needing_a_library(), tf.device(device):
            first, second = (tf.constant(matrix, dtype) for matrix in numbers)
            product = first @ second
            require_device("the product", [product], device)
            exact = numbers[0] @ numbers[1]
            require_close("the product", tf.cast(product, tf.float64), exact, tolerance)


def cudnn(device: str) -> None:
    """A convolution, by cuDNN."""
    with part("convolution"), needing_a_library(), tf.device(device):
        sums = tf.nn.conv2d(tf.ones([1, 8, 8, 1]), tf.ones([3, 3, 1, 1]), 1, "VALID")
        require_device("the convolution", [sums], device)
        require_close("the convolution", sums, np.full((1, 6, 6, 1), 9.0), 1e-3)


def xla(device: str) -> None:
    """A compiled function without a matrix product."""
    numbers = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)

    @tf.function(jit_compile=True, autograph=False)
    def norms(rows: tf.Tensor) -> tf.Tensor:
        return tf.sqrt(tf.reduce_sum(rows * rows, axis=1))

    with part("compiled"), needing_a_library(), tf.device(device):
        found = norms(tf.constant(numbers))
        require_device("the norms", [found], device)
        require_close("the norms", found, np.linalg.norm(numbers, axis=1), 1e-5)


PROBES: dict[str, Callable[[str], None]] = {
    "report": report,
    "matmul": matmul,
    "cudnn": cudnn,
    "xla": xla,
}


def main() -> None:
    """Runs one of them."""
    parser = make_parser(__doc__)
    parser.add_argument("probe", choices=PROBES)
    arguments = parser.parse_args()
    # The report says itself that there is no GPU.
    start = choose_device if arguments.probe == "report" else start_tensorflow
    PROBES[arguments.probe](start(arguments.dry_run))


if __name__ == "__main__":
    main()
