"""The weights that a step of Keras was given beside the inputs.

Keras makes one tensor of ``fit``'s ``sample_weight`` and ``class_weight`` and of a third
element of the data, and gives it to the losses and metrics of ``compile`` alone. Where
``compile`` has no loss they would change nothing, in silence, and no argument shows them
to a layer: only the step that called the model holds them.
"""

from __future__ import annotations

import inspect
from typing import Any

import keras

# Where Keras's trainers for all of its backends are: steps of a user's own are not meant.
KERAS_PREFIX = "keras."
STEPS_WITH_WEIGHTS = ("train_step", "test_step")


def refuse_weights_without_a_loss(layer_name: str) -> None:
    """Raises where the model that called the layer is about to ignore its weights.

    Runs while Keras traces a step. Weights change the structure of the data, and with it
    Keras traces anew, so that no step with weights goes past this unseen.
    """
    step = _calling_step()
    if step is None or step.get("sample_weight") is None:
        return
    model = step["self"]
    if model.loss is None and type(model).compute_loss is keras.Model.compute_loss:
        raise ValueError(
            "class_weight and sample_weight of fit and evaluate (or a third element of "
            f"the data) reach only losses given to compile, got weights for {layer_name}, "
            "which adds its loss itself; leave them out and give a weight for each pair as "
            "the layer's input sample_weight"
        )


def _calling_step() -> dict[str, Any] | None:
    """The variables of the step of Keras that is running, if one is."""
    frame = inspect.currentframe()
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if frame.f_code.co_name in STEPS_WITH_WEIGHTS and module.startswith(KERAS_PREFIX):
            return frame.f_locals
        frame = frame.f_back
    return None
