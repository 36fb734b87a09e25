"""``scale / temperature``, the factor of the cosines: two numbers, or tensors to train."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from negative_cosine._device import device_in_use
from negative_cosine._options import LIMITS, as_float, is_number, without_array
from negative_cosine._runtime_checks import Check, asserted, nan_unless_all_hold
from negative_cosine._tensors import describe, how_to_tell_the_rank, to_tensor

_TRAINED = (
    "training can push a value below 0: train its logarithm instead, as in temperature="
    "tf.exp(log_temperature), or use NegativeCosineLoss(learn_temperature=True)"
)


def check_logit_scale(scale: Any, temperature: Any, dtype: tf.DType) -> tf.Tensor | float:
    """``scale / temperature``, differentiable in those of the two that are tensors.

    For two numbers the quotient stays a number, which costs less than a tensor.
    """
    scale = _positive_scalar("scale", scale, dtype)
    temperature = _positive_scalar("temperature", temperature, dtype)
    quotient = scale / temperature
    if tf.is_tensor(quotient):
        return _checked_when_it_runs("scale / temperature", quotient)
    smallest, largest = LIMITS[dtype]
    if not smallest <= quotient <= largest:
        raise ValueError(
            f"scale / temperature must be above 0 and finite in {dtype.name}, got "
            f"{scale!r} / {temperature!r}"
        )
    return float(quotient)


def _positive_scalar(name: str, value: Any, dtype: tf.DType) -> Any:
    value = without_array(value)
    if is_number(value):
        number = as_float(value)
        if not (number > 0 and math.isfinite(number)):
            raise ValueError(f"{name} must be a finite number above 0, got {value!r}")
        return number
    tensor = to_tensor(name, value)
    if not tensor.dtype.is_floating or tensor.shape.rank != 0:
        raise ValueError(
            f"{name} must be a number above 0 or a floating-point scalar tensor, got "
            f"{describe(tensor)}{how_to_tell_the_rank(name, tensor, '[]')}"
        )
    return _checked_when_it_runs(name, tf.cast(tensor, dtype))


def _checked_when_it_runs(name: str, scalar: tf.Tensor) -> tf.Tensor:
    """The scalar; an error names it where it is not above 0 and finite.

    Where the number is on a device, and under XLA, it becomes NaN instead: a scale below 0
    would reverse the ranking with a loss that looks right.
    """
    smallest, largest = LIMITS[scalar.dtype]
    if tf.executing_eagerly() and _host_sees(scalar):
        value = float(scalar)
        if not smallest <= value <= largest:
            raise ValueError(
                f"{name} must be above 0 and finite in {scalar.dtype.name}, got "
                f"{value!r}; {_TRAINED}"
            )
        return scalar
    is_right = (scalar >= smallest) & (scalar <= largest)
    message = f"{name} must be above 0 and finite in {scalar.dtype.name}, got"
    checks = [Check(is_right, [message, scalar, _TRAINED])]
    with asserted(checks if _host_sees(scalar) else []):
        return nan_unless_all_hold(checks, scalar)


def _host_sees(scalar: tf.Tensor) -> bool:
    """Whether the host can look at a number without waiting for a device."""
    if scalar.device:
        return "CPU:" in scalar.device.upper()
    return device_in_use() == "CPU"
