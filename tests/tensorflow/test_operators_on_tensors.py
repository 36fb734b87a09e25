"""The package compares tensors, and takes their sizes, in ways that always mean the same.

After ``tf.compat.v1.disable_v2_behavior()``, ``disable_eager_execution()`` or
``disable_tensor_equality()``, and in any ``tf.Graph`` of a session, ``==`` on two tensors
is ``is``; ``tf.equal`` and ``tf.not_equal`` compare values everywhere. After
``disable_v2_tensorshape()`` ``tensor.shape[0]`` is a ``Dimension``; ``known_size`` gives an
int or None everywhere.
"""

from __future__ import annotations

import ast
import itertools
from collections import defaultdict
from collections.abc import Iterator

import pytest
import tensorflow as tf

from tests.support.checkout import ROOT

# Where TensorFlow is not imported there are no tensors.
SOURCES = {
    path.name: ast.parse(path.read_text())
    for path in sorted((ROOT / "python/negative_cosine").glob("*.py"))
    if "import tensorflow" in path.read_text()
}
PYTHON_TYPES = {"int", "float", "str", "bool", "None", "tuple", "list", "dict"}
PYTHON_ATTRIBUTES = {"dtype", "compute_dtype", "rank", "ndim", "num_replicas_in_sync"}


def is_python_type(annotation: ast.expr | None) -> bool:
    """Whether an annotation names Python's own types alone, as ``int | None`` does."""
    if annotation is None:
        return False
    nodes = [*ast.walk(annotation)]
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names <= PYTHON_TYPES and not any(isinstance(n, ast.Attribute) for n in nodes)


def functions_in(trees: Iterator[ast.AST]) -> Iterator[ast.FunctionDef]:
    """Every function and method."""
    for node in itertools.chain.from_iterable(map(ast.walk, trees)):
        if isinstance(node, ast.FunctionDef):
            yield node


FUNCTIONS_OF_PYTHON_VALUES = {
    function.name
    for function in functions_in(iter(SOURCES.values()))
    if is_python_type(function.returns)
}


def annotated_names(function: ast.FunctionDef) -> set[str]:
    """The arguments and variables that are annotated as Python values."""
    return {
        node.arg if isinstance(node, ast.arg) else ast.unparse(node.target)
        for node in ast.walk(function)
        if isinstance(node, (ast.arg, ast.AnnAssign)) and is_python_type(node.annotation)
    }


def is_tensorflow_dtype(node: ast.Attribute) -> bool:
    """Whether it is such a one as ``tf.int32``."""
    found = getattr(tf, node.attr, None)
    return ast.unparse(node) == f"tf.{node.attr}" and isinstance(found, tf.DType)


def shows_a_python_value(side: ast.expr, names: set[str]) -> bool:
    """Whether one side of a comparison says that the other is no tensor either."""
    match side:
        case ast.Constant(value=str()) | ast.Tuple():  # a text; the shape of an array
            return True
        case ast.Compare(ops=[ast.Is() | ast.IsNot()]):
            return True
        case ast.Attribute():
            return side.attr in PYTHON_ATTRIBUTES or is_tensorflow_dtype(side)
        case ast.Call(func=ast.Name(id=called)):
            return called == "len" or called in FUNCTIONS_OF_PYTHON_VALUES
        case ast.Name(id=name):
            return name in names
    return False


def suspicious_comparisons(tree: ast.Module) -> Iterator[str]:
    """``line: source`` of each ``==`` and ``!=`` that may compare tensors."""
    names: dict[ast.AST, set[str]] = defaultdict(set)
    for function in functions_in(iter([tree])):
        for node in ast.walk(function):
            names[node] |= annotated_names(function)
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = itertools.pairwise([node.left, *node.comparators])
            for operator, pair in zip(node.ops, sides, strict=True):
                if isinstance(operator, (ast.Eq, ast.NotEq)) and not any(
                    shows_a_python_value(side, names[node]) for side in pair
                ):
                    yield f"{node.lineno}: {ast.unparse(node)}"


def sizes_taken_from_shapes(tree: ast.Module) -> Iterator[str]:
    """``line: source`` of each ``tensor.shape[axis]``."""
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=ast.Attribute(attr="shape"), slice=index):
                if not isinstance(index, ast.Slice):
                    yield f"{node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("name", SOURCES)
def test_no_operator_compares_tensors_for_equality(name: str) -> None:
    assert [*suspicious_comparisons(SOURCES[name])] == []


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "_known_sizes.py"])
def test_no_size_is_taken_from_a_shape_that_may_hold_dimensions(name: str) -> None:
    assert [*sizes_taken_from_shapes(SOURCES[name])] == []


@pytest.mark.parametrize(
    "wrong",
    [
        "table != rows",
        "stats.positive_rank == 0",
        "tf.shape(vector)[0] == 3",
        "ids == tf.gather(ids, rows)",
        "rows == 0",
    ],
)
def test_a_comparison_of_tensors_would_be_seen(wrong: str) -> None:
    tree = ast.parse(f"def f(ids: tf.Tensor, rows: Any) -> Any:\n    return {wrong}")
    assert [*suspicious_comparisons(tree)] == [f"2: {wrong}"]


@pytest.mark.parametrize(
    "right",
    [
        "sampler == 'ring'",
        "ids.dtype == tf.int32",
        "tf.string != kind",
        "ids.shape.rank != 1",
        "len(ids) == rows",
        "known_size(ids, 0) == 0",
        "count == rows",
        "(ids is None) == (rows is None)",
    ],
)
def test_a_comparison_of_python_values_is_not(right: str) -> None:
    tree = ast.parse(f"def f(count: int | None) -> Any:\n    return {right}")
    assert [*suspicious_comparisons(tree)] == []


def test_a_size_from_a_shape_would_be_seen_and_a_part_of_a_shape_is_not() -> None:
    tree = ast.parse("size = ids.shape[0]\nrest = ids.shape[1:]\nnow = tf.shape(ids)[0]")
    assert [*sizes_taken_from_shapes(tree)] == ["1: ids.shape[0]"]
