"""Where the Keras layers can run: in Keras 3, on its TensorFlow backend.

Every module that needs Keras takes it from here, so that an import that fails says why.
"""

from __future__ import annotations

import os
from typing import Any

import tensorflow as tf

__all__ = ["check_environment", "keras", "refuse_keras_2", "refuse_tensors_of_keras_2"]

_BACKEND = "KERAS_BACKEND"
_LEGACY = "TF_USE_LEGACY_KERAS"
# What TensorFlow takes for true.
_TRUE = ("true", "True", "1")
_USE_THE_FUNCTION = (
    "call negative_cosine.fused_negative_cosine_loss in the model's own train_step or "
    "compute_loss"
)

try:
    import keras
except ImportError as error:
    if error.name == "keras" or os.environ.get(_BACKEND) == "tensorflow":
        raise
    _backend = f"{_BACKEND}={os.environ.get(_BACKEND, '(unset: keras.json decides)')}"
    raise ImportError(
        f"negative_cosine could not import Keras with {_backend}: {error}. Set "
        f"{_BACKEND}=tensorflow: the layers of negative_cosine need that backend"
    ) from error


def check_environment(layer: str) -> None:
    """Raises where a layer of this package cannot be part of a model."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise RuntimeError(
            f"{layer} runs on Keras's TensorFlow backend, got {backend}; set "
            f"{_BACKEND}=tensorflow before Keras is imported, or {_USE_THE_FUNCTION}, "
            "which takes and returns TensorFlow tensors"
        )
    if not tf.compat.v1.executing_eagerly_outside_functions():
        raise RuntimeError(
            f"{layer} is a layer of Keras 3, which needs eager execution, got a "
            f"TensorFlow 1 program or graph; {_USE_THE_FUNCTION}"
        )
    legacy = os.environ.get(_LEGACY)
    if legacy in _TRUE:
        setting = f"{_LEGACY}={legacy}, with which tf.keras is Keras 2"
        refuse_keras_2(layer, f"{setting}; unset it")


def refuse_keras_2(layer: str, what: str) -> None:
    """Raises: Keras 2 does not train or save what is in a layer of Keras 3."""
    raise RuntimeError(
        f"{layer} is a layer of Keras 3, got {what}, or {_USE_THE_FUNCTION} (TensorFlow "
        "Recommenders has one)"
    )


def refuse_tensors_of_keras_2(layer: str, inputs: Any) -> None:
    """Raises where a functional model of tf_keras is about to get a layer of Keras 3."""
    for tensor in tf.nest.flatten(inputs):
        if type(tensor).__module__.startswith("tf_keras."):
            refuse_keras_2(layer, "a tensor of tf_keras; make the model with keras")
