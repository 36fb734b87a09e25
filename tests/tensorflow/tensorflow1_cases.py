"""The loss in graphs of TensorFlow 1's kind, and in programs with its switches.

``test_tensorflow1_graphs.py`` runs this file, once for each line of ``PROGRAMS``: the
switches are for a whole process, and most go only one way. After some of them ``==`` on
two tensors asks whether they are one object, and a known size is a ``Dimension``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss, sample_negatives

from tests.support import oracle
from tests.support.cases import (
    Array,
    Batch,
    assert_gradients_close,
    assert_values_close,
    run_oracle,
)

v1 = tf.compat.v1

PROGRAMS = {
    "a session in a program of TensorFlow 2": ["session"],
    "eager execution off": ["session", "disable_eager_execution"],
    "every behaviour of TensorFlow 2 off": ["session", "disable_v2_behavior"],
    "tensors compared by identity": ["disable_tensor_equality"],
    "sizes as Dimension, control flow of TensorFlow 1": [
        "disable_v2_tensorshape",
        "disable_control_flow_v2",
        "disable_resource_variables",
    ],
}
PROGRAM = os.environ.get("TENSORFLOW1_PROGRAM", next(iter(PROGRAMS)))
for switch in PROGRAMS[PROGRAM]:
    if switch != "session":
        getattr(v1, switch)()

Arrays = dict[str, Any]
Build = Callable[[dict[str, tf.Tensor]], Any]


def run(build: Build, arrays: Arrays, sizes_known: bool = False, times: int = 1) -> Any:
    """What ``build`` makes of tensors with these values, as arrays, of the last run."""
    shapes = {
        name: list(array.shape) if sizes_known else [None] * array.ndim
        for name, array in arrays.items()
    }
    if "session" in PROGRAMS[PROGRAM]:
        return run_in_session(build, arrays, shapes, times)
    signature = {
        name: tf.TensorSpec(shapes[name], array.dtype) for name, array in arrays.items()
    }
    function = tf.function(build, input_signature=[signature], autograph=False)
    tensors = {name: tf.constant(array) for name, array in arrays.items()}
    return [tf.nest.map_structure(np.asarray, function(tensors)) for _ in range(times)][-1]


def run_in_session(build: Build, arrays: Arrays, shapes: Arrays, times: int) -> Any:
    """The same by a session that feeds placeholders."""
    with tf.Graph().as_default(), v1.Session() as session:
        fed = {
            name: v1.placeholder(array.dtype, shapes[name])
            for name, array in arrays.items()
        }
        fetches = build(fed)
        session.run(v1.global_variables_initializer())
        feeds = {fed[name]: array for name, array in arrays.items()}
        return [session.run(fetches, feeds) for _ in range(times)][-1]


def arrays_of(batch: Batch, options: dict[str, Any]) -> Arrays:
    """What the loss takes as tensors."""
    given = {name: value for name, value in options.items() if np.ndim(value)}
    return {
        "query": batch.query,
        "doc": batch.doc,
        "scale": batch.real(options.get("scale", 20.0)),
        "temperature": batch.real(options.get("temperature", 1.0)),
        **given,
    }


def candidates_of(batch: Batch, source: str) -> dict[str, Any]:
    """The arguments that choose the candidates."""
    if source == "indices":
        return {"negative_indices": batch.indices}
    if source == "all":
        return {"sampler": "all"}
    return {"num_negatives": batch.k, "sampler": source, "seed": batch.seed}


def everything(batch: Batch, options: dict[str, Any], **fixed: Any) -> Build:
    """The loss, its statistics and its gradients, of tensors by name."""
    settings = {name: value for name, value in options.items() if not np.ndim(value)}

    def build(tensors: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        loss, stats = fused_negative_cosine_loss(
            **{**settings, **fixed, **tensors}, return_stats=True
        )
        names = ["query", "doc", "scale", "temperature"]
        names += ["sample_weight"] if "sample_weight" in tensors else []
        gradients = tf.gradients(loss, [tensors[name] for name in names])
        by_name = {
            f"{name}_gradient": tf.convert_to_tensor(gradient)
            for name, gradient in zip(names, gradients, strict=True)
        }
        return {"loss": loss, **stats._asdict(), **by_name}

    return build


OPTIONS: dict[str, Any] = {
    "no options": [],
    "over the batch": ["normalize_over", "doc_log_q", "reduction"],
    "over the candidates, all else": [
        "scale",
        "temperature",
        "margin",
        "negative_weight",
        "mask_self",
        "doc_ids",
        "query_ids",
        "doc_log_q",
        "sample_weight",
        "reduction",
    ],
}
IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["native", "reference"])


@IMPLEMENTATIONS
@pytest.mark.parametrize(
    ("source", "sizes_known"),
    [
        ("shuffle", False),
        ("ring", False),
        ("all", False),
        ("indices", False),
        ("ring", True),
        ("indices", True),
    ],
)
@pytest.mark.parametrize("names", OPTIONS.values(), ids=OPTIONS)
def test_values_statistics_and_gradients_are_the_judges(
    names: list[str], source: str, sizes_known: bool, implementation: str
) -> None:
    batch = Batch((6, 9, 5, 4), "float32")
    options = batch.only(*names)
    build = everything(
        batch, options, **candidates_of(batch, source), implementation=implementation
    )
    results = run(build, arrays_of(batch, options), sizes_known)
    expected = run_oracle(batch, source, options)
    assert_values_close(results, expected, "float32")
    assert_gradients_close(results, expected, "float32")


def rows(*shape: int) -> Array:
    """Embeddings of ones."""
    return np.ones(shape, np.float32)


def integers(*shape: int) -> Array:
    """Ids, indices or seeds of zeros."""
    return np.zeros(shape, np.int64)


WRONG = [
    ({"doc": rows(5, 3)}, "doc must have query.{1,3}s embedding size"),
    ({"doc": rows(2, 4)}, "doc must have at least as many rows as query"),
    ({"doc_ids": integers(3)}, "doc_ids must have"),
    ({"query_ids": integers(5)}, "query_ids must have"),
    ({"sample_weight": rows(5)}, "sample_weight must have"),
    ({"doc_log_q": rows(3)}, "doc_log_q must have"),
    ({"seed": integers(3)}, "seed must .*two integers"),
    ({"negative_indices": integers(2, 2)}, "negative_indices must have shape"),
    ({"negative_indices": integers(3, 2) + 5}, r"(?s)negative_indices must be in \[0, .*5"),
]


@IMPLEMENTATIONS
@pytest.mark.parametrize(("change", "message"), WRONG, ids=[m for _, m in WRONG])
def test_what_is_wrong_is_named_where_the_graph_runs(
    change: dict[str, Array], message: str, implementation: str
) -> None:
    drawn: dict[str, Any] = {"num_negatives": 2, "seed": (1, 2)}
    if "negative_indices" in change:
        drawn = {}

    def build(tensors: dict[str, tf.Tensor]) -> tf.Tensor:
        return fused_negative_cosine_loss(
            **{**drawn, **tensors}, implementation=implementation
        )

    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        run(build, {"query": rows(3, 4), "doc": rows(5, 4), **change})


@IMPLEMENTATIONS
def test_more_candidates_than_a_ring_has_are_refused_with_the_way_out(
    implementation: str,
) -> None:
    def build(tensors: dict[str, tf.Tensor]) -> tf.Tensor:
        return fused_negative_cosine_loss(
            **tensors,
            num_negatives=20,
            sampler="ring",
            seed=(1, 2),
            implementation=implementation,
        )

    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"(?s)num_negatives must.*drop_remainder=True"
    ):
        run(build, {"query": rows(6, 4), "doc": rows(6, 4)})


@IMPLEMENTATIONS
def test_an_empty_batch_has_loss_zero(implementation: str) -> None:
    batch = Batch((6, 9, 5, 4), "float32")
    build = everything(
        batch, {}, num_negatives=20, sampler="ring", implementation=implementation
    )
    arrays = {**arrays_of(batch, {}), "query": rows(0, 5), "doc": rows(0, 5)}
    for sizes_known in (False, True):
        results = run(build, arrays, sizes_known)
        assert results["loss"] == 0
        assert results["query_gradient"].shape == (0, 5)


@IMPLEMENTATIONS
def test_variables_are_taken_and_get_gradients(implementation: str) -> None:
    batch = Batch((6, 9, 5, 4), "float32")
    arrays = {**arrays_of(batch, {}), "doc_ids": batch.options["doc_ids"]}
    variables: list[Any] = []

    def build(_: Any) -> dict[str, tf.Tensor]:
        made = {**arrays, "seed": np.array(batch.seed)}
        if not variables:  # a tf.function is traced more often than once
            variables.append({name: v1.Variable(value) for name, value in made.items()})
        loss = everything(batch, {}, num_negatives=batch.k, implementation=implementation)
        return loss(variables[0])

    results = run(build, {"query": batch.query})
    expected = run_oracle(batch, "shuffle", batch.only("doc_ids"))
    assert_values_close(results, expected, "float32")
    assert_gradients_close(results, expected, "float32")


@IMPLEMENTATIONS
def test_the_loss_stands_in_a_branch_of_the_graph(implementation: str) -> None:
    batch = Batch((6, 9, 5, 4), "float32")
    options = batch.only("doc_ids")
    inside = everything(
        batch, options, **candidates_of(batch, "shuffle"), implementation=implementation
    )

    def build(tensors: dict[str, tf.Tensor]) -> Any:
        found = inside(tensors)
        loss = tf.cond(
            tf.shape(tensors["query"])[0] > 0,
            lambda: inside(tensors)["loss"],
            lambda: tf.constant(-1.0),
        )
        return {**found, "loss": loss}

    results = run(build, arrays_of(batch, options))
    assert_values_close(results, run_oracle(batch, "shuffle", options), "float32")


@IMPLEMENTATIONS
def test_without_a_seed_each_run_draws_anew(implementation: str) -> None:
    batch = Batch((37, 41, 5, 4), "float32")
    build = everything(batch, {}, num_negatives=4, implementation=implementation)
    arrays = arrays_of(batch, {})
    losses = {float(run(build, arrays, times=times)["loss"]) for times in (1, 2, 3)}
    assert len(losses) == 3


@pytest.mark.parametrize("sampler", ["shuffle", "ring", "all"])
def test_sample_negatives_takes_the_sizes_of_a_graph(sampler: str) -> None:
    def build(tensors: dict[str, tf.Tensor]) -> tf.Tensor:
        sizes = tf.shape(tensors["query"])[0], tf.shape(tensors["doc"])[0]
        return sample_negatives(*sizes, None if sampler == "all" else 4, sampler, (1, 2))

    drawn = run(build, {"query": rows(6, 4), "doc": rows(9, 4)})
    k = 8 if sampler == "all" else 4
    np.testing.assert_array_equal(drawn, oracle.sample_negatives(6, 9, k, sampler, (1, 2)))
