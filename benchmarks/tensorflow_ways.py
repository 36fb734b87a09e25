"""Steps of TensorFlow: this package's losses, and what people write today."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss

from benchmarks import baselines
from benchmarks.problem import Array, Candidates, Problem, Step
from benchmarks.ways import Way

Outputs = tuple[tf.Tensor, ...]
Loss = Callable[..., tf.Tensor]  # of query, doc, num_negatives and candidates


def package_loss(
    query: tf.Tensor,
    doc: tf.Tensor,
    num_negatives: int,
    candidates: Candidates | None,
    *,
    sampler: str = "shuffle",
    implementation: str = "native",
) -> tf.Tensor:
    """This package's loss, seed and sampling included."""
    return fused_negative_cosine_loss(
        query,
        doc,
        None if sampler == "all" else num_negatives,
        sampler=sampler,
        seed=candidates.seed if candidates else None,
        implementation=implementation,
    )


def baseline(loss: Callable[..., tf.Tensor]) -> Loss:
    """A loss of benchmarks/baselines.py."""
    return lambda query, doc, num_negatives, candidates: loss(
        query, doc, num_negatives, candidates.table if candidates else None
    )


LOSSES: dict[str, Loss] = {
    "fused": package_loss,
    "fused-ring": functools.partial(package_loss, sampler="ring"),
    "fused-all": functools.partial(package_loss, sampler="all"),
    "reference": functools.partial(package_loss, implementation="reference"),
    "article": baseline(baselines.article_loss),
    "vectorised": baseline(baselines.vectorised_loss),
    "in-batch": baseline(baselines.in_batch_softmax_loss),
}


def make_step(
    way: Way, training: bool, problem: Problem, device: str, threads: int
) -> Step:
    """A traced step on inputs that stay where they are.

    TensorFlow's threads are set for the whole process, before its first step.
    """
    del threads
    loss_function = functools.partial(
        LOSSES[way.loss],
        num_negatives=problem.num_negatives,
        candidates=problem.candidates,
    )
    with tf.device(f"/{device}:0"):
        query, doc = (
            tf.constant(rows, problem.dtype) for rows in (problem.query, problem.doc)
        )

    def step(query: tf.Tensor, doc: tf.Tensor) -> Outputs:
        if not training:
            return (loss_function(query, doc),)
        with tf.GradientTape() as tape:
            tape.watch([query, doc])
            loss = loss_function(query, doc)
        gradients = tape.gradient(loss, [query, doc])
        return (loss, *map(tf.convert_to_tensor, gradients))

    @tf.function(jit_compile=way.compiled, autograph=False)
    def step_on_device(query: tf.Tensor, doc: tf.Tensor) -> Outputs:
        with tf.device(f"/{device}:0"):  # what is traced knows no scope outside
            return step(query, doc)

    return Step(lambda: step_on_device(query, doc), wait_for, outputs)


def wait_for(tensors: Outputs) -> None:
    """Waits for all of a step: brings its loss and a number of each gradient to the host.

    On the CPU a step has run when it returns, and the loss alone is read.
    """
    loss, *gradients = tensors
    loss.numpy()
    for gradient in gradients:
        if "GPU" in gradient.device:
            gradient[0, 0].numpy()


def outputs(tensors: Outputs) -> list[Array]:
    """A step's results in NumPy."""
    return [tensor.numpy().astype(np.float64) for tensor in tensors]
