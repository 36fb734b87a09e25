"""What Hypothesis draws for the fuzz tests, and how many of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.cases import DTYPES, Array, Batch

Drawn = TypeVar("Drawn")

INT32 = (-(2**31), 2**31 - 1)
INT64 = (-(2**63), 2**63 - 1)

# A test of PROFILES (see conftest.py) draws the same few examples each time under `make
# test`, and many new ones under `make nightly`.
PROFILES = pytest.mark.parametrize(
    "profile", ["usual", pytest.param("nightly", marks=pytest.mark.nightly)]
)
NIGHTLY_FACTOR = 10


def fuzz(
    profile: str,
    check: Callable[[Drawn], None],
    drawn: st.SearchStrategy[Drawn],
    examples: int,
) -> None:
    """Calls ``check`` with ``examples`` draws, with as many times more at night."""
    count = examples * (NIGHTLY_FACTOR if profile == "nightly" else 1)

    def one_example(example: Drawn) -> None:
        check(example)

    # What Hypothesis derives its examples from, and the name of what it saves.
    one_example.__qualname__ = one_example.__name__ = check.__name__
    limited = settings(settings.get_profile(profile), max_examples=count)
    limited(given(drawn)(one_example))()


# --- Valid calls. ----------------------------------------------------------------------


def integers_of(dtype: Any) -> st.SearchStrategy[int]:
    """Small integers that meet often, and the ends of the dtype."""
    low, high = INT64 if dtype == np.int64 else INT32
    return st.sampled_from([0, 1, 2, -1, low, low + 1, high, high - 1])


INDEX_DTYPES = st.sampled_from([np.int32, np.int64])
SEEDS = st.tuples(*[st.one_of(st.integers(*INT64), st.sampled_from([0, -1, *INT64]))] * 2)


@st.composite
def id_vectors(draw: st.DrawFn, size: int) -> Array:
    """Ids that repeat."""
    dtype = draw(INDEX_DTYPES)
    few = draw(st.lists(integers_of(dtype), min_size=1, max_size=3))
    return np.resize(np.array(few, dtype), size)


@dataclass
class Call:
    """A valid call: a batch, where its candidates come from, and its options."""

    batch: Batch
    source: str
    options: dict[str, Any]
    mode: str = "eager"
    slack: float = 1.0  # of the tolerances, for a logit scale beyond the usual


@st.composite
def options_of(draw: st.DrawFn, batch: Batch) -> dict[str, Any]:
    """Any combination of options, with values from their whole useful range."""
    some: dict[str, st.SearchStrategy[Any]] = {
        "scale": st.floats(1e-3, 200),
        "temperature": st.floats(0.5, 2),
        "margin": st.floats(-2, 2),
        "negative_weight": st.floats(-7, 7).map(lambda power: 10.0**power),
        "mask_self": st.booleans(),
        "doc_ids": id_vectors(batch.docs),
        "query_ids": id_vectors(batch.rows),
        "doc_log_q": st.floats(-30, 0).map(
            lambda low: np.linspace(low, 0, batch.docs).astype(batch.real)
        ),
        "sample_weight": st.sampled_from([0.0, 1e-3, 1.0, -1.0, 1e3]).map(
            lambda size: (batch.options["sample_weight"] * size).astype(batch.real)
        ),
        "normalize_over": st.sampled_from(["candidates", "batch"]),
        "reduction": st.sampled_from(["mean", "sum", "none"]),
    }
    return draw(st.fixed_dictionaries({}, optional=some))


@st.composite
def calls(
    draw: st.DrawFn, most_rows: int = 12, modes: tuple[str, ...] = ("eager",)
) -> Call:
    """A valid call of ``fused_negative_cosine_loss``, an empty batch among them."""
    rows = draw(st.integers(0, most_rows))
    docs = rows + draw(st.integers(0 if rows else 1, 5))
    source = draw(st.sampled_from(["shuffle", "ring", "all", "indices"]))
    if source == "ring" and docs == 1:
        docs = 2
    k = draw(st.integers(1, docs - 1 if source == "ring" else 20))
    dim = draw(st.sampled_from([1, 2, 3, 8, 15, 16, 17, 33, 64, 65, 100]))
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    batch = Batch((rows, docs, dim, k), dtype, draw(st.integers(0, 2**16)))
    batch.seed = draw(SEEDS)
    batch.indices = batch.indices.astype(draw(INDEX_DTYPES))
    for matrix in (batch.query, batch.doc):
        for row in draw(st.sets(st.integers(0, max(len(matrix) - 1, 0)), max_size=2)):
            matrix[row : row + 1] *= draw(st.sampled_from([0, 1e-4, -1, 100]))
    if rows and draw(st.booleans()):
        batch.doc[-1] = batch.doc[0]  # a tie with a positive
    options = draw(options_of(batch))
    scale = options.get("scale", 20.0) / options.get("temperature", 1.0)
    return Call(
        batch, source, options, draw(st.sampled_from(modes)), max(1.0, scale / 20.0)
    )


# --- Wrong calls. ----------------------------------------------------------------------

ROWS, DOCS, DIM, K = 3, 5, 4, 2


def valid_arguments() -> dict[str, Any]:
    """Arguments of every kind; the wrong calls change some of them."""
    random = np.random.default_rng(0)
    return {
        "query": random.normal(size=(ROWS, DIM)).astype(np.float32),
        "doc": random.normal(size=(DOCS, DIM)).astype(np.float32),
        "num_negatives": K,
        "sampler": "shuffle",
        "seed": (1, 2),
        "scale": 20.0,
        "temperature": 1.0,
        "margin": 0.0,
        "negative_weight": 1.0,
        "mask_self": True,
        "doc_ids": np.arange(DOCS),
        "query_ids": np.arange(ROWS),
        "doc_log_q": np.zeros(DOCS, np.float32),
        "sample_weight": np.ones(ROWS, np.float32),
        "normalize_over": "candidates",
        "reduction": "mean",
        "return_stats": False,
        "cross_replica": False,
    }


# Made anew for each call: a symbolic tensor belongs to nobody.
NOT_TENSORS: list[Callable[[], Any]] = [
    lambda: object(),
    lambda: "text",
    lambda: {"a": 1},
    lambda: tf.ragged.constant([[1.0], [2.0, 3.0]]),
    lambda: tf.sparse.eye(ROWS, DIM),
    lambda: keras.Input([DIM]),
    lambda: [[1.0], [2.0, 3.0]],
    lambda: [2**64, 1],
    lambda: [10**400] * ROWS,
    lambda: [None] * ROWS,
    lambda: [tf.ones([2]), tf.ones([3])],
    lambda: np.ones((ROWS, DIM), object),
    lambda: np.ones((ROWS, DIM), np.longdouble),
    lambda: np.ones((ROWS, DIM), [("a", "f4")]),
]
WRONG_DTYPES = [bool, np.uint8, np.int8, np.uint64, np.complex64, np.complex128, "S3"]


def arrays_but(shape: tuple[int, ...], dtypes: list[Any]) -> list[Callable[[], Any]]:
    """Arrays of the right shape and these dtypes."""
    return [functools.partial(np.ones, shape, dtype) for dtype in dtypes]


def shapes_but(dtype: Any, *shapes: tuple[int, ...]) -> list[Callable[[], Any]]:
    """Arrays of the right dtype and these shapes."""
    return [functools.partial(np.ones, shape, dtype) for shape in shapes]


NOT_A_NAME: list[Callable[[], Any]] = [
    lambda: None,
    lambda: "",
    lambda: "Shuffle",
    lambda: b"mean",
    lambda: 3,
    lambda: ["mean"],
    lambda: np.array(["mean", "sum"]),
    lambda: tf.constant("mean"),
    lambda: tf.constant("shuffle"),
]
NOT_A_BOOLEAN: list[Callable[[], Any]] = [
    lambda: None,
    lambda: 1,
    lambda: "yes",
    lambda: np.array([True]),
    lambda: tf.constant(True),
    lambda: np.array([True, False]),
]
NOT_A_SCALE: list[Callable[[], Any]] = [
    lambda: None,
    lambda: 0,
    lambda: -1.0,
    lambda: float("nan"),
    lambda: float("inf"),
    lambda: 10**400,
    lambda: -(10**400),
    lambda: 1e-60,
    lambda: True,
    lambda: 1j,
    lambda: "20",
    lambda: [20.0],
    lambda: tf.constant(20),
    lambda: tf.ones([1]),
]

WRONG: dict[str, list[Callable[[], Any]]] = {
    "query": [
        lambda: None,
        *NOT_TENSORS,
        *arrays_but((ROWS, DIM), [*WRONG_DTYPES, np.float64, np.int32]),
        *shapes_but(
            np.float32,
            (),
            (DIM,),
            (1, ROWS, DIM),
            (ROWS, DIM + 1),
            (ROWS, 0),
            (DOCS + 1, DIM),
        ),
    ],
    "doc": [
        lambda: None,
        *NOT_TENSORS,
        *arrays_but((DOCS, DIM), [*WRONG_DTYPES, np.float16, np.int64]),
        *shapes_but(np.float32, (), (DIM,), (DOCS, DIM + 1), (ROWS - 1, DIM), (0, DIM)),
    ],
    "num_negatives": [
        lambda: None,
        lambda: 0,
        lambda: -1,
        lambda: 2**31,
        lambda: 2**63,
        lambda: 10**400,
        lambda: 2.0,
        lambda: True,
        lambda: "2",
        lambda: np.array([2]),
        lambda: tf.constant(2),
    ],
    "sampler": NOT_A_NAME,
    "seed": [
        *NOT_TENSORS,
        *arrays_but((2,), [np.uint64, np.float32, np.complex64, "S3"]),
        *shapes_but(np.int64, (), (1,), (3,), (2, 1), (0,)),
        lambda: (1.0, 2.0),
        lambda: (2**63, 1),
        lambda: (True, False),
        lambda: np.array([True, False]),
    ],
    "scale": NOT_A_SCALE,
    "temperature": NOT_A_SCALE,
    "margin": [
        lambda: None,
        lambda: float("nan"),
        lambda: float("-inf"),
        lambda: 1e39,
        lambda: 10**400,
        lambda: True,
        lambda: "0",
        lambda: tf.constant(0.1),
        lambda: [0.1],
    ],
    "negative_weight": [
        lambda: None,
        lambda: 0,
        lambda: -1.0,
        lambda: float("nan"),
        lambda: float("inf"),
        lambda: 1e39,
        lambda: 1e-39,
        lambda: True,
        lambda: "1",
        lambda: "Auto",
        lambda: tf.constant(2.0),
        lambda: [2.0],
    ],
    "mask_self": NOT_A_BOOLEAN,
    "doc_ids": [
        *NOT_TENSORS,
        *arrays_but((DOCS,), [*WRONG_DTYPES, np.float32]),
        *shapes_but(np.int32, (), (ROWS,), (DOCS, 1), (0,), (DOCS + 1,)),
    ],
    "query_ids": [
        *NOT_TENSORS,
        *arrays_but((ROWS,), [*WRONG_DTYPES, np.float32]),
        *shapes_but(np.int64, (), (DOCS,), (ROWS, 1), (0,), (1,)),
    ],
    "doc_log_q": [
        *NOT_TENSORS,
        *arrays_but((DOCS,), [np.complex64, np.complex128, "S3"]),
        *shapes_but(np.float32, (), (ROWS,), (DOCS, 1), (0,), (1,)),
    ],
    "sample_weight": [
        *NOT_TENSORS,
        *arrays_but((ROWS,), [np.complex64, np.complex128, "S3"]),
        *shapes_but(np.float32, (), (DOCS,), (ROWS, 1), (0,), (1,)),
    ],
    "normalize_over": NOT_A_NAME,
    "reduction": NOT_A_NAME,
    "return_stats": NOT_A_BOOLEAN,
    "cross_replica": NOT_A_BOOLEAN,
    "negative_indices": [
        *NOT_TENSORS,
        *arrays_but((ROWS, K), [*WRONG_DTYPES, np.float32]),
        *shapes_but(np.int32, (), (ROWS,), (DOCS, K), (ROWS, 0), (1, ROWS, K), (0, K)),
        lambda: np.array([[0, 1], [2, 3], [4, -1]]),
        lambda: np.array([[0, DOCS], [2, 3], [4, 0]], np.int32),
        lambda: np.array([[0, 1], [2**63 - 1, 3], [4, 0]]),
        lambda: np.array([[-(2**63), 1], [2, 3], [4, 0]]),
        lambda: np.array([[0, 1], [2, 3], [4, 2**32]]),
    ],
}


@dataclass
class WrongCall:
    """A call with one or two wrong arguments, made when it is called."""

    wrong: dict[str, Callable[[], Any]]
    in_graph: bool
    values: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.values = {name: make() for name, make in self.wrong.items()}

    def arguments(self) -> dict[str, Any]:
        """All arguments, valid but for the wrong ones."""
        arguments = valid_arguments()
        if "negative_indices" in self.values:
            arguments["num_negatives"] = None
        return {**arguments, **self.values}


@st.composite
def wrong_calls(draw: st.DrawFn) -> WrongCall:
    """One wrong argument, or two."""
    names = draw(
        st.lists(st.sampled_from(sorted(WRONG)), min_size=1, max_size=2, unique=True)
    )
    wrong = {name: draw(st.sampled_from(WRONG[name])) for name in names}
    return WrongCall(wrong, draw(st.booleans()))
