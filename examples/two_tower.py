"""A two-tower retrieval model in plain Keras, and the comparison that the examples run.

The same towers are trained from the same start with one loss after another, for the same
number of steps, and judged by how high the right document ranks among all held-out ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import matplotlib
import numpy as np
import pandas as pd
import tensorflow as tf
from negative_cosine import NegativeCosineLayer, fused_negative_cosine_loss
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tqdm.keras import TqdmCallback

Array = NDArray[Any]
Batch = Mapping[str, tf.Tensor]
# (query [B, D], doc [B, D], the batch's inputs, weights [B] or None) -> a scalar loss
LossFunction = Callable[[tf.Tensor, tf.Tensor, Batch, tf.Tensor | None], tf.Tensor]

SCALE = 20.0  # of the logits, as this package has by default

# The columns of the table of scores.
COLUMNS = (
    "model",
    "recall@1",
    "recall@10",
    "recall@100",
    "MRR",
    "steps",
    "loss, ms a step",
    "loss, s in all",
)


@dataclass(frozen=True)
class Retrieval:
    """Training pairs, and held-out queries with the documents that they may find.

    ``answers[i]`` is the row of ``docs`` that ``queries[i]`` looks for.
    """

    pairs: dict[str, Array]
    queries: Array
    docs: Array
    answers: Array


@dataclass(frozen=True)
class Settings:
    """How long and with how many negatives to train."""

    batch_size: int = 1024
    num_negatives: int = 50
    epochs: int = 10
    dim: int = 128
    seed: int = 0


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


def losses(
    settings: Settings, options: Callable[[Batch], dict[str, Any]]
) -> dict[str, LossFunction]:
    """The losses to compare; ``options`` picks arguments of this loss from a batch."""
    printed = NegativeCosineLayer(settings.num_negatives, 1.0)

    def fused(
        query: tf.Tensor, doc: tf.Tensor, batch: Batch, sample_weight: tf.Tensor | None
    ) -> tf.Tensor:
        return fused_negative_cosine_loss(
            query,
            doc,
            settings.num_negatives,
            sample_weight=sample_weight,
            **options(batch),
        )

    return {
        "article's printed loss": unweighted(lambda query, doc: printed([query, doc])[0]),
        f"this loss, shuffle, K={settings.num_negatives}": fused,
        "full in-batch softmax": unweighted(in_batch_softmax_loss),
    }


def in_batch_softmax_loss(query: tf.Tensor, doc: tf.Tensor) -> tf.Tensor:
    """Every other document of the batch is a negative: a ``[B, B]`` matrix product."""
    query = tf.math.l2_normalize(query, axis=1)
    doc = tf.math.l2_normalize(doc, axis=1)
    logits = tf.matmul(query, doc, transpose_b=True) * SCALE
    labels = tf.range(tf.shape(query)[0])
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    )


def unweighted(loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> LossFunction:
    """A loss that knows no weights, and says so where Keras hands it some."""

    def of_batch(
        query: tf.Tensor, doc: tf.Tensor, _: Batch, sample_weight: tf.Tensor | None
    ) -> tf.Tensor:
        if sample_weight is not None:
            raise ValueError(
                "this loss takes no sample_weight; leave it out, or train with the loss "
                "of this package"
            )
        return loss(query, doc)

    return of_batch


def recall_and_mrr(model: TwoTower, data: Retrieval) -> dict[str, float]:
    """How the right document ranks among all held-out ones, by cosine."""
    query = model.query_tower.predict(data.queries, batch_size=1024, verbose=0)
    doc = model.doc_tower.predict(data.docs, batch_size=1024, verbose=0)
    query /= np.linalg.norm(query, axis=1, keepdims=True) + 1e-12
    doc /= np.linalg.norm(doc, axis=1, keepdims=True) + 1e-12
    cosine = query @ doc.T
    right = np.take_along_axis(cosine, data.answers[:, None], axis=1)
    # Ties count half, so that a model which maps all to one point ranks in the middle.
    above = (cosine > right).sum(axis=1)
    ties = (cosine == right).sum(axis=1) - 1
    rank = above + ties / 2
    recalls = {f"recall@{k}": float(np.mean(rank < k)) for k in (1, 10, 100)}
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


def milliseconds_in_loss(loss: LossFunction, batch: Batch, dim: int) -> float:
    """The median time of the loss and its two gradients at the training's batch size."""
    rows = len(next(iter(batch.values())))
    query = tf.random.stateless_normal([rows, dim], seed=(1, 2))
    doc = tf.random.stateless_normal([rows, dim], seed=(3, 4))

    @tf.function(autograph=False)
    def step(query: tf.Tensor, doc: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([query, doc])
            value = loss(query, doc, batch, None)
        return value, tape.gradient(value, [query, doc])

    times = []
    for _ in range(25):
        start = time.perf_counter()
        step(query, doc)
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times[5:]))


def compare(
    data: Retrieval,
    make_towers: Callable[[int], tuple[Any, Any]],
    settings: Settings,
    options: Callable[[Batch], dict[str, Any]] = lambda batch: {},
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trains with each loss from the same start; returns scores and training curves."""
    tf.get_logger().setLevel("ERROR")  # new models' new functions look like retracing
    rows = len(data.pairs["query"])
    steps = rows // settings.batch_size
    keras.utils.set_random_seed(settings.seed)
    untrained = TwoTower(
        *make_towers(settings.dim), unweighted(lambda query, doc: query[0, 0])
    )
    start = recall_and_mrr(untrained, data)
    scores: list[dict[str, Any]] = [{"model": "untrained", **start, "steps": 0}]
    curves = []
    for name, loss in losses(settings, options).items():
        keras.utils.set_random_seed(settings.seed)
        model = TwoTower(*make_towers(settings.dim), loss)
        model.compile(keras.optimizers.Adam(2e-3), jit_compile=False)
        batches = (
            tf.data.Dataset.from_tensor_slices(data.pairs)
            .shuffle(rows, seed=settings.seed)
            .batch(settings.batch_size, drop_remainder=True)
            .prefetch(tf.data.AUTOTUNE)
        )
        curve = HeldOutCurve(data)
        progress = TqdmCallback(verbose=0, desc=name, leave=True)
        began = time.perf_counter()
        model.fit(batches, epochs=settings.epochs, verbose=0, callbacks=[curve, progress])
        elapsed = time.perf_counter() - began
        in_loss = milliseconds_in_loss(loss, next(iter(batches)), settings.dim)
        total = steps * settings.epochs
        scores.append(
            {
                "model": name,
                **{key: curve.points[-1][key] for key in start},
                "steps": total,
                "loss_ms": in_loss,
                "loss_s": in_loss * total / 1e3,
                "fit_s": elapsed,
            }
        )
        curves += [{"model": name, "epoch": 0, **start}]
        curves += [{"model": name, **point} for point in curve.points]
    return pd.DataFrame(scores), pd.DataFrame(curves)


def cells(row: Mapping[Any, Any]) -> list[str]:
    """A row of scores as the table shows it."""
    scores = [f"{row[key]:.3f}" for key in ("recall@1", "recall@10", "recall@100", "mrr")]
    times = [f"{row[key]:.2f}" if row["steps"] else "-" for key in ("loss_ms", "loss_s")]
    return [row["model"], *scores, str(row["steps"]), *times]


def plot(curves: pd.DataFrame, path: Path, title: str) -> None:
    """Draws held-out MRR and training loss over the epochs."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
    for name, curve in curves.groupby("model", sort=False):
        left.plot(curve["epoch"], curve["mrr"], marker="o", markersize=3, label=name)
        right.plot(curve["epoch"], curve["loss"], marker="o", markersize=3, label=name)
    left.set(xlabel="epoch", ylabel="held-out MRR", title=title)
    right.set(xlabel="epoch", ylabel="training loss (of different losses)")
    left.legend()
    left.grid(alpha=0.3)
    right.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write(scores: pd.DataFrame, curves: pd.DataFrame, folder: Path, title: str) -> None:
    """Prints the table and writes scores.csv, curves.csv and curves.png."""
    folder.mkdir(parents=True, exist_ok=True)
    scores.to_csv(folder / "scores.csv", index=False, float_format="%.4f")
    curves.to_csv(folder / "curves.csv", index=False, float_format="%.4f")
    plot(curves, folder / "curves.png", title)
    table = Table(title=title)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "model" else "right")
    for record in scores.to_dict("records"):
        table.add_row(*cells(record))
    Console(width=120).print(table)
    print(f"Training curves: {folder / 'curves.png'}")
