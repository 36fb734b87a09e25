"""The ways to compute the loss that are compared, as steps of TensorFlow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss

from benchmarks.baselines import article_loss, in_batch_softmax_loss, vectorised_loss
from benchmarks.gpu_model import Size

# The loss, and beside it both gradients in a training step.
Outputs = tuple[tf.Tensor, ...]
Step = Callable[[], Outputs]


def fused_loss(query: tf.Tensor, doc: tf.Tensor, num_negatives: int) -> tf.Tensor:
    """This package's loss, seed and sampling included."""
    return fused_negative_cosine_loss(query, doc, num_negatives, implementation="native")


def reference_loss(query: tf.Tensor, doc: tf.Tensor, num_negatives: int) -> tf.Tensor:
    """This package's reference."""
    return fused_negative_cosine_loss(query, doc, num_negatives, implementation="reference")


# Name -> the loss, and whether XLA compiles it.
WAYS = {
    "fused": (fused_loss, False),
    "article's code, right axis": (article_loss, False),
    "article's code, right axis, XLA": (article_loss, True),
    "vectorised TensorFlow": (vectorised_loss, False),
    "vectorised TensorFlow, XLA": (vectorised_loss, True),
    "full in-batch softmax": (in_batch_softmax_loss, False),
    "reference": (reference_loss, False),
}


def random_rows(size: Size, seed: int) -> tf.Tensor:
    """An input that stays where it is."""
    shape = (size.batch_size, size.dim)
    return tf.constant(np.random.default_rng(seed).normal(size=shape), size.dtype)


def make_step(way: str, training: bool, size: Size, device: str = "cpu") -> Step:
    """The loss alone, or the loss and both gradients as a tower takes them: dense."""
    loss_function, jit = WAYS[way]
    with tf.device(f"/{device}:0"):
        query, doc = random_rows(size, 0), random_rows(size, 1)

    def step(query: tf.Tensor, doc: tf.Tensor) -> Outputs:
        if not training:
            return (loss_function(query, doc, size.num_negatives),)
        with tf.GradientTape() as tape:
            tape.watch([query, doc])
            loss = loss_function(query, doc, size.num_negatives)
        gradients = tape.gradient(loss, [query, doc])
        return (loss, *map(tf.convert_to_tensor, gradients))

    @tf.function(jit_compile=jit, autograph=False)
    def step_on_device(query: tf.Tensor, doc: tf.Tensor) -> Outputs:
        with tf.device(f"/{device}:0"):  # what is traced knows no scope outside
            return step(query, doc)

    return lambda: step_on_device(query, doc)


def wait_for(outputs: Outputs) -> None:
    """Waits for all of a step: brings its loss and a number of each gradient to the host.

    On the CPU a step has run when it returns, and the loss alone is read.
    """
    loss, *gradients = outputs
    loss.numpy()
    for gradient in gradients:
        if "GPU" in gradient.device:
            gradient[0, 0].numpy()
