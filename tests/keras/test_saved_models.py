"""Checkpoints go on to the same numbers; saved models load where they should."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import NegativeCosineLayer, fused_negative_cosine_loss

from tests.support.cases import Array
from tests.support.checkout import ROOT

# What a process without this package can do: TensorFlow is there, the package is not.
WITHOUT_PACKAGE = "import sys; sys.modules['negative_cosine'] = None\n"


@keras.saving.register_keras_serializable("tests")
class TwoTower(keras.Model):
    """Two linear towers; the loss draws its candidates by the optimizer's step."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.query_tower = keras.Sequential([keras.layers.Dense(4)])
        self.doc_tower = keras.Sequential([keras.layers.Dense(4)])

    def call(self, inputs: Any) -> Any:
        return self.query_tower(inputs["query"]), self.doc_tower(inputs["doc"])

    def compute_loss(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None, training: bool = True
    ) -> Any:
        step = keras.ops.cast(self.optimizer.iterations, "int32")
        query, doc = y_pred
        return fused_negative_cosine_loss(query, doc, 5, seed=keras.ops.stack([7, step]))


def pairs() -> dict[str, Array]:
    random = np.random.default_rng(0)
    return {name: random.normal(size=(32, 8)).astype("f") for name in ("query", "doc")}


def new_model() -> TwoTower:
    model = TwoTower()
    model(pairs())
    model.compile(keras.optimizers.Adam(0.01))
    model.optimizer.build(model.trainable_variables)
    return model


def train(model: TwoTower) -> list[float]:
    """The loss of each of eight steps."""
    losses: list[float] = []
    each_step = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: losses.append(logs["loss"])
    )
    model.fit(
        pairs(), batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[each_step]
    )
    return losses


def by_keras_file(model: TwoTower, folder: Path) -> Any:
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras")


def by_weights_file(model: TwoTower, folder: Path) -> TwoTower:
    model.save_weights(folder / "model.weights.h5")
    restored = new_model()
    restored.load_weights(folder / "model.weights.h5")
    return restored


def by_checkpoint(model: TwoTower, folder: Path) -> TwoTower:
    saved = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    path = saved.save(folder / "checkpoint")
    restored = new_model()
    status = tf.train.Checkpoint(model=restored, optimizer=restored.optimizer).restore(path)
    status.assert_existing_objects_matched()
    return restored


@pytest.mark.parametrize(
    "save_and_restore", [by_keras_file, by_weights_file, by_checkpoint]
)
def test_a_restored_model_goes_on_to_the_same_numbers(
    save_and_restore: Callable[[TwoTower, Path], Any], tmp_path: Path
) -> None:
    model = new_model()
    train(model)
    restored = save_and_restore(model, tmp_path)
    assert train(restored) == train(model)
    for found, expected in zip(restored.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_model_that_holds_the_layer_is_saved_with_it(tmp_path: Path) -> None:
    query, doc = keras.Input([8]), keras.Input([8])
    layer = NegativeCosineLayer(3, 0.5, normalize_over="candidates")
    model = keras.Model([query, doc], layer([query, doc]))
    model.save(tmp_path / "model.keras")
    (restored,) = (
        layer
        for layer in keras.saving.load_model(tmp_path / "model.keras").layers
        if isinstance(layer, NegativeCosineLayer)
    )
    assert (restored.NEG, restored.t) == (3, 0.5)
    assert restored.normalize_over == "candidates"


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True
    )


def test_exported_towers_run_where_this_package_cannot_be_imported(tmp_path: Path) -> None:
    model = new_model()
    train(model)
    model.query_tower.export(tmp_path / "tower", verbose=False)
    queries = pairs()["query"]
    np.save(tmp_path / "queries.npy", queries)
    serve = """
import numpy as np
import tensorflow as tf
tower = tf.saved_model.load("tower")
np.save("embeddings.npy", tower.serve(np.load("queries.npy")))
"""
    served = python(WITHOUT_PACKAGE + serve, tmp_path)
    assert served.returncode == 0, served.stderr
    expected = model.query_tower(queries)
    np.testing.assert_allclose(np.load(tmp_path / "embeddings.npy"), expected, rtol=1e-6)


class Loss(tf.Module):
    """The loss as a function that can be saved."""

    def __init__(self, implementation: str) -> None:
        super().__init__()
        self.implementation = implementation

    @tf.function(input_signature=[tf.TensorSpec([None, 8])] * 2)
    def __call__(self, query: tf.Tensor, doc: tf.Tensor) -> tf.Tensor:
        return fused_negative_cosine_loss(
            query, doc, 5, seed=(1, 2), implementation=self.implementation
        )


LOAD = """
import numpy as np
import tensorflow as tf
loss = tf.saved_model.load("loss")
pairs = np.load("pairs.npz")
query, doc = tf.constant(pairs["query"]), tf.constant(pairs["doc"])
with tf.GradientTape() as tape:
    tape.watch([query, doc])
    value = loss(query, doc)
by_query, by_doc = tape.gradient(value, [query, doc])
np.savez("results.npz", value=value, by_query=by_query, by_doc=by_doc)
"""


def save_loss(implementation: str, folder: Path) -> None:
    tf.saved_model.save(Loss(implementation), str(folder / "loss"))
    np.savez(folder / "pairs.npz", **pairs())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("implementation", "before"),
    [("native", "import negative_cosine\n"), ("reference", WITHOUT_PACKAGE)],
)
def test_a_saved_loss_gives_the_same_loss_and_gradients(
    implementation: str, before: str, tmp_path: Path
) -> None:
    save_loss(implementation, tmp_path)
    loaded = python(before + LOAD, tmp_path)
    assert loaded.returncode == 0, loaded.stderr
    results = np.load(tmp_path / "results.npz")
    query, doc = (tf.constant(pairs()[name]) for name in ("query", "doc"))
    with tf.GradientTape() as tape:
        tape.watch([query, doc])
        value = Loss(implementation)(query, doc)
    by_query, by_doc = tape.gradient(value, [query, doc])
    np.testing.assert_array_equal(results["value"], value)
    np.testing.assert_array_equal(results["by_query"], by_query)
    np.testing.assert_array_equal(results["by_doc"], by_doc)


def test_a_saved_native_loss_names_the_missing_op_as_the_document_says(
    tmp_path: Path,
) -> None:
    save_loss("native", tmp_path)
    loaded = python(WITHOUT_PACKAGE + LOAD, tmp_path)
    assert loaded.returncode != 0
    document = (ROOT / "docs" / "saved_models.md").read_text()
    (message,) = [line.strip() for line in document.splitlines() if "RuntimeError" in line]
    assert message.removesuffix("...") in loaded.stderr
