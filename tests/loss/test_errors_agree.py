"""Python and C++ refuse the same arguments in the same words.

Each rule of an argument exists twice: in Python for what is known before a graph runs, and
in ``csrc/core/inputs.cc`` for what only the running op knows. A user may meet either, so
the texts are held equal here.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import _core, fused_negative_cosine_loss


def floats(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def integers(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.int64)


def valid() -> dict[str, Any]:
    return {
        "query": floats(3, 4),
        "doc": floats(5, 4),
        "num_negatives": 2,
        "seed": integers(2),
    }


def error_of_python(arguments: dict[str, Any]) -> str:
    """What tracing says, which knows the shapes and no values."""
    tensors = {
        name: tf.TensorSpec(value.shape, value.dtype)
        for name, value in arguments.items()
        if isinstance(value, np.ndarray)
    }
    rest = {name: value for name, value in arguments.items() if name not in tensors}
    loss = tf.function(
        lambda tensors: fused_negative_cosine_loss(**tensors, **rest), autograph=False
    )
    with pytest.raises(ValueError, match="got") as refusal:
        loss.get_concrete_function(tensors)
    return str(refusal.value)


def error_of_the_core(arguments: dict[str, Any]) -> str:
    with pytest.raises(ValueError, match="got") as refusal:
        _core.negative_cosine_loss(**arguments)
    return str(refusal.value)


def rule(text: str) -> str:
    """The argument and what it must be, without what was given."""
    return text.partition(", got ")[0]


def value(text: str) -> str:
    """What was given: without the fix, without remarks, shapes as the core writes them."""
    given = text.partition(", got ")[2].partition(";")[0].partition(" (num_negatives")[0]
    given = given.partition(" (sampler")[0]
    return re.sub(r"\((\d+(?:, \d+)*),?\)", r"[\1]", given)


def fix(text: str) -> str:
    return text.partition("; ")[2]


WRONG: list[dict[str, Any]] = [
    {"query": floats(4)},
    {"doc": floats(2, 5, 4)},
    {"doc": floats(5, 3)},
    {"doc": floats(2, 4)},
    {"query": floats(3, 0), "doc": floats(5, 0)},
    {"query": floats(0, 2**31), "doc": floats(0, 2**31)},
    {"query": np.ones([3, 4], np.int32), "doc": np.ones([5, 4], np.int32)},
    {"doc": np.ones([5, 4], np.float64)},
    {"num_negatives": 0},
    {"num_negatives": 2**31},
    {"num_negatives": None},
    {"num_negatives": 5, "sampler": "ring"},
    {"num_negatives": 3, "sampler": "all"},
    {"negative_indices": integers(3, 2)},
    {"num_negatives": None, "negative_indices": integers(2, 2)},
    {"num_negatives": None, "negative_indices": integers(3, 0)},
    {"num_negatives": None, "negative_indices": integers(6)},
    {"num_negatives": None, "negative_indices": floats(3, 2)},
    {"doc_ids": integers(3)},
    {"doc_ids": floats(5)},
    {"query_ids": integers(5)},
    {"query_ids": floats(3)},
    {"doc_log_q": floats(3)},
    {"sample_weight": floats(5)},
    {"sample_weight": floats(3, 1)},
    {"sampler": "random"},
    {"normalize_over": "row"},
    {"reduction": "max"},
]


@pytest.mark.parametrize("change", WRONG, ids=lambda change: ", ".join(change))
def test_a_rule_and_a_wrong_value_have_the_same_words(change: dict[str, Any]) -> None:
    arguments = {**valid(), **change}
    of_python, of_the_core = error_of_python(arguments), error_of_the_core(arguments)
    assert rule(of_the_core) == rule(of_python)
    assert value(of_the_core) == value(of_python)
    if fix(of_the_core):
        assert fix(of_the_core) == fix(of_python)


@pytest.mark.parametrize("seed", [integers(3), integers(0), integers(2, 1)])
def test_the_rule_of_the_seed_has_the_same_words(seed: np.ndarray) -> None:
    arguments = {**valid(), "seed": seed}
    assert rule(error_of_the_core(arguments)) == rule(error_of_python(arguments))


def test_more_documents_than_32_bits_count_are_refused_in_the_same_words() -> None:
    arguments = {**valid(), "doc": np.zeros([2**31, 1], np.float16)}  # never touched
    arguments["query"] = arguments["doc"][:3]
    assert error_of_the_core(arguments) == error_of_python(arguments)


FIXES = {
    "index": r"(pad short rows .*to_tensor\(-1\) for a ragged tensor)",
    "log_q": r"(minus infinity is .* above 0)",
    "scale": r"(training can push a value below 0: .*=True\))",
}


@pytest.mark.parametrize("wrong", FIXES)
def test_a_wrong_value_has_the_same_fix_in_the_op_and_the_reference(wrong: str) -> None:
    rows = tf.eye(3)
    arguments: dict[str, Any] = {
        "index": {"negative_indices": tf.constant([[1], [-1], [0]])},
        "log_q": {"num_negatives": 2, "doc_log_q": tf.constant([0.0, -np.inf, 0.0])},
        "scale": {"num_negatives": 2, "scale": tf.constant(-1.0)},
    }[wrong]

    def fix_of(implementation: str, compiled: bool) -> str:
        loss = tf.function(fused_negative_cosine_loss, jit_compile=compiled)
        with pytest.raises(tf.errors.OpError) as refusal:
            loss(rows, rows, **arguments, implementation=implementation)
        (found,) = re.findall(FIXES[wrong], str(refusal.value))
        return str(found)

    # Compiled, only the op sees a wrong scale.
    native = fix_of("native", compiled=wrong == "scale")
    assert native == fix_of("reference", compiled=False)


@pytest.mark.parametrize("wrong", ["index", "log_q"])
def test_a_wrong_value_breaks_the_same_rule_in_the_op_and_the_reference(wrong: str) -> None:
    rows = tf.eye(3)
    arguments: dict[str, Any] = {
        "index": {"negative_indices": tf.constant([[1], [-1], [0]])},
        "log_q": {"num_negatives": 2, "doc_log_q": tf.constant([0.0, -np.inf, 0.0])},
    }[wrong]

    def rule_of(implementation: str) -> str:
        with pytest.raises(tf.errors.InvalidArgumentError) as refusal:
            fused_negative_cosine_loss(
                rows, rows, **arguments, implementation=implementation
            )
        (found,) = re.findall(
            r"((?:negative_indices|doc_log_q) must be .*?)[,;] got", str(refusal.value)
        )
        return str(found).replace("[0, 3)", "[0, C)")  # the reference adds C's value

    assert rule_of("native") == rule_of("reference")
