"""Everything wrong is refused before any work, by name (SPEC section 8)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss, sample_negatives

IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["native", "reference"])


def valid() -> dict[str, Any]:
    return {"query": tf.ones([3, 4]), "doc": tf.ones([5, 4]), "num_negatives": 2}


WRONG = [
    ({"query": tf.ones([4])}, r"query must have two dimensions.*\(4,\)"),
    ({"doc": tf.ones([2, 5, 4])}, r"doc must have two dimensions.*\(2, 5, 4\)"),
    (
        {"doc": tf.ones([5, 3])},
        r"doc must have query's embedding size 4, got.*\(5, 3\)",
    ),
    (
        {"doc": tf.ones([2, 4])},
        "doc must have at least as many rows as query.* 3, got 2",
    ),
    (
        {"query": tf.ones([3, 0]), "doc": tf.ones([5, 0])},
        "query must have at least one",
    ),
    (
        {"doc": tf.ones([5, 4], tf.float64)},
        "doc must have query's dtype float32, got f.*64",
    ),
    ({"query": tf.ones([3, 4], tf.int32)}, "query must be one of float16.*, got int32"),
    ({"num_negatives": 0}, "num_negatives must be an integer of at least 1.*, got 0"),
    ({"num_negatives": 2.0}, "num_negatives must be an integer of at least 1.*, got 2.0"),
    (
        {"num_negatives": True},
        "num_negatives must be an integer of at least 1.*, got True",
    ),
    (
        {"num_negatives": 5, "sampler": "ring"},
        "at most C - 1 for sampler='ring'.*5.*got 5",
    ),
    (
        {"num_negatives": 3, "sampler": "all"},
        "None or C - 1 for sampler='all'.*5.*got 3",
    ),
    ({"num_negatives": None}, "num_negatives or negative_indices, got neither"),
    ({"negative_indices": tf.zeros([3, 2], tf.int32)}, "got both.*num_negatives=2"),
    (
        {"num_negatives": None, "negative_indices": tf.zeros([2, 2], tf.int32)},
        r"negative_indices must have shape \[B, K\] with B = 3.*\(2, 2\)",
    ),
    (
        {"num_negatives": None, "negative_indices": tf.zeros([3, 0], tf.int32)},
        r"negative_indices must have shape \[B, K\].*\(3, 0\)",
    ),
    (
        {"num_negatives": None, "negative_indices": tf.zeros([3, 2])},
        "negative_indices must be int32 or int64, got float32",
    ),
    ({"doc_ids": tf.zeros([3], tf.int32)}, r"doc_ids must have shape \[5\].*\(3,\)"),
    ({"doc_ids": tf.zeros([5])}, "doc_ids must be int32 or int64, got float32"),
    (
        {"doc_ids": ["a", "b", "b", "c", "d"]},
        r"doc_ids must be int32 or int64, got string; tf.unique\(doc_ids\).idx numbers",
    ),
    (
        {"query_ids": tf.zeros([5], tf.int32)},
        r"query_ids must have shape \[3\].*\(5,\)",
    ),
    ({"sample_weight": tf.zeros([5])}, r"sample_weight must have shape \[3\].*\(5,\)"),
    (
        {"sample_weight": tf.zeros([3], tf.int32)},
        "sample_weight must be floating-point",
    ),
    ({"doc_log_q": tf.zeros([3])}, r"doc_log_q must have shape \[5\].*\(3,\)"),
    ({"scale": 0}, "scale must be a finite number above 0, got 0"),
    ({"scale": -1.0}, "scale must be a finite number above 0, got -1.0"),
    ({"temperature": 0.0}, "temperature must be a finite number above 0, got 0.0"),
    (
        {"temperature": float("nan")},
        "temperature must be a finite number above 0, got nan",
    ),
    ({"scale": tf.ones([2])}, r"scale must be a number above 0 or a f.*\(2,\)"),
    ({"temperature": 1e-60}, "scale / temperature must be above 0 and finite in float32"),
    ({"num_negatives": 2**31}, "num_negatives must be .* below"),
    ({"margin": float("inf")}, "margin must be a finite number, got inf"),
    ({"mask_self": 1}, "mask_self must be True or False, got 1"),
    ({"seed": (1, 2, 3)}, r"seed must be two integers.*\(3,\)"),
    ({"seed": (1.5, 2.5)}, "seed must be two integers.*got float"),
    (
        {"sampler": "random"},
        "sampler must be one of 'shuffle', 'ring', 'all', got 'random'",
    ),
    ({"reduction": "max"}, "reduction must be one of 'mean', 'sum', 'none', got 'max'"),
    ({"normalize_over": "row"}, "normalize_over must be one of 'candidates', 'batch'"),
    ({"cross_replica": 1}, "cross_replica must be True or False, got 1"),
    (
        {
            "cross_replica": True,
            "doc_ids": tf.zeros([5], tf.int32),
            "query_ids": tf.zeros([3], tf.int32),
        },
        "takes doc_ids or query_ids, got both: give doc_ids alone",
    ),
    (
        {"cross_replica": True, "normalize_over": "batch"},
        "cross_replica=True .* needs normalize_over='candidates', got 'batch'",
    ),
    (
        {"cross_replica": True, "num_negatives": 5, "sampler": "ring"},
        "at most C - 1 for sampler='ring'.*5.*got 5",
    ),
    ({"implementation": "gpu"}, "implementation must be one of 'auto', 'native', 'ref"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[m for _, m in WRONG])
def test_a_wrong_argument_is_a_value_error_that_names_it(
    change: dict[str, Any], message: str
) -> None:
    arguments = {"implementation": "native", **valid(), **change}
    if arguments.get("sampler") in ("ring", "all"):
        arguments["implementation"] = "reference"
    with pytest.raises(ValueError, match=message):
        fused_negative_cosine_loss(**arguments)


def in_unknown_shapes(arguments: dict[str, Any], implementation: str) -> Any:
    """Calls the loss in a graph that knows the ranks of its tensors and no size."""
    tensors = {name: value for name, value in arguments.items() if tf.is_tensor(value)}
    rest = {name: value for name, value in arguments.items() if name not in tensors}
    signature = {
        name: tf.TensorSpec([None] * value.shape.rank, value.dtype)
        for name, value in tensors.items()
    }

    @tf.function(input_signature=[signature], autograph=False)
    def call(tensors: dict[str, tf.Tensor]) -> tf.Tensor:
        return fused_negative_cosine_loss(
            **tensors, **rest, seed=(1, 2), implementation=implementation
        )

    return call(tensors)


@IMPLEMENTATIONS
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"doc": tf.ones([5, 3])}, "doc must have query.{1,3}s embedding size"),
        ({"doc": tf.ones([2, 4])}, "doc must have at least as many rows as query"),
        ({"doc_ids": tf.zeros([3], tf.int32)}, "doc_ids must have"),
        ({"query_ids": tf.zeros([5], tf.int64)}, "query_ids must have"),
        ({"sample_weight": tf.zeros([5])}, "sample_weight must have"),
        ({"doc_log_q": tf.zeros([3])}, "doc_log_q must have"),
        (
            {"num_negatives": None, "negative_indices": tf.zeros([2, 2], tf.int32)},
            r"negative_indices must have shape \[B, K\]",
        ),
    ],
)
def test_a_size_that_only_the_graph_knows_is_refused_there(
    change: dict[str, Any], message: str, implementation: str
) -> None:
    arguments = {**valid(), **change}
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        in_unknown_shapes(arguments, implementation)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"num_negatives": 5, "sampler": "ring"},
            "at most C - 1 for sampler=.{1,3}ring",
        ),
        ({"num_negatives": 3, "sampler": "all"}, "must be C - 1 for sampler=.{1,3}all"),
    ],
)
def test_k_out_of_a_samplers_range_is_refused_in_the_graph(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        in_unknown_shapes({**valid(), **change}, "reference")


@IMPLEMENTATIONS
@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("bad", [-1, 5, 2**31 - 1])
def test_an_index_outside_the_documents_raises_with_its_position_and_value(
    bad: int, dtype: str, implementation: str
) -> None:
    table = np.zeros([3, 2], dtype)
    table[2, 1] = bad
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=rf"(?s)\[0, .*{bad}"
    ) as caught:
        fused_negative_cosine_loss(
            tf.ones([3, 4]),
            tf.ones([5, 4]),
            negative_indices=table,
            implementation=implementation,
        )
    text = str(caught.value)
    assert "negative_indices" in text
    assert "[2, 1]" in text or "[2]\n[1]" in text or "2 1" in text.replace("\n", " ")


def test_under_xla_an_index_outside_the_documents_is_dropped() -> None:
    @tf.function(jit_compile=True, autograph=False)
    def loss(table: tf.Tensor) -> Any:
        return fused_negative_cosine_loss(
            tf.eye(3, 4),
            tf.eye(5, 4),
            negative_indices=table,
            return_stats=True,
            implementation="reference",
        )

    value, stats = loss(tf.constant([[1, 9], [2, -1], [0, 1]]))
    np.testing.assert_array_equal(stats.num_kept, [1, 1, 2])
    assert np.isfinite(value)


def test_native_for_a_device_without_a_kernel_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("negative_cosine._loss.runs_on_gpu", lambda: True)
    monkeypatch.setattr("negative_cosine._loss.cuda_problem", lambda library: "no GPU")
    with pytest.raises(RuntimeError, match=r"cannot run: no GPU\. To fix it, install"):
        fused_negative_cosine_loss(**valid(), implementation="native")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 2, 1), "num_candidates must be at least batch_size = 3, got 2"),
        ((-1, 2, 1), "batch_size must be an integer"),
        ((2, 2**31, 1), "num_candidates must be an integer"),
        ((2, 2, 0), "num_negatives must be an integer of at least 1"),
        ((2, 2, 2, "ring"), "at most C - 1"),
        ((2, 2, 1, "none"), "sampler must be one of"),
    ],
)
def test_sample_negatives_refuses_wrong_sizes(
    arguments: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        sample_negatives(*arguments)


@IMPLEMENTATIONS
@pytest.mark.parametrize("source", ["seed", "indices"])
@pytest.mark.parametrize("docs", [0, 3])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("normalize_over", ["candidates", "batch"])
def test_an_empty_batch_has_loss_zero_and_empty_gradients(
    normalize_over: str, reduction: str, docs: int, source: str, implementation: str
) -> None:
    query, doc = tf.zeros([0, 4]), tf.ones([docs, 4])
    candidates: dict[str, Any] = {"num_negatives": 2}
    if source == "indices":
        candidates = {"negative_indices": tf.zeros([0, 2], tf.int32)}
    with tf.GradientTape() as tape:
        tape.watch([query, doc])
        loss = fused_negative_cosine_loss(
            query,
            doc,
            **candidates,
            normalize_over=normalize_over,
            reduction=reduction,
            implementation=implementation,
        )
    np.testing.assert_array_equal(loss, np.zeros([0]) if reduction == "none" else 0.0)
    by_query, by_doc = tape.gradient(loss, [query, doc])
    assert by_query.shape == (0, 4)
    np.testing.assert_array_equal(by_doc, np.zeros([docs, 4]))


@IMPLEMENTATIONS
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sample_weight", tf.ones([3, 1])),
        ("doc_log_q", tf.ones([5, 1])),
        ("doc_ids", tf.ones([5, 1], tf.int32)),
        ("query_ids", tf.ones([3, 1], tf.int32)),
        ("seed", tf.ones([2, 1], tf.int32)),
        ("negative_indices", tf.ones([6], tf.int32)),
    ],
)
def test_an_option_of_unknown_rank_is_refused_not_broadcast(
    name: str, value: tf.Tensor, implementation: str
) -> None:
    arguments = {**valid(), name: value}
    if name == "negative_indices":
        del arguments["num_negatives"]

    def call(option: tf.Tensor) -> tf.Tensor:
        return fused_negative_cosine_loss(
            **{**arguments, name: option}, implementation=implementation
        )

    graph = tf.function(call, autograph=False)
    with pytest.raises(ValueError, match=f"{name} must"):
        graph.get_concrete_function(tf.TensorSpec(None, value.dtype))
