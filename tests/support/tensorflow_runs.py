"""Ways to run the loss through TensorFlow: eagerly, in a graph, compiled by XLA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss

from tests.support.cases import Array, Batch


def run_loss(
    batch: Batch,
    source: str,
    options: dict[str, Any],
    implementation: str,
    mode: str = "eager",
) -> dict[str, Array]:
    """Loss, statistics and gradients through TensorFlow, as arrays by name."""
    sources: dict[str, Any] = {
        "indices": {"negative_indices": batch.indices},
        "all": {"sampler": "all"},
    }
    candidates = sources.get(
        source, {"num_negatives": batch.k, "sampler": source, "seed": batch.seed}
    )
    real = tf.float64 if batch.dtype == "float64" else tf.float32
    fixed = dict(options)
    watched = {
        "query": tf.constant(batch.query),
        "doc": tf.constant(batch.doc),
        "scale": tf.constant(fixed.pop("scale", 20.0), real),
        "temperature": tf.constant(fixed.pop("temperature", 1.0), real),
    }
    if "sample_weight" in fixed:
        watched["sample_weight"] = tf.constant(fixed.pop("sample_weight"))

    def step(watched: dict[str, Any]) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(watched)
            loss, stats = fused_negative_cosine_loss(
                **watched,
                **candidates,
                **fixed,
                return_stats=True,
                implementation=implementation,
            )
        return loss, stats._asdict(), tape.gradient(loss, watched)

    loss, stats, gradients = in_mode(mode, step, watched)
    results = {"loss": loss, **stats}
    results |= {f"{name}_gradient": value for name, value in gradients.items()}
    return {name: np.asarray(value) for name, value in results.items()}


def in_mode(mode: str, step: Callable[[Any], Any], watched: dict[str, Any]) -> Any:
    """Calls ``step`` eagerly, in a graph of unknown batch size, or compiled by XLA."""
    if mode == "eager":
        return step(watched)
    if mode == "xla":
        return tf.function(step, jit_compile=True, autograph=False)(watched)
    signature = {
        name: tf.TensorSpec(
            [None] * min(value.shape.rank, 1) + value.shape[1:], value.dtype
        )
        for name, value in watched.items()
    }
    return tf.function(step, input_signature=[signature], autograph=False)(watched)
