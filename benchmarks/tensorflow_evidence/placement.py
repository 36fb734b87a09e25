"""The op where programs put it: any mix of devices, several steps at once, any batch size.

Judged by the op itself on the CPU in float64, on the same candidates.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss

from benchmarks.problem import Array
from benchmarks.steps import LeftOutError, part
from benchmarks.tensorflow_evidence.child import (
    kind_of,
    make_parser,
    require_close,
    require_device,
    start_tensorflow,
)

DIM, NEGATIVES = 128, 20
SEED = (3, 5)
TOLERANCE = 2e-5  # float32 from float64
STEPS_IN_FLIGHT = 50
NAMES = ("the loss", "the gradient of query", "the gradient of doc")

HOST = "CPU:0"

Results = tuple[tf.Tensor, ...]
OnDevice = Callable[[tf.Tensor, tf.Tensor], Results]


def random_rows(batch_size: int, seed: int = 0) -> tuple[Array, Array]:
    """Queries and documents."""
    numbers = np.random.default_rng(seed).normal(size=(2, batch_size, DIM))
    query, doc = numbers.astype(np.float32)
    return query, doc


def step(query: tf.Tensor, doc: tf.Tensor, **options: Any) -> Results:
    """The loss and both gradients, by the op alone."""
    with tf.GradientTape() as tape:
        tape.watch([query, doc])
        loss = fused_negative_cosine_loss(
            query, doc, NEGATIVES, seed=SEED, implementation="native", **options
        )
    return (loss, *tape.gradient(loss, [query, doc]))


def step_in(device: str, query: tf.Tensor, doc: tf.Tensor, **options: Any) -> Results:
    """The same in a scope of its own: what is traced knows no scope outside."""
    with tf.device(device):
        return step(query, doc, **options)


def traced(device: str, compiled: bool = False, **options: Any) -> Any:
    """The step as a function of any batch size."""
    rows = tf.TensorSpec([None, DIM], tf.float32)
    return tf.function(
        functools.partial(step_in, device, **options),
        input_signature=[rows, rows],
        jit_compile=compiled,
        autograph=False,
    )


def on(device: str, *arrays: Array) -> list[tf.Tensor]:
    """Tensors in a device's memory."""
    with tf.device(device):
        return [tf.identity(tf.constant(array)) for array in arrays]


def expected(query: Array, doc: Array, **options: Any) -> list[Array]:
    """The CPU's results in float64."""
    exact = on(HOST, query.astype(np.float64), doc.astype(np.float64))
    return [result.numpy() for result in step_in(HOST, *exact, **options)]


def require_right(results: Results, query: Array, doc: Array, **options: Any) -> None:
    """Raises AssertionError unless these are the step's results on the rows."""
    right = expected(query, doc, **options)
    for name, mine, exact in zip(NAMES, results, right, strict=True):
        require_close(name, mine, exact, TOLERANCE)


def inputs_on_host(device: str, soft: bool) -> None:
    """The op on the device in a graph whose inputs are in the host's memory.

    Without soft placement TensorFlow refuses what the device has no kernel for.
    """
    query, doc = random_rows(512)
    tf.config.set_soft_device_placement(soft)
    try:
        results = traced(device)(*on(HOST, query, doc))
    finally:
        tf.config.set_soft_device_placement(True)
    require_right(results, query, doc)
    require_device("a result", results, device)


def cpu_and_device(device: str) -> None:
    """Scopes of both in one process, in turn."""
    query, doc = random_rows(512)
    for each in (HOST, device, HOST, device):
        results = step_in(each, *on(each, query, doc))
        require_right(results, query, doc)
        require_device("a result", results, each)


def unknown_batch_size(device: str) -> None:
    """A function that is traced once meets batches of several sizes."""
    function = traced(device)
    for batch_size in (512, 37, 1024, 21):
        query, doc = random_rows(batch_size)
        require_right(function(*on(device, query, doc)), query, doc)
    count = function.experimental_get_tracing_count()
    assert count == 1, f"it was traced {count} times"


def margin(device: str, compiled: bool | None) -> None:
    """The margin is a number in the host's memory, and the loss is not without it."""
    query, doc = random_rows(512)
    rows = on(device, query, doc)
    if compiled is None:
        results = step_in(device, *rows, margin=0.3)
    else:
        results = traced(device, compiled, margin=0.3)(*rows)
    require_right(results, query, doc, margin=0.3)
    assert abs(float(results[0]) - expected(query, doc)[0]) > 0.1


def steps_in_flight(device: str, function: OnDevice) -> None:
    """Steps on different inputs are begun before the first is done: each has its own."""
    inputs = [on(device, *random_rows(4096, seed)) for seed in range(2)]
    alone = [[result.numpy() for result in function(*rows)] for rows in inputs]
    begun = [function(*inputs[number % 2]) for number in range(STEPS_IN_FLIGHT)]
    for number, results in enumerate(begun):
        for name, mine, right in zip(NAMES, results, alone[number % 2], strict=True):
            same = np.array_equal(mine.numpy(), right)
            assert same, f"{name} of step {number} in flight is not what it is alone"


def memory(device: str) -> None:
    """Steps leave no memory behind. What is let go late is not yet free: one step's."""
    if kind_of(device) == "cpu":
        raise LeftOutError("TensorFlow counts the memory of a GPU alone")
    query, doc = on(device, *random_rows(4096))
    function = traced(device)
    held: list[int] = []
    for _ in range(2):
        for _ in range(STEPS_IN_FLIGHT):
            results = function(query, doc)
        results[0].numpy()
        held.append(tf.config.experimental.get_memory_info(device)["current"])
    growth, results_of_one = held[1] - held[0], 2 * query.numpy().nbytes
    assert growth <= results_of_one, f"{growth} bytes more after {STEPS_IN_FLIGHT} steps"


def main() -> None:
    """Each way to place the op, each a part."""
    parser = make_parser(__doc__)
    parser.add_argument("--without-xla", action="store_true")
    arguments = parser.parse_args()
    device = start_tensorflow(arguments.dry_run)
    tf.config.experimental.enable_tensor_float_32_execution(False)
    ways: dict[str, Callable[[], None]] = {
        "inputs on the host": lambda: inputs_on_host(device, True),
        "inputs on the host, no soft placement": lambda: inputs_on_host(device, False),
        "CPU and device in one process": lambda: cpu_and_device(device),
        "unknown batch size": lambda: unknown_batch_size(device),
        "margin, eager": lambda: margin(device, None),
        "margin, in a graph": lambda: margin(device, False),
        "steps in flight, eager": lambda: steps_in_flight(
            device, functools.partial(step_in, device)
        ),
        "steps in flight, in a graph": lambda: steps_in_flight(device, traced(device)),
        "memory": lambda: memory(device),
        "margin, XLA": lambda: margin(device, True),
        "steps in flight, XLA": lambda: steps_in_flight(device, traced(device, True)),
    }
    for name, check in ways.items():
        with part(name):
            if "XLA" in name and arguments.without_xla:
                raise LeftOutError("XLA does not run here")
            check()


if __name__ == "__main__":
    main()
