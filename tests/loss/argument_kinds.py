"""The kinds of arguments: what is usual, what may come, and the one rule for what is right.

A rule says "" for a right form, "form" for one whose dtype or shape is wrong, which is
known before anything runs where sizes are known, and "value" for one whose numbers are.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.loss import argument_forms as forms
from tests.loss.argument_forms import MOST, Given, Setting
from tests.support.cases import DTYPES, Array


class Kind(ABC):
    """What all arguments of a kind have in common."""

    none_is_right = False
    may_be_tensor = True

    @abstractmethod
    def usual(self, setting: Setting, name: str) -> Array:
        """A right value."""

    @abstractmethod
    def shapes(self, usual: Array) -> dict[str, Array]:
        """The usual value in other shapes."""

    @abstractmethod
    def problem(self, given: Given, setting: Setting) -> str:
        """The rule, of what stands for an array."""

    def judge(self, given: Given | None, setting: Setting) -> str:
        """The rule, of all that may come."""
        if given is None:
            return "form"
        if given.value is None:
            return "" if self.none_is_right else "form"
        if given.holder == "tensor" and not self.may_be_tensor:
            return "form"
        return self.problem(given, setting)

    def values(self, setting: Setting, name: str) -> dict[str, Array]:
        """Every value that the argument is given, the usual one first."""
        usual = self.usual(setting, name)
        return {
            "usual": usual,
            **forms.values_of_dtypes(usual),
            **self.shapes(usual),
            **forms.special_values(usual),
        }


# --- Scalars -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Number(Kind):
    """A finite number within two bounds; a tensor must be floating-point."""

    example: float
    lowest: float = -math.inf
    highest: float = math.inf
    may_be_tensor: bool = False

    def usual(self, setting: Setting, name: str) -> Array:
        """The example."""
        return np.array(self.example)

    def shapes(self, usual: Array) -> dict[str, Array]:
        """No scalars."""
        return forms.shapes_of_scalar(usual)

    def problem(self, given: Given, setting: Setting) -> str:
        """A finite number, in the compute dtype, above the lowest."""
        families = ("real",) if given.holder == "tensor" else ("real", "integer")
        if given.family not in families or given.value.ndim:
            return "form"
        try:
            number = float(given.value)
        except OverflowError:
            return "value"
        limits = np.finfo(setting.compute_dtype)
        smallest = limits.tiny if self.lowest == 0 else -limits.max
        highest = min(self.highest, float(limits.max))
        return "" if smallest <= number <= highest else "value"

    def values(self, setting: Setting, name: str) -> dict[str, Array]:
        """None that is right, and leaves no digits to the logits."""
        found = super().values(setting, name)
        del found["1e30"]
        if setting.compute_dtype is np.float64:
            del found["a number beyond float32"]
        return found


class Boolean(Kind):
    """True or False."""

    may_be_tensor = False

    def __init__(self, example: bool) -> None:
        self.example = example

    def usual(self, setting: Setting, name: str) -> Array:
        """The example."""
        return np.array(self.example)

    def shapes(self, usual: Array) -> dict[str, Array]:
        """No scalars."""
        return forms.shapes_of_scalar(usual)

    def problem(self, given: Given, setting: Setting) -> str:
        """A boolean, and no number like one."""
        return "" if given.family == "boolean" and not given.value.ndim else "form"

    def values(self, setting: Setting, name: str) -> dict[str, Array]:
        """Also the other one of the two."""
        return {**super().values(setting, name), "the other": np.array(not self.example)}


class OptionalBoolean(Boolean):
    """The same, or None."""

    none_is_right = True


@dataclass(frozen=True)
class Name(Kind):
    """One of some words."""

    allowed: tuple[str, ...]
    may_be_tensor = False

    def usual(self, setting: Setting, name: str) -> Array:
        """The first."""
        return np.array(self.allowed[0])

    def shapes(self, usual: Array) -> dict[str, Array]:
        """No scalars."""
        return forms.shapes_of_scalar(usual)

    def problem(self, given: Given, setting: Setting) -> str:
        """One of the words, to the letter."""
        if given.family != "text" or given.value.ndim:
            return "form"
        return "" if str(given.value) in self.allowed else "value"

    def values(self, setting: Setting, name: str) -> dict[str, Array]:
        """Every word, and what is like one."""
        words = [*self.allowed, self.allowed[0].upper(), f" {self.allowed[0]}", ""]
        usual = self.usual(setting, name)
        others = {"a number": np.array(3), "a boolean": np.array(True)}
        return {
            "usual": usual,
            **{repr(word): np.array(word) for word in words},
            **self.shapes(usual),
            **others,
        }


class Text(Name):
    """Any word."""

    def problem(self, given: Given, setting: Setting) -> str:
        """A string."""
        return "" if given.family == "text" and not given.value.ndim else "form"


class Sampler(Name):
    """The sampler's name: one that has num_negatives candidates."""

    def problem(self, given: Given, setting: Setting) -> str:
        """Too many candidates are the fault of both."""
        found = super().problem(given, setting)
        if not found and not has_candidates(str(given.value), setting.k, setting):
            return "value"
        return found


def has_candidates(sampler: str, k: int, setting: Setting) -> bool:
    """Whether a sampler has K candidates, as the loss's docstring says it."""
    others = setting.docs - 1
    if not setting.rows or sampler == "shuffle":
        return True
    return k == others if sampler == "all" else k <= others


@dataclass(frozen=True)
class Count(Kind):
    """A number of things: an integer of at least 1."""

    example: int = 0  # 0: the setting's K
    none_is_right: bool = False
    may_be_tensor = False

    def usual(self, setting: Setting, name: str) -> Array:
        """The example."""
        return np.array(self.example or setting.k)

    def shapes(self, usual: Array) -> dict[str, Array]:
        """No scalars."""
        return forms.shapes_of_scalar(usual)

    def problem(self, given: Given, setting: Setting) -> str:
        """As many as the sampler has, where one draws."""
        if given.family != "integer" or given.value.ndim:
            return "form"
        count = int(given.value)
        if not 1 <= count <= MOST:
            return "value"
        sampler = "shuffle" if setting.source == "indices" else setting.source
        return "" if has_candidates(sampler, count, setting) else "value"

    def values(self, setting: Setting, name: str) -> dict[str, Array]:
        """None that would fill the memory with candidates."""
        found = super().values(setting, name)
        found.pop("2**31 - 1" if setting.rows else "", None)
        return found


@dataclass(frozen=True)
class Size(Kind):
    """A number of rows: an integer, or a scalar int32 or int64 tensor."""

    lowest: str  # what it must not be below, of the setting; "" for 0
    highest: str  # nor above; "" for the largest

    def usual(self, setting: Setting, name: str) -> Array:
        """The setting's own."""
        return np.array(setting.docs if self.lowest else setting.rows)

    def shapes(self, usual: Array) -> dict[str, Array]:
        """No scalars."""
        return forms.shapes_of_scalar(usual)

    def problem(self, given: Given, setting: Setting) -> str:
        """An integer between the other sizes."""
        is_index = given.holder != "tensor" or given.is_index()
        if given.family != "integer" or given.value.ndim or not is_index:
            return "form"
        lowest = setting.rows if self.lowest else 0
        highest = setting.docs if self.highest else MOST
        return "" if lowest <= int(given.value) <= highest else "value"


class Counts(Kind):
    """A list of counts, of any length."""

    may_be_tensor = False

    def usual(self, setting: Setting, name: str) -> Array:
        """Two of them."""
        return np.array([1, 3])

    def shapes(self, usual: Array) -> dict[str, Array]:
        """Also lists of other lengths."""
        return forms.shapes_of_vector(usual)

    def problem(self, given: Given, setting: Setting) -> str:
        """A vector of integers."""
        if (given.family != "integer" and given.value.size) or given.value.ndim != 1:
            return "form"
        return "" if all(1 <= int(count) <= MOST for count in given.value) else "value"


class Bounds(Kind):
    """Two numbers above 0, the smaller first."""

    def usual(self, setting: Setting, name: str) -> Array:
        """Two of them."""
        return np.array([2.0, 50.0])

    def shapes(self, usual: Array) -> dict[str, Array]:
        """No pairs."""
        return forms.shapes_of_vector(usual)

    def problem(self, given: Given, setting: Setting) -> str:
        """In order."""
        if given.family not in ("real", "integer") or given.value.shape != (2,):
            return "form"
        with np.errstate(invalid="ignore"):
            smallest, largest = given.value.tolist()
        return "" if 0 < smallest < largest < math.inf else "value"


# --- Vectors and matrices ----------------------------------------------------------------


class Seed(Kind):
    """Two integers; None for a fresh seed."""

    none_is_right = True

    def usual(self, setting: Setting, name: str) -> Array:
        """Any two."""
        return np.array([5, 1])

    def shapes(self, usual: Array) -> dict[str, Array]:
        """No pairs."""
        return forms.shapes_of_vector(usual)

    def problem(self, given: Given, setting: Setting) -> str:
        """Of 64 bits at most; arrays of any dtype that int64 holds."""
        if given.family != "integer" or given.value.shape != (2,):
            return "form"
        if given.holder == "NumPy":
            return "" if np.can_cast(given.value.dtype, np.int64) else "form"
        return "" if given.is_index() else "form"


class SeedOfALayer(Seed):
    """The same, where a layer needs one."""

    none_is_right = False


@dataclass(frozen=True)
class Ids(Kind):
    """One integer a row, int32 or int64; None for no ids."""

    owner: str
    none_is_right = True

    def usual(self, setting: Setting, name: str) -> Array:
        """Ids that repeat."""
        return np.arange(setting.size(self.owner)) // 2 * 5

    def shapes(self, usual: Array) -> dict[str, Array]:
        """No vectors of that size."""
        return forms.shapes_of_vector(usual)

    def problem(self, given: Given, setting: Setting) -> str:
        """Any integers."""
        is_vector = given.value.shape == (setting.size(self.owner),)
        if is_vector and not given.value.size and given.holder == "Python":
            return ""
        return "" if is_vector and given.is_index() else "form"


@dataclass(frozen=True)
class Floats(Kind):
    """One number a row: a tensor is floating-point, what is none becomes it."""

    owner: str
    may_be_low: bool  # minus infinity and NaN are numbers like others
    may_be_mask: bool = False  # of booleans
    none_is_right = True

    def usual(self, setting: Setting, name: str) -> Array:
        """Weights above 0, which never cancel, or logarithms of probabilities."""
        size = setting.size(self.owner)
        lowest, highest = (0.5, 2) if name == "sample_weight" else (-3, 0)
        return np.linspace(lowest, highest, size)

    def shapes(self, usual: Array) -> dict[str, Array]:
        """No vectors of that size."""
        return forms.shapes_of_vector(usual)

    def problem(self, given: Given, setting: Setting) -> str:
        """Any numbers, infinity among them; above minus infinity where that is asked."""
        families = ["real"] if given.holder == "tensor" else ["real", "integer"]
        families += ["boolean"] if self.may_be_mask else []
        if given.value.shape != (setting.size(self.owner),):
            return "form"
        is_pythons_empty = given.holder == "Python" and not given.value.size
        if given.family not in families and not is_pythons_empty:
            return "form"
        if given.value.dtype.kind == "O" and max(given.value) > 1e300:
            return "form"  # TensorFlow has no such number
        numbers = forms.cast(given.value, setting.compute_dtype)
        return "" if self.may_be_low or bool((numbers > -math.inf).all()) else "value"


class Table(Kind):
    """Documents by number, ``[B, K]``."""

    def usual(self, setting: Setting, name: str) -> Array:
        """Some of them."""
        random = np.random.default_rng(1)
        return random.integers(0, max(setting.docs, 1), (setting.rows, setting.k))

    def shapes(self, usual: Array) -> dict[str, Array]:
        """No such matrix."""
        return forms.shapes_of_matrix(usual)

    def problem(self, given: Given, setting: Setting) -> str:
        """Numbers of documents that exist."""
        table = given.value
        is_table = table.ndim == 2 and len(table) == setting.rows and table.shape[1] >= 1
        if not is_table or not given.is_index():
            return "form"
        return "" if all(0 <= int(doc) < setting.docs for doc in table.flat) else "value"


@dataclass(frozen=True)
class Embeddings(Kind):
    """Rows of the dtype that the other embeddings have."""

    owner: str

    def usual(self, setting: Setting, name: str) -> Array:
        """Rows of different lengths and directions."""
        rows = setting.size(self.owner)
        random = np.random.default_rng([rows, len(self.owner)])
        embeddings: Array = random.normal(size=(rows, setting.dim))
        return embeddings.astype(DTYPES[setting.precision])

    def shapes(self, usual: Array) -> dict[str, Array]:
        """Not two matrices that belong together."""
        shapes = forms.shapes_of_matrix(usual)
        if self.owner == "doc":
            del shapes["many rows"], shapes["a row too few"]
        else:
            del shapes["a row too few"], shapes["no rows"]
        return shapes

    def problem(self, given: Given, setting: Setting) -> str:
        """Of the one dtype and shape; NaN is a number of it too."""
        dtype = given.value.dtype
        if given.holder == "Python":  # TensorFlow makes float32 of them
            dtype = np.dtype(np.float32) if given.family == "real" else dtype
        if dtype != DTYPES[setting.precision]:
            return "form"
        wanted = (setting.size(self.owner), setting.dim)
        return "" if given.value.shape == wanted else "form"

    def values(self, setting: Setting, name: str) -> dict[str, Array]:
        """Python's numbers among them."""
        found = super().values(setting, name)
        for place in (" first", " last"):  # 16 bits keep little of the rest of such a row
            found.pop(f"ten thousand{place}", None)
        usual = self.usual(setting, name)
        return {**found, "of Python": usual.astype(np.float64)}


def standing_for(given: Given, kind: Kind, setting: Setting) -> Any:
    """The value of a right form as the judge takes it."""
    if given.value is None:
        return None
    if isinstance(kind, Floats):
        return forms.cast(given.value, setting.compute_dtype)
    return given.value[()] if given.value.ndim == 0 else given.value
