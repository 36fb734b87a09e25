"""Where the layers cannot run they say so, and the function goes on working."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import negative_cosine
import pytest
import tensorflow as tf
from negative_cosine import NegativeCosineLoss

# How to make each layer of the package.
LAYERS = {
    "NegativeCosineLoss": (3,),
    "NegativeCosineLayer": (3,),
    "DocumentQueue": (4,),
    "DocumentFrequency": (10,),
}
LEGACY = {"TF_USE_LEGACY_KERAS": "1"}


def run(code: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in a process of its own, where Keras is imported anew."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables},
        cwd=folder,
        capture_output=True,
        text=True,
    )


def succeed(code: str, folder: Path, **variables: str) -> str:
    result = run(code, folder, **variables)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_layer_of_the_package_is_listed_here() -> None:
    found = {
        name
        for name in negative_cosine.__all__
        if isinstance(value := getattr(negative_cosine, name), type)
        and issubclass(value, keras.layers.Layer)
    }
    assert found == set(LAYERS)


def make(name: str) -> Any:
    return getattr(negative_cosine, name)(*LAYERS[name])


# --- Keras 2 ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("value", ["1", "true", "True"])
def test_where_tf_keras_is_keras_2_no_layer_is_made(
    value: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", value)
    with pytest.raises(RuntimeError) as caught:
        make(name)
    message = str(caught.value)
    assert message.startswith(f"{name} is a layer of Keras 3")
    assert f"TF_USE_LEGACY_KERAS={value}" in message
    assert "unset it" in message
    assert "fused_negative_cosine_loss" in message
    assert "compute_loss" in message


@pytest.mark.parametrize("value", ["0", "false", ""])
def test_a_variable_that_tensorflow_takes_for_keras_3_changes_nothing(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", value)
    NegativeCosineLoss(10)


def test_where_tf_keras_is_keras_2_the_package_and_the_function_work(
    tmp_path: Path,
) -> None:
    code = """
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss
print(float(fused_negative_cosine_loss(tf.eye(4), 2 * tf.eye(4), 2)))
"""
    assert float(succeed(code, tmp_path, **LEGACY)) > 0


needs_tf_keras = pytest.mark.skipif(
    importlib.util.find_spec("tf_keras") is None,
    reason="tf_keras, Keras 2 for today's TensorFlow, is not installed",
)

TF_KERAS_MODEL = """
import numpy as np
import tensorflow as tf
import tf_keras
from negative_cosine import *

class TwoTower(tf_keras.Model):
    def __init__(self):
        super().__init__()
        self.query_tower, self.doc_tower = (tf_keras.layers.Dense(8) for _ in range(2))

    def call(self, inputs):
        return self.query_tower(inputs["query"]), self.doc_tower(inputs["doc"])

tf.random.set_seed(0)
query = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
pairs = {"query": query, "doc": query[:, ::-1].copy()}
"""

FUNCTION_IN_TF_KERAS = (
    TF_KERAS_MODEL
    + """
assert tf.keras.Model is tf_keras.Model

# As tensorflow_recommenders.Model does it.
class Trains(TwoTower):
    def compute_loss(self, inputs, training=False):
        return fused_negative_cosine_loss(*self(inputs, training=training), 5)

    def train_step(self, inputs):
        with tf.GradientTape() as tape:
            loss = self.compute_loss(inputs, training=True)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        return {"loss": loss}

model = Trains()
model.compile(tf_keras.optimizers.Adam(0.03))
dataset = tf.data.Dataset.from_tensor_slices(pairs).batch(16)
losses = model.fit(dataset, epochs=8, verbose=0).history["loss"]
assert losses[-1] < 0.5 * losses[0], losses
"""
)


@needs_tf_keras
def test_in_a_model_of_keras_2_the_function_trains(tmp_path: Path) -> None:
    succeed(FUNCTION_IN_TF_KERAS, tmp_path, **LEGACY)


# Without the variable: tf_keras was imported by its name.
FUNCTIONAL = """
import tf_keras
from negative_cosine import *

query, doc = tf_keras.Input([8]), tf_keras.Input([8])
ids = tf_keras.Input([], dtype="int64")
"""
SUBCLASSED = """
class WithLayer(TwoTower):
    def __init__(self):
        super().__init__()
        self.loss_layer = NegativeCosineLoss(10)
        self.queue = DocumentQueue(4)
        self.frequency = DocumentFrequency(10)

    def call(self, inputs):
        query, doc = super().call(inputs)
        ids = tf.range(tf.shape(query)[0])
        return {call}

model = WithLayer()
model.compile("adam", loss="mse")
model.fit(pairs, query, verbose=0)
"""


def refused_in_tf_keras(name: str, code: str, folder: Path) -> None:
    result = run(code, folder)
    assert result.returncode != 0
    assert f"{name} is a layer of Keras 3, got a" in result.stderr
    assert "fused_negative_cosine_loss" in result.stderr


@needs_tf_keras
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("NegativeCosineLoss", "NegativeCosineLoss(10)([query, doc])"),
        ("NegativeCosineLayer", "NegativeCosineLayer(3)([query, doc])"),
        ("DocumentQueue", "DocumentQueue(4)(doc)"),
        ("DocumentFrequency", "DocumentFrequency(10)(ids)"),
    ],
)
def test_in_a_functional_model_of_keras_2_a_layer_is_refused(
    name: str, call: str, tmp_path: Path
) -> None:
    refused_in_tf_keras(name, FUNCTIONAL + call, tmp_path)


@needs_tf_keras
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("NegativeCosineLoss", "self.loss_layer([query, doc])[0]"),
        ("DocumentQueue", 'query + tf.reduce_sum(self.queue(doc)["doc"])'),
        ("DocumentFrequency", "query + tf.reduce_sum(self.frequency(ids))"),
    ],
)
def test_in_training_a_model_of_keras_2_a_layer_is_refused(
    name: str, call: str, tmp_path: Path
) -> None:
    refused_in_tf_keras(name, TF_KERAS_MODEL + SUBCLASSED.replace("{call}", call), tmp_path)


# --- Other backends ---------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_on_another_backend_no_layer_is_made(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError) as caught:
        make(name)
    message = str(caught.value)
    assert message.startswith(f"{name} runs on Keras's TensorFlow backend, got jax")
    assert "KERAS_BACKEND=tensorflow" in message
    assert "fused_negative_cosine_loss" in message


ON_ANOTHER_BACKEND = """
import negative_cosine, tensorflow as tf
print(float(negative_cosine.fused_negative_cosine_loss(tf.eye(4), 2 * tf.eye(4), 2)))
negative_cosine.NegativeCosineLoss(3)
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_on_a_backend_that_is_installed_the_function_alone_works(
    backend: str, tmp_path: Path
) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    result = run(ON_ANOTHER_BACKEND, tmp_path, KERAS_BACKEND=backend)
    assert float(result.stdout) > 0
    assert f"Keras's TensorFlow backend, got {backend}" in result.stderr


def without(module: str) -> str:
    """A process that cannot import it."""
    return f"import sys; sys.modules[{module!r}] = None; import negative_cosine"


@pytest.mark.parametrize("backend", ["jax", "torch", "openvino"])
def test_a_backend_that_is_missing_is_named_with_what_to_set(
    backend: str, tmp_path: Path
) -> None:
    result = run(without(backend), tmp_path, KERAS_BACKEND=backend)
    assert result.returncode != 0
    *_, message = result.stderr.strip().splitlines()
    assert message.startswith("ImportError: negative_cosine could not import Keras with")
    assert f"KERAS_BACKEND={backend}" in message
    assert "KERAS_BACKEND=tensorflow" in message


def test_a_backend_of_the_configuration_file_is_named_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    result = run(without("jax"), tmp_path, KERAS_HOME=str(tmp_path))
    *_, message = result.stderr.strip().splitlines()
    assert message.startswith("ImportError: negative_cosine could not import Keras with")
    assert "keras.json" in message


def test_a_process_without_keras_says_that_it_is_missing(tmp_path: Path) -> None:
    result = run(without("keras"), tmp_path)
    assert result.returncode != 0
    *_, message = result.stderr.strip().splitlines()
    assert "keras" in message
    assert "KERAS_BACKEND" not in message


def test_on_the_tensorflow_backend_of_keras_3_nothing_is_refused() -> None:
    assert keras.backend.backend() == "tensorflow"
    assert float(NegativeCosineLoss(10)([tf.eye(4), tf.eye(4)])[0][0, 0]) == 1


@pytest.mark.parametrize("name", LAYERS)
def test_where_eager_execution_is_off_no_layer_is_made(name: str) -> None:
    with tf.Graph().as_default(), pytest.raises(RuntimeError) as caught:
        make(name)
    message = str(caught.value)
    assert message.startswith(f"{name} is a layer of Keras 3, which needs eager execution")
    assert "fused_negative_cosine_loss" in message
