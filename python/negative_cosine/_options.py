"""Options: arguments whose values are fixed when a graph is built.

Each check takes Python's and NumPy's values alike and returns Python's.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from negative_cosine._tensors import is_tensor, to_tensor

NORMALIZE_OVER = ("candidates", "batch")
REDUCTIONS = ("mean", "sum", "none")
IMPLEMENTATIONS = ("auto", "native", "reference")
MOST = 2**31 - 1  # documents, columns, candidates a row

# The smallest and largest normal number of each compute dtype.
LIMITS = {
    dtype: (float(limits.tiny), float(limits.max))
    for dtype in (tf.float32, tf.float64)
    for limits in [np.finfo(dtype.as_numpy_dtype)]
}


def check_name(argument: str, value: Any, allowed: Sequence[str]) -> str:
    """A known option as a plain string, for NumPy's strings and string enums too."""
    name = without_array(value)
    if not isinstance(name, str) or name not in allowed:
        names = ", ".join(repr(name) for name in allowed)
        raise ValueError(f"{argument} must be one of {names}, got {value!r}")
    return allowed[allowed.index(name)]


def check_boolean(name: str, value: Any) -> bool:
    """True or False of Python or NumPy, and no other value."""
    boolean = without_array(value)
    if not isinstance(boolean, (bool, np.bool_)):
        raise ValueError(
            f"{name} must be True or False, got {value!r}{_why_no_tensor(value)}"
        )
    return bool(boolean)


def check_text(name: str, value: Any) -> str:
    """A plain string, of NumPy's strings and string enums too."""
    text = without_array(value)
    if not isinstance(text, str):
        raise ValueError(f"{name} must be a string, got {value!r}")
    return str.__str__(text)


def check_count(name: str, value: Any) -> int:
    """A positive int32 as an int."""
    count = without_array(value)
    if not is_integer(count) or not 1 <= count <= MOST:
        raise ValueError(
            f"{name} must be an integer from 1 to 2**31 - 1, got "
            f"{value!r}{_why_no_tensor(value)}"
        )
    return int(count)


def check_counts(name: str, values: Any) -> tuple[int, ...]:
    """A list of positive int32 as ints."""
    if isinstance(values, np.ndarray) and values.ndim == 1:
        values = values.tolist()
    if not isinstance(values, list | tuple):
        raise ValueError(f"{name} must be a list of integers, got {values!r}")
    return tuple(check_count(name, value) for value in values)


def check_positive_number(name: str, value: Any, highest: float = math.inf) -> float:
    """A number above 0, up to ``highest``, that is normal and finite in float32."""
    number = _real_number(value)
    smallest, largest = LIMITS[tf.float32]
    if not smallest <= number <= min(largest, highest):
        allowed = "a finite number above 0" if highest == math.inf else f"in (0, {highest}]"
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return number


def check_pair_of_numbers(name: str, values: Any) -> tuple[float, float]:
    """Two real numbers that are known."""
    with tf.init_scope():  # the tensor must not belong to a graph
        tensor = to_tensor(name, values, tf.float64, "safe")
    is_real = tensor.dtype.is_floating or tensor.dtype.is_integer
    pair = tf.get_static_value(tensor) if is_real else None
    if pair is None or pair.shape != (2,):
        raise ValueError(f"{name} must be two numbers, got {values!r}")
    return float(pair[0]), float(pair[1])


def check_margin(value: Any, dtype: tf.DType, name: str = "margin") -> float:
    margin = _real_number(value)
    if not math.isfinite(margin):
        raise ValueError(
            f"{name} must be a finite number, got {value!r}{_why_no_tensor(value)}"
        )
    if abs(margin) > LIMITS[dtype][1]:
        raise ValueError(f"{name} must be finite in {dtype.name}, got {value!r}")
    return margin


def check_negative_weight(value: Any, dtype: tf.DType, is_drawn: bool) -> float | None:
    """A number above 0, or None for ``"auto"``, which takes candidates that are drawn."""
    name = without_array(value)
    if isinstance(name, str) and name == "auto":
        if is_drawn:
            return None
        raise ValueError(
            "negative_weight must be a number where negative_indices are given, got "
            f"{value!r}, which is known of the samplers' draws alone; pass the number of "
            "documents that could have been drawn over K"
        )
    weight = _real_number(value)
    if not (weight > 0 and math.isfinite(weight)):
        raise ValueError(
            "negative_weight must be a finite number above 0 or 'auto', got "
            f"{value!r}{_why_no_tensor(value)}"
        )
    smallest, largest = LIMITS[dtype]
    if not smallest <= weight <= largest:
        raise ValueError(
            f"negative_weight must be above 0 and finite in {dtype.name}, got {value!r}"
        )
    return weight


def is_integer(value: Any) -> bool:
    """Whether a value is an integer of Python or NumPy, and not a boolean."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a real number of Python or NumPy, and not a boolean."""
    is_real = isinstance(value, (numbers.Real, tf.bfloat16.as_numpy_dtype))
    return is_real and not isinstance(value, bool)


def as_float(number: Any) -> float:
    """Infinity for an integer or fraction beyond all floats."""
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _real_number(value: Any) -> float:
    """A real number of Python or NumPy as a float; NaN for any other value."""
    number = without_array(value)
    return as_float(number) if is_number(number) else math.nan


def without_array(value: Any) -> Any:
    """The element of a NumPy array without dimensions; any other value unchanged."""
    return value[()] if isinstance(value, np.ndarray) and value.ndim < 1 else value


def _why_no_tensor(value: Any) -> str:
    """What an error adds where a tensor was given for an option."""
    if not is_tensor(value):
        return ""
    return (
        "; give a Python or NumPy value, not a tensor: a graph is built for one value of it"
    )
