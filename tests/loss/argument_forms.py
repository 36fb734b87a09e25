"""The forms in which an argument may come, and the rule that says which are right.

A form is a value and what carries it: a Python list, an array of another byte order, a
variable. Both are generated from the argument's kind; whether the form is right is decided
by the kind's one rule, from what the form stands for, and from no list of expectations.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import ml_dtypes
import numpy as np
import tensorflow as tf

from tests.support.cases import Array

MOST = 2**31 - 1
REALS = (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)
INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
OTHERS = (np.bool_, np.complex64, np.complex128, np.str_)
NUMBERS = (*REALS, *INTEGERS)

FAMILIES = {"b": "boolean", "i": "integer", "u": "integer", "O": "integer", "f": "real"}
FAMILIES |= {"V": "real", "c": "complex", "U": "text", "S": "text"}  # V: bfloat16


@dataclass(frozen=True)
class Given:
    """What a form stands for."""

    value: Any  # an array; of objects for integers beyond 64 bits; None for no value
    holder: str  # "Python", which knows no dtype, "NumPy", "tensor"

    @property
    def family(self) -> str:
        """The kind of its elements."""
        return FAMILIES[self.value.dtype.kind]

    def is_index(self) -> bool:
        """Whether its elements are int32 or int64, as TensorFlow sees them."""
        if self.family != "integer":
            return False
        if self.holder == "Python":
            return all(-(2**63) <= int(element) < 2**63 for element in self.value.flat)
        return self.value.dtype in (np.int32, np.int64)


@dataclass(frozen=True)
class Setting:
    """The batch that an argument belongs to, and the options beside it."""

    rows: int
    docs: int
    dim: int
    k: int
    precision: str
    source: str = "indices"  # or a sampler's name
    names: tuple[str, ...] = ()  # the options that are given too
    normalize_over: str = "candidates"
    reduction: str = "mean"

    @property
    def compute_dtype(self) -> Any:
        """What the loss is computed in."""
        return np.float64 if self.precision == "float64" else np.float32

    def size(self, owner: str) -> int:
        """The rows of query or doc."""
        return self.docs if owner == "doc" else self.rows


# --- What carries a value ---------------------------------------------------------------


@dataclass(frozen=True)
class Carrier:
    """A way to write a value down."""

    holder: str
    make: Callable[[Array], Any]
    takes: Callable[[Array], bool]


def _is_pythons(value: Array) -> bool:
    """Whether a Python value of it is of the same dtype again, and of the same rank."""
    is_known = value.dtype.kind in "OU" or value.dtype.name in (
        "float64",
        "int64",
        "bool",
        "complex128",
    )
    return is_known and (value.ndim < 2 or value.size > 0)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _strided(value: Array) -> Array:
    return np.repeat(value, 2, axis=-1)[..., ::2]


def _read_only(value: Array) -> Array:
    copy = value.copy()
    copy.flags.writeable = False
    return copy


def _keras_variable(value: Array) -> Any:
    return keras.Variable(value, dtype=value.dtype.name)


def _has_no_objects(value: Array) -> bool:
    return value.dtype.kind != "O"


CARRIERS = {
    "a Python value": Carrier("Python", lambda v: v.tolist(), _is_pythons),
    "a tuple": Carrier(
        "Python", lambda v: _tuples(v.tolist()), lambda v: v.ndim > 0 and _is_pythons(v)
    ),
    "a NumPy scalar": Carrier(
        "NumPy", lambda v: v[()], lambda v: v.ndim == 0 and _has_no_objects(v)
    ),
    "an array": Carrier("NumPy", lambda v: v.copy(), _has_no_objects),
    "a list of NumPy scalars": Carrier(
        "NumPy", list, lambda v: v.ndim == 1 and v.size > 0 and _has_no_objects(v)
    ),
    "an array of another byte order": Carrier(
        "NumPy",
        lambda v: v.astype(v.dtype.newbyteorder("S")),
        lambda v: v.dtype.kind in "iufc" and v.dtype.itemsize > 1,
    ),
    "a strided array": Carrier(
        "NumPy", _strided, lambda v: v.ndim > 0 and _has_no_objects(v)
    ),
    "a read-only array": Carrier("NumPy", _read_only, _has_no_objects),
    "a tensor": Carrier("tensor", tf.constant, _has_no_objects),
    "a variable": Carrier("tensor", tf.Variable, _has_no_objects),
    "a Keras variable": Carrier(
        "tensor", _keras_variable, lambda v: v.dtype.kind in "biufV"
    ),
    "a list of tensors": Carrier(
        "tensor",
        lambda v: [tf.constant(element) for element in v],
        lambda v: v.ndim == 1 and v.size > 0 and _has_no_objects(v),
    ),
}

# What holds no value that any argument has.
WITHOUT_VALUES: dict[str, Callable[[], Any]] = {
    "an object": object,
    "a dict": lambda: {"a": 1.0},
    "bytes": lambda: b"mean",
    "a complex number": lambda: 1j,
    "an array of objects": lambda: np.array([1, 2.0, None], object),
    "a list of unequal lists": lambda: [[1.0], [2.0, 3.0]],
    "a list of None": lambda: [None, None],
    "a ragged tensor": lambda: tf.ragged.constant([[1.0], [2.0, 3.0]]),
    "a ragged tensor of integers": lambda: tf.ragged.constant([[1], [2, 3]]),
    "a sparse tensor": lambda: tf.sparse.eye(3),
    "a tensor's specification": lambda: tf.TensorSpec([None, 4], tf.float32),
    "a model's input": lambda: keras.Input([4]),
    "a model's input of integers": lambda: keras.Input([], dtype="int64"),
}


@dataclass(frozen=True)
class Form:
    """One argument, written down."""

    name: str
    make: Callable[[], Any]  # anew for each call: a variable belongs to one program
    given: Given | None  # None: it stands for nothing
    carrier: str


# --- Values ------------------------------------------------------------------------------

SPECIAL_REALS: dict[str, Any] = {
    "NaN": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "zero": 0.0,
    "a negative number": -1.5,
    "ten thousand": 1e4,
    "1e30": 1e30,
    "a number beyond float32": 1e60,
    "a subnormal number": 1e-42,
}
SPECIAL_INTEGERS: dict[str, Any] = {
    "zero": 0,
    "minus one": -1,
    "2**31 - 1": MOST,
    "2**31": 2**31,
    "-2**31": -(2**31),
    "2**63 - 1": 2**63 - 1,
    "-2**63": -(2**63),
    "2**63": 2**63,
    "10**400": 10**400,
}


def cast(value: Array, dtype: Any) -> Array:
    """The value in a dtype, as far as that holds it."""
    exact = value.astype(np.float64) if value.dtype.kind == "V" else value
    with np.errstate(all="ignore"):
        return exact.astype(dtype)


def _with(value: Array, special: Any, position: int) -> Array:
    """The value with one special element."""
    is_wide = isinstance(special, int) and not -(2**63) <= special < 2**63
    changed = value.astype(object if is_wide else value.dtype)
    with np.errstate(over="ignore"):
        changed.reshape(-1)[position] = special
    return changed


def special_values(value: Array) -> dict[str, Array]:
    """The value with one element that is not like others, in its first or last place."""
    if not value.size or FAMILIES[value.dtype.kind] not in ("real", "integer"):
        return {}
    specials = SPECIAL_REALS if FAMILIES[value.dtype.kind] == "real" else SPECIAL_INTEGERS
    places = {"": 0} if value.size == 1 else {" first": 0, " last": -1}
    return {
        name + place: _with(value, special, index)
        for name, special in specials.items()
        for place, index in places.items()
    }


def values_of_dtypes(value: Array) -> dict[str, Array]:
    """The value in each dtype."""
    dtypes = (*REALS, *INTEGERS, *OTHERS)
    return {np.dtype(dtype).name: cast(value, dtype) for dtype in dtypes}


def shapes_of_vector(value: Array) -> dict[str, Array]:
    """A vector in the shapes that it may be mistaken for."""
    longer = np.resize(value, len(value) + 1) if len(value) else np.ones(1, value.dtype)
    return {
        "a scalar": np.asarray(longer[0]),
        "a column": value[:, np.newaxis],
        "a row": value[np.newaxis],
        "one too long": longer,
        "one too short": longer[:-2],
        "nothing": value[:0],
    }


def shapes_of_scalar(value: Array) -> dict[str, Array]:
    """A scalar in the shapes that it may be mistaken for."""
    return {
        "a vector of one": value[np.newaxis],
        "a matrix of one": value[np.newaxis, np.newaxis],
        "a vector of two": np.stack([value, value]),
        "nothing": value[np.newaxis][:0],
    }


def shapes_of_matrix(value: Array) -> dict[str, Array]:
    """A matrix in the shapes that it may be mistaken for."""
    rows, columns = value.shape
    wider = np.ones((rows, columns + 1), value.dtype)
    return {
        "a scalar": np.ones((), value.dtype),
        "a vector": np.ones(columns, value.dtype),
        "a batch of matrices": value[np.newaxis],
        "a column too many": wider,
        "no columns": value[:, :0],
        "many rows": np.ones((rows + 1000, columns), value.dtype),
        "a row too few": value[: max(rows - 1, 0)],
        "no rows": value[:0],
    }


# --- Forms -------------------------------------------------------------------------------


def all_forms(values: dict[str, Array]) -> list[Form]:
    """Each value by each carrier that takes it, and what holds no value."""
    return [*_forms_without_values(), *itertools.chain(*_pairs(values))]


def chosen_forms(values: dict[str, Array]) -> list[str]:
    """The names of fewer: the first value by all carriers, each other one by one in turn.

    The turns are of tensors and of what is none.
    """
    chosen = _forms_without_values()
    for number, pairs in enumerate(_pairs(values)):
        if number == 0:
            chosen += pairs
            continue
        tensors = [form for form in pairs if CARRIERS[form.carrier].holder == "tensor"]
        others = [form for form in pairs if form not in tensors]
        group = tensors if number % 2 and tensors else others
        chosen.append(group[number // 2 % len(group)])
    return [form.name for form in chosen]


def _forms_without_values() -> list[Form]:
    forms = [Form(name, make, None, "none") for name, make in WITHOUT_VALUES.items()]
    text = Given(np.array("text"), "Python")
    forms.append(Form("another text", lambda: "text", text, "none"))
    return [*forms, Form("None", lambda: None, Given(None, "Python"), "none")]


def _pairs(values: dict[str, Array]) -> list[list[Form]]:
    return [
        [_form(label, name, value) for name in CARRIERS if CARRIERS[name].takes(value)]
        for label, value in values.items()
    ]


def _form(label: str, name: str, value: Array) -> Form:
    carrier = CARRIERS[name]
    make = functools.partial(carrier.make, value)
    return Form(f"{label} as {name}", make, Given(value, carrier.holder), name)
