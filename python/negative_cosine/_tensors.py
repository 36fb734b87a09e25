"""One argument as a tensor, and the hints that errors give about a wrong tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

EMBEDDING_DTYPES = (tf.float16, tf.bfloat16, tf.float32, tf.float64)
INDEX_DTYPES = (tf.int32, tf.int64)

# What an error adds for a class that is no dense tensor. Each Keras has its own
# KerasTensor, so that classes are told apart by their names.
_NO_TENSORS = {
    "KerasTensor": ", which has no values yet; in a functional model use the layer "
    "NegativeCosineLoss, or call the function inside a layer's call or in compute_loss",
    "RaggedTensor": ", whose rows differ in length; give all rows the same length",
    "SparseTensor": "; convert it with tf.sparse.to_dense",
}
Casting = Literal["safe", "same_kind"]


def compute_dtype_of(dtype: tf.DType) -> tf.DType:
    """The dtype that the loss of embeddings of ``dtype`` is computed in."""
    return tf.float64 if dtype == tf.float64 else tf.float32


def to_tensor(
    name: str, value: Any, hint: tf.DType = None, casting: Casting = "same_kind"
) -> tf.Tensor:
    """An argument as a tensor, of the hinted dtype where it has none of its own.

    TensorFlow would silently cast any NumPy array, and the tensors in a list, to the hint.
    Here an array is cast only where NumPy's ``casting`` allows it. Every other value keeps
    its own dtype, which the caller checks.
    """
    kind = type(value).__name__
    if kind in _NO_TENSORS:
        raise ValueError(f"{name} must be a dense tensor, got {kind}{_NO_TENSORS[kind]}")
    if isinstance(value, (list, tuple)) and value and _are_of_numpy(value):
        # In a graph TensorFlow would keep their dtype, and in eager execution it would not.
        value = np.asarray(value)
    if isinstance(value, np.ndarray):
        # TensorFlow would read the bytes of another byte order as if they were its own.
        value = value.astype(value.dtype.newbyteorder("="), copy=False)
        fits = hint is None or np.can_cast(value.dtype, hint.as_numpy_dtype, casting)
        hint = hint if fits else None
    elif isinstance(value, (list, tuple)) and any(map(is_tensor, value)):
        hint = None
    try:
        return tf.convert_to_tensor(value, dtype_hint=hint)
    except (TypeError, ValueError, OverflowError, tf.errors.InvalidArgumentError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{name} must be a tensor or a value that TensorFlow can convert to one, got "
            f"{kind}: {reason}"
        ) from error


def _are_of_numpy(values: Sequence[Any]) -> bool:
    return all(isinstance(value, np.generic) for value in values)


def is_tensor(value: Any) -> bool:
    """Whether it is a tensor or a variable, of TensorFlow or Keras."""
    return tf.is_tensor(value) or hasattr(value, "__tf_tensor__")


def has_booleans(values: Any) -> bool:
    """Whether any value is a boolean, which TensorFlow would take for 0 or 1."""
    parts = values if isinstance(values, (list, tuple)) else [values]
    return any(getattr(part, "dtype", type(part)) in (bool, np.bool_) for part in parts)


def describe(tensor: tf.Tensor) -> str:
    return f"{tensor.dtype.name} of shape {tensor.shape}"


def how_to_tell_the_rank(name: str, tensor: tf.Tensor, shape: str) -> str:
    """What an error adds for a tensor whose rank is not known."""
    if tensor.shape.rank is not None:
        return ""
    return f"; set its rank with tf.ensure_shape({name}, {shape})"


def how_to_cast(name: str, dtype: tf.DType) -> str:
    """What an error adds for integers of another size; "" where a cast could change one."""
    if dtype == tf.uint64:
        return (
            f"; convert it with tf.bitcast({name}, tf.int64): distinct values stay distinct"
        )
    is_smaller = dtype.is_integer and dtype not in INDEX_DTYPES
    return f"; convert it with tf.cast({name}, tf.int64)" if is_smaller else ""
