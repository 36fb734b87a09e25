"""The step, if one is running, that called a layer: its kind, and what it was given.

Keras tells a layer that it is trained, but not whether another call is an evaluation. Only
the call stack shows that.
"""

from __future__ import annotations

import inspect
from types import FrameType
from typing import Any

from negative_cosine._keras_environment import keras, refuse_keras_2
from negative_cosine._warnings import warn

# A model's methods, overridden or not, and functions of a loop of one's own.
STEPS = TRAIN_STEP, TEST_STEP, PREDICT_STEP = "train_step", "test_step", "predict_step"
# Keras's loops, in which only a step or a user's callback calls a model.
LOOPS = ("fit", "evaluate", "predict")
# How Keras builds a model and exports it. What calls these or a loop is no step, whatever
# its name.
NO_STEPS = ("export", "build", "_symbolic_build")
# AutoGraph runs a function of its own under this name in its place.
AUTOGRAPH_PREFIX = "tf__"


def is_training(training: bool | None) -> bool:
    """Whether a layer is trained.

    A model whose ``call`` takes no argument ``training`` tells its layers nothing.
    """
    return _running_step() == TRAIN_STEP if training is None else bool(training)


def is_step(training: bool | None) -> bool:
    """Whether a layer is trained or evaluated, and not just called for its outputs.

    An explicit False within a ``train_step`` is inference: of a teacher, say, or to mine.
    """
    step = _running_step()
    return bool(training) or step == TEST_STEP or (training is None and step == TRAIN_STEP)


def may_be_an_evaluation() -> bool:
    """Whether a user's own code called, and not Keras to infer, to build or to export."""
    frame = _innermost_step_or_loop()
    return frame is None or _name(frame) in (*LOOPS, TRAIN_STEP)


def refuse_weights_without_a_loss(layer_name: str) -> None:
    """Raises where the model that called the layer is about to ignore its weights.

    Keras makes one tensor of ``fit``'s ``sample_weight`` and ``class_weight`` and of a
    third element of the data, and gives it to the losses and metrics of ``compile`` alone.
    Where ``compile`` has no loss they would silently change nothing. No argument passes
    them to a layer: only the step that called the model holds them.

    Runs while Keras traces a step. Weights change the structure of the data, so that Keras
    traces again and every step with weights is checked.
    """
    frame = _innermost_step()
    if frame is None or not _is_of("keras", frame):  # a step of a user's own is not meant
        return
    step = frame.f_locals
    if step.get("sample_weight") is None:
        return
    model = step["self"]
    if model.loss is None and type(model).compute_loss is keras.Model.compute_loss:
        raise ValueError(
            "class_weight and sample_weight of fit and evaluate (or a third element of "
            f"the data) reach only losses given to compile, got weights for {layer_name}, "
            "which adds its loss itself; remove them and give a weight for each pair as "
            "the layer's input sample_weight"
        )


def warn_of_equal_metric_names(layer: Any) -> None:
    """Warns where two layers' metrics have the same names: Keras reports one of them."""
    frame = _innermost_step()
    model = None if frame is None else frame.f_locals.get("self")
    if not isinstance(model, keras.Model):
        return
    equal = [
        other
        for other in model._flatten_layers()
        if type(other) is type(layer) and other.metric_prefix == layer.metric_prefix
    ]
    if len(equal) > 1 and equal[0] is layer:  # one warning for all of them
        names = ", ".join(repr(other.name) for other in equal)
        warn(
            f"the metrics of the layers {names} have the same names, and Keras reports "
            "only one metric of a name; give each layer its own metric_prefix, got "
            f"metric_prefix={layer.metric_prefix!r}",
            UserWarning,
        )


def refuse_step_of_keras_2(layer: str) -> None:
    """Raises where the step is tf_keras's, which would not see what a layer here adds."""
    frame = _innermost_step()
    if frame is not None and _is_of("tf_keras", frame):
        refuse_keras_2(layer, "a training step of tf_keras; make the model with keras")


def _running_step() -> str | None:
    frame = _innermost_step()
    return None if frame is None else _name(frame)


def _innermost_step() -> FrameType | None:
    frame = _innermost_step_or_loop()
    return frame if frame is not None and _name(frame) in STEPS else None


def _innermost_step_or_loop() -> FrameType | None:
    frame = inspect.currentframe()
    while frame is not None:
        if _name(frame) in STEPS or _is_no_step(frame):
            return frame
        frame = frame.f_back
    return None


def _is_no_step(frame: FrameType) -> bool:
    if _is_of("tensorflow.python.saved_model", frame):
        return True
    return _name(frame) in (*LOOPS, *NO_STEPS) and _is_of("keras", frame)


def _name(frame: FrameType) -> str:
    return frame.f_code.co_name.removeprefix(AUTOGRAPH_PREFIX)


def _is_of(package: str, frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(package + ".")
