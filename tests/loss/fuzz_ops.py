"""The registered ops with any inputs and attributes; run by test_fuzz.py, by itself.

This is what a SavedModel may hold: the package's own checks in Python do not stand before
it. Whatever it is, the process lives on, and what is wrong is an error by name.
"""

from __future__ import annotations

import functools
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from negative_cosine import fused_negative_cosine_loss
from negative_cosine._loader import native_library, xla_kernel_available

from tests.loss.strategies import DIM, DOCS, PROFILES, ROWS, K, fuzz
from tests.support.cases import Array

OPS: Any = native_library().ops
GIBIBYTE = 2**30

# What an op may say, and nothing else. ValueError: of a graph's shapes and attributes.
REFUSALS = (
    tf.errors.InvalidArgumentError,
    tf.errors.ResourceExhaustedError,
    ValueError,
    TypeError,
)


def address_space() -> int:
    """Bytes of virtual memory in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def limit_memory(spare: int) -> None:
    """Lets the process have ``spare`` bytes more."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + spare, hard))


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """Memory for what the tests need: what a wrong size asks for is not to be had."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit_memory(6 * GIBIBYTE)
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


# --- The loss, and its gradient with what the loss saved. ------------------------------

OPTIONAL = ("seed", "negative_indices", "doc_ids", "query_ids", "doc_log_q")


@dataclass
class OpCall:
    """Inputs by name (optional ones are lists) and attributes of an op."""

    inputs: dict[str, Any]
    attributes: dict[str, Any]
    saved: dict[str, Any]  # the gradient's further inputs, by name
    changed: list[str]
    compiled: bool


def valid_inputs(table: bool, real: Any = np.float32) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        "query": random.normal(size=(ROWS, DIM)).astype(real),
        "doc": random.normal(size=(DOCS, DIM)).astype(real),
        "logit_scale": np.array(20, real),
        "margin": np.array(0.1, real),
        "negative_weight": np.array(2.5, real),
        "seed": [] if table else [np.array([1, 2])],
        "negative_indices": [random.integers(0, DOCS, (ROWS, K))] if table else [],
        "doc_ids": [np.arange(DOCS)],
        "query_ids": [np.arange(ROWS, dtype=np.int32)],
        "doc_log_q": [np.zeros(DOCS, real)],
        "sample_weight": [np.ones(ROWS, real)],
    }


def valid_attributes(table: bool) -> dict[str, Any]:
    return {
        "num_negatives": 0 if table else K,
        "sampler": "shuffle",
        "mask_self": True,
        "normalize_over": "candidates",
        "reduction": "mean",
    }


def valid_saved(real: Any = np.float32) -> dict[str, Any]:
    return {
        "loss_gradient": np.array(1, real),
        "row_loss": np.ones(ROWS, real),
        "saved_rows": np.ones((ROWS, 4), real),
        "doc_inverse_norm": np.ones(DOCS, real),
        "row_scale_gradient": np.ones(ROWS, real),
        "query_direction": np.ones((ROWS, DIM), real),
    }


CHANGES: list[Callable[[Array], Array]] = [
    lambda array: array.reshape(-1)[:0],
    lambda array: array[..., :0] if array.ndim else array,
    lambda array: array[np.newaxis],
    lambda array: array[..., np.newaxis],
    lambda array: array.reshape(-1)[0],
    lambda array: array.reshape(-1),
    lambda array: array.reshape(-1)[:1],
    lambda array: array[:-1] if array.ndim else array,
    lambda array: np.concatenate([array, array]) if array.ndim else np.ones(2, array.dtype),
    lambda array: (
        np.resize(array, (*array.shape[:-1], array.shape[-1] + 1)) if array.ndim else array
    ),
    lambda array: array.T,
    lambda array: np.zeros((0, 2**40), array.dtype),
    lambda array: np.zeros((2**40, 0), array.dtype),
    lambda array: np.full_like(array, -1),
    lambda array: np.full_like(array, 2**31 - 1),
    lambda array: np.full_like(array, np.nan if array.dtype.kind == "f" else 2**31 - 1),
    lambda array: np.full_like(array, np.inf if array.dtype.kind == "f" else -(2**31)),
    lambda array: array.astype(np.int32 if array.dtype.kind == "i" else np.float64),
    lambda array: array.astype(np.float16),
]

ATTRIBUTES: dict[str, list[Any]] = {
    "num_negatives": [0, 1, -1, DOCS - 1, DOCS, 2**31 - 1, 2**31, 2**63 - 1, -(2**63)],
    "sampler": ["shuffle", "ring", "all", "other", ""],
    "mask_self": [True, False],
    "normalize_over": ["candidates", "batch", "none"],
    "reduction": ["mean", "sum", "none", "\0"],
}


@st.composite
def op_calls(draw: st.DrawFn, compiled: bool) -> OpCall:
    """A valid call with one to three changes."""
    table = draw(st.booleans())
    inputs, attributes, saved = valid_inputs(table), valid_attributes(table), valid_saved()
    names = [*inputs, *attributes, *saved]
    changed = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    for name in changed:
        if name in attributes:
            attributes[name] = draw(st.sampled_from(ATTRIBUTES[name]))
        elif isinstance(inputs.get(name), list):
            array = draw(st.sampled_from(CHANGES))((inputs[name] or [np.zeros(2, int)])[0])
            inputs[name] = [array] * draw(st.sampled_from([0, 1, 1, 1, 2]))
        else:
            arrays = inputs if name in inputs else saved
            arrays[name] = draw(st.sampled_from(CHANGES))(arrays[name])
    return OpCall(inputs, attributes, saved, changed, compiled)


def run(call: OpCall, op: str) -> Any:
    """Runs the loss or its gradient, eagerly or compiled."""
    inputs = {**call.inputs, **(call.saved if op == "gradient" else {})}
    numbers = {name: inputs.pop(name) for name in ("margin", "negative_weight")}
    function = (
        OPS.negative_cosine_loss_grad if op == "gradient" else OPS.negative_cosine_loss
    )

    def step(inputs: dict[str, Any]) -> Any:
        # XLA takes them as constants of the program.
        constants = {name: tf.constant(number) for name, number in numbers.items()}
        return function(**inputs, **constants, **call.attributes)

    step_of_mode = (
        tf.function(step, jit_compile=True, autograph=False) if call.compiled else step
    )
    return tf.nest.map_structure(
        np.asarray, step_of_mode(tf.nest.map_structure(tf.constant, inputs))
    )


def check_sizes(call: OpCall, outputs: Any) -> None:
    """What an accepted call returns has the sizes of its inputs."""
    rows, docs = len(call.inputs["query"]), len(call.inputs["doc"])
    fields = outputs._asdict()
    expected = {
        "row_loss": (rows,),
        "saved_rows": (rows, 4),
        "doc_inverse_norm": (docs,),
        "query_gradient": call.inputs["query"].shape,
        "doc_gradient": call.inputs["doc"].shape,
    }
    names = expected.keys() & fields.keys()
    assert names
    for name in names:
        assert fields[name].shape == expected[name], name


def check_ops(call: OpCall) -> None:
    # A change of one, say of the reduction, may make another one wrong.
    names = [*call.inputs, *call.saved, *call.attributes, "input", "Real"]
    for op in ("loss", "gradient"):
        try:
            outputs = run(call, op)
        except tf.errors.InvalidArgumentError as error:
            message = str(error)
        except REFUSALS:
            continue
        else:
            check_sizes(call, outputs)
            continue
        assert any(name in message for name in names), message


@PROFILES
def test_any_inputs_give_results_of_their_sizes_or_an_error(profile: str) -> None:
    fuzz(profile, check_ops, op_calls(compiled=False), 400)


@PROFILES
def test_compiled_too(profile: str) -> None:
    assert xla_kernel_available()
    fuzz(profile, check_ops, op_calls(compiled=True), 25)


# --- Graphs from elsewhere. ------------------------------------------------------------


@functools.cache
def training_graph(source: str) -> Any:
    """A training step as a graph's definition, as a SavedModel holds it."""

    def step(query: tf.Tensor, doc: tf.Tensor, table: tf.Tensor) -> Any:
        candidates: dict[str, Any] = (
            {"negative_indices": table}
            if source == "indices"
            else {"num_negatives": K, "seed": (1, 2)}
        )
        loss, statistics = fused_negative_cosine_loss(
            query,
            doc,
            **candidates,
            doc_ids=tf.range(tf.shape(doc)[0]),
            sample_weight=tf.ones(tf.shape(query)[0]),
            return_stats=True,
            implementation="native",
        )
        return [loss, *tf.gradients(loss, [query, doc]), *statistics]

    function = tf.function(step, autograph=False).get_concrete_function(
        tf.TensorSpec([None, None], name="query"),
        tf.TensorSpec([None, None], name="doc"),
        tf.TensorSpec([None, None], tf.int32, name="table"),
    )
    return function.graph.as_graph_def()


INTEGERS = st.sampled_from([0, 1, 2, 3, -1, 7, 2**31 - 1, 2**31, 2**40, 2**63 - 1])
# For billions of inputs TensorFlow itself fills the memory, whichever the op.
LENGTHS = st.integers(-1, 3)
TYPES = st.sampled_from(
    [tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.int32, tf.int64, tf.string]
)
TEXTS = st.sampled_from([b"ring", b"all", b"none", b"sum", b"batch", b"", b"\xff", b"x"])


@dataclass
class GraphCall:
    """A graph with other attributes than were saved, and what is fed to it."""

    graph: Any
    feeds: dict[str, Array]
    changed: list[str]

    def __repr__(self) -> str:
        return f"GraphCall({self.changed}, {self.feeds})"


@st.composite
def graph_calls(draw: st.DrawFn) -> GraphCall:
    """One to four attributes of the loss or its gradient are others."""
    graph = tf.compat.v1.GraphDef()
    graph.CopyFrom(training_graph(draw(st.sampled_from(["shuffle", "indices"]))))
    nodes = [node for node in graph.node if node.op.startswith("NegativeCosine")]
    assert len(nodes) == 2
    changed = []
    for _ in range(draw(st.integers(1, 4))):
        node = draw(st.sampled_from(nodes))
        name = draw(st.sampled_from(sorted(node.attr)))
        value = node.attr[name]
        kind = value.WhichOneof("value")
        if kind == "i":
            is_length = name.startswith("num_") and name != "num_negatives"
            value.i = draw(LENGTHS if is_length else INTEGERS)
        elif kind == "b":
            value.b = not value.b
        elif kind == "s":
            value.s = draw(TEXTS)
        elif kind == "type":
            value.type = draw(TYPES).as_datatype_enum
        changed.append(f"{node.op}.{name}")
    random = np.random.default_rng(0)
    rows = draw(st.sampled_from([0, 1, ROWS]))
    feeds = {
        "query": random.normal(size=(rows, DIM)).astype(np.float32),
        "doc": random.normal(size=(draw(st.sampled_from([rows, DOCS])), DIM)),
        "table": draw(
            st.sampled_from([np.zeros((rows, K), np.int32), np.full((rows, K), DOCS)])
        ),
    }
    return GraphCall(graph, feeds, changed)


def check_graph(call: GraphCall) -> None:
    with tf.Graph().as_default() as graph:
        try:
            tf.graph_util.import_graph_def(call.graph, name="")
            gradient = next(
                node for node in call.graph.node if node.op == "NegativeCosineLossGrad"
            )
            fetches = [f"{gradient.name}:{output}" for output in range(4)]
            feeds = {f"{name}:0": value for name, value in call.feeds.items()}
            with tf.compat.v1.Session(graph=graph) as session:
                outputs = session.run(fetches, feeds)
        except REFUSALS:
            return
    assert outputs[0].shape == call.feeds["query"].shape
    assert outputs[1].shape == call.feeds["doc"].shape


@PROFILES
def test_a_graph_with_other_attributes_runs_or_is_refused(profile: str) -> None:
    fuzz(profile, check_graph, graph_calls(), 150)


# --- What was found so. ----------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "compiled"])
def test_a_thread_without_memory_is_an_error_and_not_the_end(compiled: bool) -> None:
    # A row's list of candidates takes 8 bytes each, and the table 4: the list does not fit.
    table = tf.zeros([1, GIBIBYTE // 8], tf.int32)

    @tf.function(jit_compile=compiled, autograph=False)
    def loss(table: tf.Tensor) -> Any:
        return fused_negative_cosine_loss(
            tf.ones([1, 4]),
            tf.ones([2, 4]),
            negative_indices=table,
            implementation="native",
        )

    few = tf.zeros([1, 3], tf.int32)
    before = loss(few)
    loss.get_concrete_function(table)
    limit_memory(GIBIBYTE // 2)
    with pytest.raises(tf.errors.ResourceExhaustedError, match="could not allocate"):
        loss(table)
    np.testing.assert_array_equal(loss(few), before)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize(
    "name", ["row_loss", "saved_rows", "doc_inverse_norm", "row_scale_gradient"]
)
def test_a_saved_tensor_of_another_length_is_refused_by_name(
    name: str, compiled: bool
) -> None:
    saved = valid_saved()
    saved[name] = saved[name][:-1]
    call = OpCall(valid_inputs(False), valid_attributes(False), saved, [name], compiled)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name} must have"):
        run(call, "gradient")
