"""A two-tower retrieval model in plain Keras, and the comparison that the examples run.

The same towers are trained from the same start with one loss after another, for the same
number of steps, and judged by how high the right document ranks among all held-out ones.
"""

from __future__ import annotations

import examples.quiet_tensorflow  # noqa: F401 (before TensorFlow)

# isort: split
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray
from tqdm.keras import TqdmCallback

from examples import loss_costs
from examples.losses import Batch, LossFunction

Array = NDArray[Any]
MakeTowers = Callable[[int], tuple[Any, Any]]  # the embeddings' size -> both towers

RECALLS = (1, 10, 100)
MEASURES = (*(f"recall@{k}" for k in RECALLS), "mrr")


@dataclass(frozen=True)
class Retrieval:
    """Training pairs, and held-out queries with the documents that they may find.

    ``answers[i]`` is the row of ``docs`` that ``queries[i]`` looks for. ``known[i]`` are
    the rows that do not count as found, for one they were learned as its answers: int32
    ``[len(queries), most]``, filled up with the answer itself.
    """

    pairs: dict[str, Array]
    queries: Array
    docs: Array
    answers: Array
    known: Array | None = None


@dataclass(frozen=True)
class Settings:
    """How long to train, from which starts, and how much memory a loss may take."""

    batch_size: int = 1024
    epochs: int = 10
    dim: int = 128
    learning_rate: float = 2e-3
    seeds: Sequence[int] = (0,)
    memory_limit: float = 1000.0  # MB


class TwoTower(keras.Model):
    """Two towers and a loss of their outputs."""

    def __init__(self, query_tower: Any, doc_tower: Any, loss: LossFunction) -> None:
        super().__init__()
        self.query_tower = query_tower
        self.doc_tower = doc_tower
        self.loss_function = loss

    def call(self, inputs: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """The embeddings of the batch's queries and documents."""
        return self.query_tower(inputs["query"]), self.doc_tower(inputs["doc"])

    def compute_loss(
        self,
        x: Batch,
        y: Any,
        y_pred: Any,
        sample_weight: tf.Tensor | None = None,
        training: bool = True,
    ) -> tf.Tensor:
        """The loss of a batch; there are no labels, row i belongs to row i."""
        query, doc = y_pred
        return self.loss_function(query, doc, x, sample_weight)


def untrained(
    query: tf.Tensor, doc: tf.Tensor, batch: Batch, sample_weight: tf.Tensor | None
) -> tf.Tensor:
    """No loss at all: for a model that is judged as it starts."""
    return tf.zeros([])


def recall_and_mrr(model: TwoTower, data: Retrieval) -> dict[str, float]:
    """How the right document ranks among all that may be found, by cosine.

    ``negative_cosine.retrieval_ranks`` does this for a catalogue of any size. Here ties
    count half, so that a model which maps all to one point ranks in the middle.
    """
    query = model.query_tower.predict(data.queries, batch_size=1024, verbose=0)
    doc = model.doc_tower.predict(data.docs, batch_size=1024, verbose=0)
    query /= np.linalg.norm(query, axis=1, keepdims=True) + 1e-12
    doc /= np.linalg.norm(doc, axis=1, keepdims=True) + 1e-12
    cosine = query @ doc.T
    right = np.take_along_axis(cosine, data.answers[:, None], axis=1)
    if data.known is not None:
        np.put_along_axis(cosine, data.known, -np.inf, axis=1)
        np.put_along_axis(cosine, data.answers[:, None], right, axis=1)
    above = (cosine > right).sum(axis=1)
    ties = (cosine == right).sum(axis=1) - 1
    rank = above + ties / 2
    recalls = {f"recall@{k}": float(np.mean(rank < k)) for k in RECALLS}
    return {**recalls, "mrr": float(np.mean(1 / (rank + 1)))}


class HeldOutCurve(keras.callbacks.Callback):
    """Judges the model on the held-out queries after each epoch."""

    def __init__(self, data: Retrieval) -> None:
        super().__init__()
        self.data = data
        self.points: list[dict[str, float]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds a point to the curve."""
        scores = recall_and_mrr(self.model, self.data)
        loss = float((logs or {}).get("loss", float("nan")))
        self.points.append({"epoch": epoch + 1, "loss": loss, **scores})


def start_of(data: Retrieval, make_towers: MakeTowers, dim: int, seed: int) -> TwoTower:
    """The model that all losses of a seed start from."""
    keras.utils.set_random_seed(seed)
    return TwoTower(*make_towers(dim), untrained)


def batches_of(data: Retrieval, batch_size: int, seed: int) -> tf.data.Dataset:
    """The training pairs in an order that is another one in each epoch."""
    return (
        tf.data.Dataset.from_tensor_slices(data.pairs)
        .shuffle(len(data.pairs["query"]), seed=seed)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def train(
    data: Retrieval,
    make_towers: MakeTowers,
    settings: Settings,
    loss: LossFunction,
    seed: int,
    title: str,
) -> list[dict[str, float]]:
    """The held-out scores after each epoch."""
    model = start_of(data, make_towers, settings.dim, seed)
    model.loss_function = loss
    model.compile(keras.optimizers.Adam(settings.learning_rate), jit_compile=False)
    curve = HeldOutCurve(data)
    progress = TqdmCallback(verbose=0, desc=title, leave=True)
    batches = batches_of(data, settings.batch_size, seed)
    model.fit(
        batches,
        epochs=settings.epochs,
        shuffle=False,  # the batches are
        verbose=0,
        callbacks=[curve, progress],
    )
    return curve.points


def compare(
    data: Retrieval,
    make_towers: MakeTowers,
    settings: Settings,
    losses: Mapping[str, LossFunction],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trains with each loss from the same starts.

    Returns:
        A row for each loss and seed: its scores, and what it costs. And the curves, a row
        for each epoch of those.
    """
    tf.get_logger().setLevel("ERROR")  # new models' new functions look like retracing
    batch = next(iter(batches_of(data, settings.batch_size, 0)))
    costs = loss_costs.measure(losses, batch, settings.dim, settings.memory_limit)
    steps = settings.epochs * (len(data.pairs["query"]) // settings.batch_size)
    scores: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for seed in settings.seeds:
        start = recall_and_mrr(start_of(data, make_towers, settings.dim, seed), data)
        scores.append({"model": "untrained", "seed": seed, **start})
        for name, loss in losses.items():
            row: dict[str, Any] = {"model": name, "seed": seed, **costs[name]}
            if row["loss_mb"] > settings.memory_limit:
                scores.append(row)
                continue
            began = time.perf_counter()
            points = train(data, make_towers, settings, loss, seed, f"{name}, seed {seed}")
            row["fit_s"] = time.perf_counter() - began
            row |= {"steps": steps, "loss_s": row["loss_ms"] * steps / 1e3}
            scores.append(row | {measure: points[-1][measure] for measure in MEASURES})
            points = [{"epoch": 0, **start}, *points]
            curves += [{"model": name, "seed": seed, **point} for point in points]
    return pd.DataFrame(scores), pd.DataFrame(curves)
