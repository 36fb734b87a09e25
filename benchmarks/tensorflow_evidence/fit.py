"""Keras trains the README's models: two towers and the loss, in both styles.

The loss falls, is finite, and in the first step is the CPU's. Where matrix products do not
run (no cuBLAS) the towers are embeddings and elementwise products in place of Dense.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from negative_cosine import NegativeCosineLoss, fused_negative_cosine_loss

from benchmarks.problem import Array
from benchmarks.steps import part
from benchmarks.tensorflow_evidence.child import (
    kind_of,
    make_parser,
    require_close,
    require_device,
    start_tensorflow,
)

ROWS, BATCH, FEATURES, DIM, NEGATIVES = 512, 128, 32, 64, 20
SEED = (1, 2)
EPOCHS = 6
FALL = 0.9  # of the loss, from the first epoch to the last, at least
# The first loss relative to the CPU's: the towers round differently on the two.
TOLERANCE = {"float32": 1e-3, "mixed_float16": 2e-3, "mixed_bfloat16": 1e-2}

Tower = Callable[[], keras.layers.Layer]
Pairs = dict[str, Array]


class ElementwiseTower(keras.layers.Layer):
    """The embedding of a row's number, each element times a weight: no matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = keras.layers.Embedding(ROWS, DIM)

    def build(self, input_shape: Any) -> None:
        """Makes the weights."""
        self.embedding.build(input_shape)
        self.factor = self.add_weight(shape=(DIM,), initializer="ones")

    def call(self, numbers: Any) -> Any:
        """The scaled embeddings."""
        return self.embedding(numbers) * self.factor


def dense_tower() -> keras.layers.Layer:
    """The README's."""
    return keras.layers.Dense(DIM)


def rows_of_features() -> Pairs:
    """Pairs in which the document tells of its query."""
    random = np.random.default_rng(0)
    query = random.normal(size=(ROWS, FEATURES)).astype(np.float32)
    mix = random.normal(size=(FEATURES, FEATURES)).astype(np.float32)
    return {"query": query, "doc": query @ mix}


def numbers_of_rows() -> Pairs:
    """Pairs of the same number."""
    numbers = np.arange(ROWS, dtype=np.int32)
    return {"query": numbers, "doc": numbers}


class TwoTower(keras.Model):
    """The README's model that overrides ``compute_loss``."""

    def __init__(self, make_tower: Tower) -> None:
        super().__init__()
        self.query_tower, self.doc_tower = make_tower(), make_tower()

    def call(self, inputs: Any) -> Any:
        """Both embeddings."""
        return self.query_tower(inputs["query"]), self.doc_tower(inputs["doc"])

    def compute_loss(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The loss of the batch, never the reference's in its place."""
        query, doc = y_pred
        return fused_negative_cosine_loss(
            query, doc, NEGATIVES, seed=SEED, implementation="native"
        )


def with_compute_loss(make_tower: Tower, pairs: Pairs) -> keras.Model:
    """The model that overrides ``compute_loss``."""
    del pairs
    return TwoTower(make_tower)


def with_layer(make_tower: Tower, pairs: Pairs) -> keras.Model:
    """The README's model with the loss as a layer."""
    inputs = {
        name: keras.Input(rows.shape[1:], name=name, dtype=rows.dtype.name)
        for name, rows in pairs.items()
    }
    towers = {name: make_tower()(rows) for name, rows in inputs.items()}
    loss = NegativeCosineLoss(
        NEGATIVES, seed=SEED, learn_temperature=True, implementation="native"
    )
    return keras.Model(inputs, loss(towers))


STYLES = {"compute_loss": with_compute_loss, "layer": with_layer}


class FirstLoss(keras.callbacks.Callback):
    """Remembers the loss of the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Of the first step alone the mean so far is its own."""
        if not self.losses:
            self.losses.append(float(logs["loss"]))


def first_batch(pairs: Pairs) -> dict[str, tf.Tensor]:
    """The first batch that is trained on."""
    return {name: tf.constant(rows[:BATCH]) for name, rows in pairs.items()}


def first_loss_on_cpu(model: keras.Model, pairs: Pairs) -> float:
    """Of the first batch, with the candidates of the first step."""
    with tf.device("CPU:0"):
        query, doc = model(first_batch(pairs))
        loss = fused_negative_cosine_loss(
            query, doc, NEGATIVES, seed=SEED, implementation="native"
        )
    require_device("the CPU's loss", [loss], "cpu")
    return float(loss)


def fit(
    style: str, policy: str, compiled: bool, matmul: bool, device: str
) -> dict[str, Any]:
    """Trains one model, and raises AssertionError where it does not do as it should."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    pairs = rows_of_features() if matmul else numbers_of_rows()
    model = STYLES[style](dense_tower if matmul else ElementwiseTower, pairs)
    model(first_batch(pairs))  # makes the weights, where they are to be
    model.compile(keras.optimizers.Adam(0.01), jit_compile=compiled)
    on_cpu = first_loss_on_cpu(model, pairs)
    first = FirstLoss()
    options = {"batch_size": BATCH, "epochs": EPOCHS, "shuffle": False, "verbose": 0}
    losses = model.fit(pairs, callbacks=[first], **options).history["loss"]
    assert np.isfinite(losses).all(), losses
    require_close("the first step's loss", first.losses[0], on_cpu, TOLERANCE[policy])
    assert losses[-1] < FALL * losses[0], f"the loss did not fall: {losses}"
    weights = [tf.convert_to_tensor(weight.value) for weight in model.trainable_weights]
    require_device("a weight", weights, device)
    return {"first_loss": first.losses[0], "first_loss_on_cpu": on_cpu, "losses": losses}


def main() -> None:
    """Every style and policy, each a part."""
    parser = make_parser(__doc__)
    parser.add_argument("--compiled", action="store_true", help="by XLA")
    parser.add_argument("--without-matmul", action="store_true")
    arguments = parser.parse_args()
    device = kind_of(start_tensorflow(arguments.dry_run))
    tf.config.experimental.enable_tensor_float_32_execution(False)
    matmul = not arguments.without_matmul
    towers = "Dense" if matmul else "embeddings and elementwise products"
    policies = list(TOLERANCE)[: 1 if arguments.dry_run else None]
    for policy, style in itertools.product(policies, STYLES):
        with part(f"{style}, {policy}") as facts:
            facts["towers"] = towers
            facts |= fit(style, policy, arguments.compiled, matmul, device)


if __name__ == "__main__":
    main()
