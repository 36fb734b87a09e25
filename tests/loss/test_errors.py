"""Everything wrong is refused before any work, by name (docs/semantics.md, "Errors")."""

from __future__ import annotations

import enum
import fractions
from typing import Any

import keras
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
        "query must have from 1 to ",
    ),
    (
        {"doc": tf.ones([5, 4], tf.float64)},
        "doc must have query's dtype float32, got f.*64",
    ),
    ({"query": tf.ones([3, 4], tf.int32)}, "query must be one of float16.*, got int32"),
    ({"num_negatives": 0}, "num_negatives must be an integer from 1 to .*, got 0"),
    ({"num_negatives": 2.0}, "num_negatives must be an integer from 1 to .*, got 2.0"),
    (
        {"num_negatives": True},
        "num_negatives must be an integer from 1 to .*, got True",
    ),
    (
        {"num_negatives": 5, "sampler": "ring"},
        r"at most C - 1 for sampler='ring'.*5.*got 5; use a smaller num_negatives or "
        r"sampler='shuffle', or .* with batch\(\.\.\., drop_remainder=True\)",
    ),
    (
        {"num_negatives": 3, "sampler": "all"},
        "must be C - 1 for sampler='all'.*5.*got 3; omit num_negatives",
    ),
    ({"num_negatives": None}, "num_negatives or negative_indices, got neither"),
    ({"negative_indices": tf.zeros([3, 2], tf.int32)}, "got both.*num_negatives=2"),
    (
        {"num_negatives": None, "negative_indices": tf.zeros([2, 2], tf.int32)},
        r"negative_indices must have shape \[B, K\], where B = 3 .*\(2, 2\)",
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
        r"doc_ids must be int32 or int64, got string; .*in every batch, replica and run: "
        r"tf\.strings\.to_hash_bucket_fast\(doc_ids, 2\*\*62\), or.*Hashing\(2\*\*62\)",
    ),
    (
        {"doc_ids": np.zeros([5], np.uint64)},
        r"doc_ids must be int32 or int64, got uint64; convert it with tf.bitcast\(doc_ids",
    ),
    (
        {"query_ids": np.zeros([3], np.int16)},
        r"query_ids must be int32 or int64, got int16; convert it with tf.cast\(query_ids",
    ),
    (
        {"doc_ids": tf.zeros([5, 1], tf.int32)},
        r"doc_ids must have shape \[5\].*\(5, 1\); .* with tf.squeeze\(doc_ids, 1\)",
    ),
    ({"doc_ids": np.zeros([5], bool)}, "doc_ids must be int32 or int64, got bool$"),
    (
        {"doc_ids": tf.ragged.constant([[1]] * 5)},
        "doc_ids must .*got RaggedTensor, whose rows differ in length",
    ),
    (
        {"doc_ids": tf.sparse.from_dense([1] * 5)},
        "doc_ids must .*got SparseTensor; convert it with tf.sparse.to_dense",
    ),
    (
        {"query": keras.Input([4], batch_size=3)},
        "query must .*got KerasTensor, .*use the layer NegativeCosineLoss",
    ),
    (
        {"num_negatives": None, "negative_indices": np.zeros([3, 2], np.uint8)},
        r"negative_indices must be int32 or int64, got uint8; .* tf.cast\(negative_indices",
    ),
    (
        {"num_negatives": tf.constant(2)},
        "num_negatives must be an integer.*, not a tensor: a",
    ),
    ({"num_negatives": np.array([2])}, r"num_negatives must be an integer.*array\(\[2\]"),
    (
        {"margin": tf.constant(0.1)},
        "margin must be a finite number.*, not a tensor: a graph",
    ),
    ({"margin": keras.Variable(0.1)}, "margin must be a finite number.*, not a tensor: a"),
    ({"margin": float("nan")}, "margin must be a finite number, got nan"),
    ({"margin": True}, "margin must be a finite number, got True"),
    (
        {"negative_weight": tf.constant(2.0)},
        "negative_weight must be a finite number above 0 or 'auto'.*, not a tensor: a",
    ),
    (
        {"negative_weight": float("nan")},
        "negative_weight must be a finite number above 0 or 'auto', got nan",
    ),
    ({"negative_weight": float("inf")}, "negative_weight must be a finite .* got inf"),
    ({"negative_weight": 0}, "negative_weight must be a finite number above 0 .* got 0"),
    ({"negative_weight": -2.0}, "negative_weight must be a finite number .* got -2.0"),
    ({"negative_weight": True}, "negative_weight must be a finite number .* got True"),
    ({"negative_weight": "full"}, "negative_weight must be .* or 'auto', got 'full'"),
    (
        {"negative_weight": 1e-39},
        "negative_weight must be above 0 and finite in float32, got 1e-39",
    ),
    (
        {
            "negative_weight": "auto",
            "num_negatives": None,
            "negative_indices": np.zeros([3, 2], np.int32),
        },
        "negative_weight must be a number where negative_indices are given, got 'auto'.*; "
        "pass the number of documents that could have been drawn over K",
    ),
    (
        {"mask_self": tf.constant(True)},
        "mask_self must be True or False.*, not a tensor: a",
    ),
    ({"seed": (True, False)}, r"seed must be two integers.*got \(True, False\)"),
    ({"seed": np.array([True, False])}, "seed must be two integers.*got array"),
    ({"seed": (np.uint64(2**63), 1)}, "seed must be two integers of at most 64 bits"),
    (
        {"seed": np.zeros([2], np.uint64)},
        r"seed must.*uint64 of.*; .* tf.bitcast\(seed, tf.int",
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
    ({"num_negatives": 2**31}, "num_negatives must be an integer from 1 to 2"),
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
        "takes doc_ids or query_ids, got both; give doc_ids alone",
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


class Options(str, enum.Enum):
    """A user's own names for what the loss takes."""

    RING = "ring"
    SUM = "sum"
    BATCH = "batch"
    NATIVE = "native"
    AUTO = "auto"


ALIKE = [
    ("num_negatives", 3, [np.int64(3), np.uint8(3), np.array(3)]),
    ("margin", 0.25, [np.float16(0.25), np.array(0.25), fractions.Fraction(1, 4)]),
    ("margin", -1.0, [-1, np.array(-1)]),
    ("negative_weight", 4.0, [4, np.float16(4), np.array(4), fractions.Fraction(4)]),
    ("negative_weight", "auto", [np.str_("auto"), np.array("auto"), Options.AUTO]),
    ("mask_self", False, [np.bool_(False), np.array(False)]),
    ("return_stats", False, [np.bool_(False), np.array(False)]),
    ("cross_replica", False, [np.bool_(False), np.array(False)]),
    ("sampler", "ring", [np.str_("ring"), Options.RING]),
    ("reduction", "sum", [np.str_("sum"), Options.SUM]),
    ("normalize_over", "batch", [np.str_("batch"), Options.BATCH]),
    ("implementation", "native", [np.str_("native"), Options.NATIVE]),
    (
        "seed",
        (1, 2),
        [
            [1, 2],
            (np.int64(1), np.int32(2)),
            np.array([1, 2], np.uint8),
            np.array([1, 2], ">i8"),
            (tf.constant(1), 2),
            tf.Variable([1, 2]),
            keras.Variable([1, 2], dtype="int64"),
        ],
    ),
    (
        "doc_ids",
        [1, 1, 1, 1, 2],
        [
            np.array([1, 1, 1, 1, 2], ">i4"),
            tf.constant([1, 1, 1, 1, 2], tf.int64),
            tf.Variable([1, 1, 1, 1, 2]),
            keras.Variable([1, 1, 1, 1, 2], dtype="int32"),
            [2**40, 2**40, 2**40, 2**40, 2**41],  # as int32 all would be 0
        ],
    ),
    (
        "query",
        np.eye(3, 4, dtype=np.float32),
        [
            np.eye(3, 4).tolist(),
            np.eye(3, 4, dtype=">f4"),
            tf.Variable(tf.eye(3, 4)),
            keras.Variable(tf.eye(3, 4)),
        ],
    ),
]


@pytest.mark.parametrize(
    ("implementation", "mode"),
    [("native", "eager"), ("native", "graph"), ("reference", "eager")],
)
@pytest.mark.parametrize(("name", "value", "others"), ALIKE, ids=[a[0] for a in ALIKE])
def test_every_kind_of_a_value_means_the_same(
    name: str, value: Any, others: list[Any], implementation: str, mode: str
) -> None:
    random = np.random.default_rng(0)
    usual = {
        **valid(),
        "query": tf.constant(random.normal(size=(3, 4)), tf.float32),
        "doc": tf.constant(random.normal(size=(5, 4)), tf.float32),
        "seed": (1, 1),  # a row meets itself
        "implementation": implementation,
    }

    def loss_of(given: Any) -> Any:
        def call() -> Any:
            return fused_negative_cosine_loss(**{**usual, name: given})

        return (call if mode == "eager" else tf.function(call, autograph=False))().numpy()

    expected = loss_of(value)
    if name not in ("return_stats", "cross_replica", "implementation"):
        without = fused_negative_cosine_loss(**usual)
        assert abs(expected - without) > 1e-3, "the option has to matter"
    for other in others:
        np.testing.assert_allclose(loss_of(other), expected, rtol=1e-6, err_msg=repr(other))


@IMPLEMENTATIONS
def test_a_negative_margin_is_a_margin(implementation: str) -> None:
    query, doc = tf.eye(3, 4), tf.eye(5, 4)
    losses = [
        fused_negative_cosine_loss(
            query, doc, 2, seed=(1, 2), margin=margin, implementation=implementation
        )
        for margin in (-0.5, 0.0, 0.5)
    ]
    assert losses[0] < losses[1] < losses[2]


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
            **{"seed": (1, 2), **tensors, **rest}, implementation=implementation
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
        ({"seed": tf.zeros([3], tf.int64)}, "seed must .*two integers"),
        ({"seed": tf.zeros([0], tf.int32)}, "seed must .*two integers"),
        ({"query": tf.ones([3, 0]), "doc": tf.ones([5, 0])}, "query must have from 1 to "),
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


@pytest.mark.parametrize(("sampler", "count"), [("ring", 5), ("all", 3)])
def test_k_out_of_a_samplers_range_is_refused_in_the_graph_with_the_same_way_out(
    sampler: str, count: int
) -> None:
    arguments = {**valid(), "num_negatives": count, "sampler": sampler}
    with pytest.raises(ValueError, match="must be") as known:
        fused_negative_cosine_loss(**arguments, implementation="reference")
    way_out = str(known.value).split("; ")[1]
    rule = f"C - 1 for sampler=.{{1,3}}{sampler}"
    with pytest.raises(tf.errors.InvalidArgumentError, match=rule) as found:
        in_unknown_shapes(arguments, "reference")
    text = str(found.value).replace("\\'", "'")
    assert way_out in text
    assert f"got] [{count}] [and C =] [5]" in text


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
    monkeypatch.setattr("negative_cosine._loss.device_in_use", lambda: "GPU")
    monkeypatch.setattr("negative_cosine._loss.cuda_problem", lambda library: "no GPU")
    with pytest.raises(RuntimeError, match=r"cannot run: no GPU\. To fix it, "):
        fused_negative_cosine_loss(**valid(), implementation="native")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 2, 1), "num_candidates must be at least batch_size = 3, got 2"),
        ((-1, 2, 1), "batch_size must be an integer"),
        ((True, 2, 1), "batch_size must be an integer.*, got True"),
        ((2.0, 2, 1), "batch_size must be an integer.*, got 2.0"),
        ((tf.constant(2.0), 2, 1), "batch_size must be an integer.* or a scalar int32 or"),
        ((tf.constant([2]), 2, 1), "batch_size must be an integer"),
        ((tf.constant(-1), 2, 1), "batch_size must be an integer"),
        ((2, tf.constant(1), 1), "num_candidates must be at least batch_size = 2, got 1"),
        ((2, 2**31, 1), "num_candidates must be an integer"),
        ((2, tf.constant(2**31), 1), "num_candidates must be an integer"),
        (
            (2, 3, tf.constant(1)),
            "num_negatives must be an integer.*, not a tensor: a graph",
        ),
        ((2, 2, 0), "num_negatives must be an integer from 1 to "),
        (
            (2, 2, 2, "ring"),
            "at most C - 1.*C = 2 is num_candidates, got 2; use a smaller",
        ),
        ((2, 4, 2, "all"), "must be C - 1.*C = 4 is num_candidates, got 2; omit num_neg"),
        ((2, 2, 1, "none"), "sampler must be one of"),
    ],
)
def test_sample_negatives_refuses_wrong_sizes(
    arguments: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        sample_negatives(*arguments)


def test_sample_negatives_refuses_a_size_of_unknown_rank_with_the_way_out() -> None:
    draw = tf.function(lambda size: sample_negatives(size, 5, 1), autograph=False)
    with pytest.raises(
        ValueError, match=r"batch_size must.*ensure_shape\(batch_size, \[\]"
    ):
        draw.get_concrete_function(tf.TensorSpec(None, tf.int32))


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
@pytest.mark.parametrize(
    ("rows", "docs", "options", "message"),
    [
        (3, 2, {}, r"batch_size <= num_candidates.*\[3\].*\[2\]"),
        (-1, 2, {}, r"0 <= batch_size.*\[-1\].*\[2\]"),
        (
            2,
            5,
            {"sampler": "ring"},
            r"at most C - 1.*C is num_cand.*; use a .*\[5\].*\[5\]",
        ),
        (2, 5, {"sampler": "all"}, r"must be C - 1.*C is num_cand.*; omit .*\[5\].*\[5\]"),
        (2, 8, {"seed": tf.zeros([3], tf.int64)}, r"seed must be two integers.*\[3\]"),
    ],
)
def test_sample_negatives_refuses_what_only_the_graph_knows(
    rows: int, docs: int, options: dict[str, Any], message: str, dtype: tf.DType
) -> None:
    seed = options.get("seed", tf.constant([1, 2], tf.int64))
    sampler = options.get("sampler", "shuffle")

    @tf.function(
        input_signature=[tf.TensorSpec([], dtype)] * 2 + [tf.TensorSpec([None], tf.int64)],
        autograph=False,
    )
    def draw(rows: tf.Tensor, docs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return sample_negatives(rows, docs, 5, sampler, seed)

    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        draw(tf.constant(rows, dtype), tf.constant(docs, dtype), seed)


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
    ("name", "value", "shape"),
    [
        ("query", tf.ones([3, 4]), r"\[None, None\]"),
        ("doc", tf.ones([5, 4]), r"\[None, None\]"),
        ("sample_weight", tf.ones([3, 1]), r"\[None\]"),
        ("doc_log_q", tf.ones([5, 1]), r"\[None\]"),
        ("doc_ids", tf.ones([5, 1], tf.int32), r"\[None\]"),
        ("query_ids", tf.ones([3, 1], tf.int32), r"\[None\]"),
        ("seed", tf.ones([2, 1], tf.int32), r"\[2\]"),
        ("negative_indices", tf.ones([6], tf.int32), r"\[None, None\]"),
    ],
)
def test_a_tensor_of_unknown_rank_is_refused_not_broadcast(
    name: str, value: tf.Tensor, shape: str, implementation: str
) -> None:
    arguments = {**valid(), name: value}
    if name == "negative_indices":
        del arguments["num_negatives"]

    def call(option: tf.Tensor) -> tf.Tensor:
        return fused_negative_cosine_loss(
            **{**arguments, name: option}, implementation=implementation
        )

    graph = tf.function(call, autograph=False)
    way_out = rf"set its rank with tf\.ensure_shape\({name}, {shape}\)"
    with pytest.raises(ValueError, match=f"{name} must.*{way_out}"):
        graph.get_concrete_function(tf.TensorSpec(None, value.dtype))
