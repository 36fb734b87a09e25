"""What the design promises whatever the machine: passes, memory, layers."""

from __future__ import annotations

import collections
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from negative_cosine import _gradient, _loader, _native, fused_negative_cosine_loss

from tests.support.checkout import ROOT

B, C, D, K = 64, 80, 8, 50
OPENMP = (b"libgomp", b"libomp", b"libiomp")


def graph_of_a_step(**candidates: Any) -> tf.Graph:
    """A traced training step."""

    def step(query: tf.Tensor, doc: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([query, doc])
            loss = fused_negative_cosine_loss(
                query, doc, implementation="native", **candidates
            )
        return loss, tape.gradient(loss, [query, doc])

    function = tf.function(step, autograph=False)
    return function.get_concrete_function(tf.ones([B, D]), tf.ones([C, D])).graph


@pytest.mark.parametrize("sampler", ["shuffle", "ring"])
def test_a_training_step_is_one_op_forward_and_one_back(sampler: str) -> None:
    graph = graph_of_a_step(num_negatives=K, sampler=sampler)
    types = [op.type for op in graph.get_operations()]
    assert types.count("NegativeCosineLoss") == 1
    assert types.count("NegativeCosineLossGrad") == 1


class CallCounter:
    """The library's ops, counting the calls of each."""

    def __init__(self, ops: Any) -> None:
        self._ops = ops
        self.calls: collections.Counter[str] = collections.Counter()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self._ops, name)


@pytest.mark.parametrize("sampler", ["shuffle", "ring"])
def test_in_eager_mode_too_a_step_is_one_op_forward_and_one_back(
    sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = _loader.native_library()
    counter = CallCounter(library.ops)
    counting = dataclasses.replace(library, ops=counter)
    for module in (_native, _gradient):
        monkeypatch.setattr(module, "native_library", lambda: counting)
    query, doc = tf.ones([B, D]), tf.ones([C, D])
    with tf.GradientTape() as tape:
        tape.watch([query, doc])
        loss = fused_negative_cosine_loss(
            query, doc, K, sampler=sampler, implementation="native"
        )
    tape.gradient(loss, [query, doc])
    assert counter.calls == {"negative_cosine_loss": 1, "negative_cosine_loss_grad": 1}


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_beside_the_loss_a_graph_has_its_seed_and_six_numbers(dtype: tf.DType) -> None:
    function = tf.function(
        lambda query, doc: fused_negative_cosine_loss(
            query, doc, K, implementation="native"
        ),
        autograph=False,
    )
    specs = tf.TensorSpec([B, D], dtype), tf.TensorSpec([C, D], dtype)
    graph = function.get_concrete_function(*specs).graph
    types = collections.Counter(op.type for op in graph.get_operations())
    assert types == {
        "Placeholder": 2,
        "RandomUniformInt": 1,
        # The seed's shape and range; the logit scale; the margin; the negatives' weight.
        "Const": 6,
        "NegativeCosineLoss": 1,
        "Identity": 1,  # the function's result
    }


@pytest.mark.parametrize("sampler", ["shuffle", "ring"])
def test_no_tensor_of_a_training_step_has_the_size_of_the_candidates(sampler: str) -> None:
    for op in graph_of_a_step(num_negatives=K, sampler=sampler).get_operations():
        for output in op.outputs:
            assert output.shape.num_elements() < B * K, output


def test_with_indices_only_the_callers_table_has_that_size() -> None:
    table = tf.zeros([B, K], tf.int32)
    for op in graph_of_a_step(negative_indices=table).get_operations():
        for output in op.outputs:
            if output.shape.num_elements() >= B * K:
                assert output.dtype == tf.int32, output


def outputs_that_were_computed(with_gradient: bool) -> set[int]:
    """The outputs of the forward op that a session allocated."""
    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        query, doc = tf.ones([B, D]), tf.ones([C, D])
        loss = fused_negative_cosine_loss(query, doc, K, implementation="native")
        fetches = tf1.gradients(loss, [query, doc]) if with_gradient else [loss]
        options = tf1.RunOptions(trace_level=tf1.RunOptions.FULL_TRACE)
        metadata = tf1.RunMetadata()
        session.run(fetches, options=options, run_metadata=metadata)
    return {
        output.slot
        for device in metadata.step_stats.dev_stats
        for node in device.node_stats
        if node.node_name == "NegativeCosineLoss"
        for output in node.output
    }


def test_an_evaluation_does_not_compute_the_gradients_direction() -> None:
    query_direction = 6
    assert query_direction in outputs_that_were_computed(with_gradient=True)
    assert query_direction not in outputs_that_were_computed(with_gradient=False)


def sources(folder: str) -> list[Path]:
    """The files of a folder of csrc, at any depth."""
    found = [path for path in (ROOT / "csrc" / folder).rglob("*") if path.is_file()]
    assert found, folder
    return found


@pytest.mark.parametrize("folder", ["core", "cpu", "cuda", "numpy"])
def test_only_the_op_layer_knows_tensorflow(folder: str) -> None:
    for path in sources(folder):
        includes = re.findall(r'#include\s*["<]([^">]+)', path.read_text())
        foreign = ("tensorflow/", "xla/", "Eigen", "unsupported/")
        assert not [name for name in includes if name.startswith(foreign)], path


def test_the_core_knows_no_layer_above_it() -> None:
    for path in sources("core"):
        includes = re.findall(r'#include\s*"([^"]+)', path.read_text())
        assert all(name.startswith("core/") for name in includes), path


def test_no_cuda_source_includes_tensorflow() -> None:
    for path in [*ROOT.glob("csrc/**/*.cu"), *ROOT.glob("csrc/**/*.cuh")]:
        assert "tensorflow" not in path.read_text(), path


def test_shared_memory_is_made_of_elements_that_the_emulator_checks() -> None:
    for path in sources("cuda"):
        for declared in re.findall(r"__shared__\s+(\w+)", path.read_text()):
            # What a launch asks for; the emulator has arrays of its own in its place.
            is_launchs = (path.name, declared) == ("shared_arrays.cuh", "__align__")
            assert is_launchs or declared == "SharedElement", path


def test_no_library_needs_openmp() -> None:
    libraries = [*_loader.native_library().path.parent.glob("*.so")]
    assert len(libraries) > 2
    for library in libraries:
        content = library.read_bytes()
        assert not [name for name in OPENMP if name in content], library


def test_public_names_are_those_of_the_specification() -> None:
    import negative_cosine

    assert set(negative_cosine.__all__) == {
        "DocumentFrequency",
        "DocumentQueue",
        "NegativeCosineLayer",
        "NegativeCosineLoss",
        "NegativeCosineStats",
        "RetrievalMetrics",
        "fused_negative_cosine_loss",
        "hardest_negatives",
        "mean_reciprocal_rank",
        "ndcg_at_k",
        "recall_at_k",
        "reference_negative_cosine_loss",
        "retrieval_ranks",
        "sample_negatives",
        "top_documents",
    }


def shapes_in_a_graph(*sizes: Any, **options: Any) -> tuple[Any, Any, Any]:
    """The static shapes of the loss and the two gradients for sizes that may be None."""
    rows, docs, dim = sizes

    def step(query: tf.Tensor, doc: tf.Tensor) -> Any:
        loss = fused_negative_cosine_loss(query, doc, 3, implementation="native", **options)
        return loss, tf.gradients(loss, [query, doc])

    specs = [tf.TensorSpec([rows, dim]), tf.TensorSpec([docs, dim])]
    graph = tf.function(step, autograph=False).get_concrete_function(*specs)
    loss, (by_query, by_doc) = graph.structured_outputs
    return loss.shape.as_list(), by_query.shape.as_list(), by_doc.shape.as_list()


@pytest.mark.parametrize("rows", [None, 4])
@pytest.mark.parametrize("docs", [None, 6])
@pytest.mark.parametrize("dim", [None, 8])
def test_shapes_are_inferred_as_far_as_they_are_known(
    rows: int | None, docs: int | None, dim: int | None
) -> None:
    loss, by_query, by_doc = shapes_in_a_graph(rows, docs, dim)
    assert (loss, by_query, by_doc) == ([], [rows, dim], [docs, dim])
    loss, *_ = shapes_in_a_graph(rows, docs, dim, reduction="none")
    assert loss == [rows]


def test_one_known_embedding_size_tells_the_other() -> None:
    step = tf.function(
        lambda query, doc: tf.gradients(
            fused_negative_cosine_loss(query, doc, 3, implementation="native"), [query]
        ),
        autograph=False,
    )
    graph = step.get_concrete_function(tf.TensorSpec([4, None]), tf.TensorSpec([4, 8]))
    assert graph.structured_outputs[0].shape.as_list() == [4, 8]
