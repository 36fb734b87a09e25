"""Ranks among a whole catalogue: equal to NumPy's, block by block, on any path."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss, retrieval_ranks

from tests.catalogue.judge import Catalogue
from tests.support.cases import DTYPES

SHAPES = [(1, 1, 1), (3, 50, 2), (37, 500, 16), (5, 129, 100), (70, 70, 33)]
SIMILARITIES = ("cosine", "dot")
SOME = Catalogue((20, 131, 24), "float32")


def dataset(catalogue: Catalogue, rows: int, with_ids: bool) -> tf.data.Dataset:
    """The documents in blocks, with their ids or without."""
    parts = (catalogue.corpus, catalogue.ids) if with_ids else catalogue.corpus
    return tf.data.Dataset.from_tensor_slices(parts).batch(rows)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ranks_are_those_of_all_scores(
    shape: tuple[int, int, int], dtype: str, similarity: str
) -> None:
    catalogue = Catalogue(shape, dtype, similarity)
    ranks = retrieval_ranks(**catalogue.arguments)
    assert ranks.dtype == tf.int64
    np.testing.assert_array_equal(ranks, catalogue.ranks())


@pytest.mark.parametrize("block_size", [1, 7, 64, 130, 131, 132, 2**31 - 1])
def test_ranks_do_not_depend_on_the_blocks(block_size: int) -> None:
    ranks = retrieval_ranks(**SOME.arguments, block_size=block_size)
    np.testing.assert_array_equal(ranks, SOME.ranks())


@pytest.mark.parametrize("with_ids", [False, True])
@pytest.mark.parametrize("rows", [1, 50, 131, 500])
def test_a_dataset_of_blocks_has_the_ranks_of_its_documents(
    rows: int, with_ids: bool
) -> None:
    arguments = {**SOME.arguments, "corpus": dataset(SOME, rows, with_ids)}
    ranks = retrieval_ranks(**arguments, block_size=40)
    np.testing.assert_array_equal(ranks, SOME.ranks())


# --- Ids --------------------------------------------------------------------------------


@pytest.mark.parametrize("block_size", [None, 1, 50])
def test_excluded_documents_do_not_count(block_size: int | None) -> None:
    ranks = retrieval_ranks(**SOME.with_ids, block_size=block_size)
    expected = SOME.ranks(SOME.excluded)
    assert np.any(expected != SOME.ranks())
    np.testing.assert_array_equal(ranks, expected)


def test_a_dataset_brings_its_ids() -> None:
    arguments = {**SOME.with_ids, "corpus": dataset(SOME, 30, True), "corpus_ids": None}
    np.testing.assert_array_equal(retrieval_ranks(**arguments), SOME.ranks(SOME.excluded))


@pytest.mark.parametrize("as_dataset", [False, True])
def test_without_ids_of_the_corpus_row_numbers_are_excluded(as_dataset: bool) -> None:
    rows = np.argsort(-SOME.scores, axis=1)[:, :1]  # each query's best document
    corpus = dataset(SOME, 50, False) if as_dataset else SOME.corpus
    arguments = {**SOME.arguments, "corpus": corpus}
    expected = np.maximum(SOME.ranks() - 1, 0)
    ways: list[dict[str, Any]] = [{"excluded_ids": rows}, {"positive_ids": rows[:, 0]}]
    for ids in ways:
        np.testing.assert_array_equal(retrieval_ranks(**arguments, **ids), expected)


def test_an_id_that_is_excluded_twice_is_taken_back_once() -> None:
    best = np.argsort(-SOME.scores, axis=1)[:, 0]
    ranks = retrieval_ranks(
        **SOME.arguments, positive_ids=best, excluded_ids=np.stack([best, best], axis=1)
    )
    np.testing.assert_array_equal(ranks, np.maximum(SOME.ranks() - 1, 0))


def test_every_document_of_an_excluded_id_is_left_out() -> None:
    groups = np.arange(131) % 3
    ranks = retrieval_ranks(
        **SOME.arguments,
        corpus_ids=groups,
        excluded_ids=np.tile([[0, 2]], [20, 1]),
        block_size=50,
    )
    own = np.take_along_axis(SOME.scores, SOME.own[:, None], axis=1)
    expected = np.sum((SOME.scores > own)[:, groups == 1], axis=1)
    np.testing.assert_array_equal(ranks, expected)


@pytest.mark.parametrize("ids", [{}, {"excluded_ids": np.zeros([20, 0], np.int32)}])
def test_an_id_of_no_document_excludes_nothing(ids: dict[str, Any]) -> None:
    ids = ids or {"excluded_ids": np.full([20, 2], -1), "positive_ids": np.full(20, 999)}
    ranks = retrieval_ranks(**SOME.arguments, **ids)
    np.testing.assert_array_equal(ranks, SOME.ranks())


# --- Ties, NaN and rows without direction -----------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("dim", [1, 2, 3, 16, 65, 300, 1025])
def test_copies_of_the_own_document_never_count(
    dim: int, similarity: str, dtype: str
) -> None:
    random = np.random.default_rng(dim)
    positive = random.normal(size=(67, dim)).astype(DTYPES[dtype])
    query = positive * DTYPES[dtype](3)  # so the scores, and their rounding, are large
    for block_size in (1, 5, 64, 130, None):
        for row in (0, 40, 66):
            ranks = retrieval_ranks(
                query,
                np.tile(positive[row], [67, 1]),
                np.tile(positive[row], [143, 1]),
                similarity=similarity,
                block_size=block_size,
            )
            np.testing.assert_array_equal(ranks, np.zeros(67))


@pytest.mark.parametrize("size", [1e-18, 1e-15, 1.0, 1e15])
def test_copies_do_not_count_however_long_rows_are(size: float) -> None:
    random = np.random.default_rng(1)
    positive = (size * random.normal(size=(40, 48))).astype(np.float32)
    corpus = np.repeat(positive, 5, axis=0)
    everything = np.arange(200).reshape(40, 5)
    others = retrieval_ranks(
        positive, positive, corpus, excluded_ids=everything, similarity="dot"
    )
    ranks = retrieval_ranks(positive, positive, corpus, similarity="dot")
    np.testing.assert_array_equal(ranks, others)


def test_a_document_that_is_better_by_more_than_rounding_counts() -> None:
    query = np.ones([1, 64], np.float32)
    positive = np.ones([1, 64], np.float32)
    for step, rank in ((1e-7, 0), (1e-5, 1), (-1e-5, 0)):
        better = positive + np.float32(step)
        found = retrieval_ranks(query, positive, better, similarity="dot")
        assert found.numpy().tolist() == [rank], step


def test_nan_counts_as_above() -> None:
    corpus = SOME.corpus.copy()
    worst = np.argsort(SOME.scores[0])[:2]
    corpus[worst[0]], corpus[worst[1], 3] = np.nan, np.inf
    arguments = {**SOME.arguments, "corpus": corpus}
    assert retrieval_ranks(**arguments)[0] == SOME.ranks()[0] + 2


@pytest.mark.parametrize("jit_compile", [False, True])
def test_nan_counts_as_above_in_a_graph_too(jit_compile: bool) -> None:
    corpus, query = SOME.corpus.copy(), SOME.query.copy()
    corpus[np.argsort(SOME.scores[0])[0]], query[3] = np.nan, np.nan
    changed = tensors(corpus=corpus, query=query)
    with_ids = {**SOME.with_ids, "corpus": corpus, "query": query}
    ranks = graph(known=False, jit_compile=jit_compile)(changed)
    np.testing.assert_array_equal(ranks, retrieval_ranks(**with_ids))
    assert ranks[0] == SOME.ranks(SOME.excluded)[0] + 1
    assert ranks[3] > 120


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("name", ["query", "positive"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_positive_without_a_score_is_the_last_of_those_that_count(
    value: float, name: str, similarity: str
) -> None:
    rows = getattr(SOME, name).copy()
    rows[3, 5] = value
    arguments = {**SOME.with_ids, name: rows, "similarity": similarity}
    left_out = len({*SOME.with_ids["excluded_ids"][3], SOME.with_ids["positive_ids"][3]})
    ranks = retrieval_ranks(**arguments)
    assert ranks[3] == 131 - left_out
    others = np.arange(20) != 3
    without = retrieval_ranks(**{**SOME.with_ids, "similarity": similarity})
    np.testing.assert_array_equal(ranks[others], without[others])


def test_products_beyond_the_largest_number_are_no_hit() -> None:
    query = np.array([[1e30, 1.0]], np.float32)
    corpus = np.array([[1.0, 0.0], [1e30, 0.0]], np.float32)
    ranks = [
        int(retrieval_ranks(query, corpus[row : row + 1], corpus, similarity="dot")[0])
        for row in (0, 1)
    ]
    assert ranks == [1, 2]


@pytest.mark.parametrize("size", [0.0, 1e-13])
def test_a_query_without_direction_ties_with_every_document(size: float) -> None:
    query = np.full_like(SOME.query, size)
    ranks = retrieval_ranks(**{**SOME.arguments, "query": query})
    np.testing.assert_array_equal(ranks, np.zeros(20))


def test_a_document_without_direction_has_cosine_0() -> None:
    query = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
    positive = np.array([[-1.0, 0.1], [1.0, 0.1]], np.float32)
    ranks = retrieval_ranks(query, positive, np.zeros([4, 2], np.float32))
    assert ranks.numpy().tolist() == [4, 0]


def test_the_loss_counts_ranks_by_the_same_rule() -> None:
    query, doc = SOME.query[:20].copy(), SOME.corpus[:20].copy()
    doc[7], doc[11] = doc[3], 2 * doc[4]
    doc[9], query[10], doc[12] = np.nan, np.nan, 0.0
    _, stats = fused_negative_cosine_loss(query, doc, sampler="all", return_stats=True)
    ranks = retrieval_ranks(query, doc, doc, positive_ids=np.arange(20))
    np.testing.assert_array_equal(ranks, stats.positive_rank)


# --- Empty sides ------------------------------------------------------------------------


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_without_documents_every_rank_is_0(similarity: str) -> None:
    none = SOME.corpus[:0]
    for corpus in (none, tf.data.Dataset.from_tensors(none)):
        arguments = {**SOME.arguments, "corpus": corpus, "similarity": similarity}
        for excluded in (None, SOME.excluded):
            ranks = retrieval_ranks(**arguments, excluded_ids=excluded)
            np.testing.assert_array_equal(ranks, np.zeros(20))


def test_without_queries_there_are_no_ranks() -> None:
    none = SOME.query[:0]
    for own, others in ((None, None), ([], np.zeros([0, 2], np.int64))):
        ranks = retrieval_ranks(
            none, none, SOME.corpus, positive_ids=own, excluded_ids=others
        )
        assert ranks.shape == [0]


# --- Graphs -----------------------------------------------------------------------------


def graph(known: bool, block_size: int | None = 50, **options: Any) -> Any:
    """``retrieval_ranks`` in a graph that knows its sizes, or none of them."""

    def run(arguments: dict[str, tf.Tensor]) -> tf.Tensor:
        return retrieval_ranks(**arguments, block_size=block_size)

    if known:
        return tf.function(run, autograph=False, **options)
    specs = {
        "query": tf.TensorSpec([None, None]),
        "positive": tf.TensorSpec([None, None]),
        "corpus": tf.TensorSpec([None, None]),
        "positive_ids": tf.TensorSpec([None], tf.int64),
        "corpus_ids": tf.TensorSpec([None], tf.int64),
        "excluded_ids": tf.TensorSpec([None, None], tf.int64),
    }
    return tf.function(run, autograph=False, input_signature=[specs], **options)


def tensors(**changed: Any) -> dict[str, tf.Tensor]:
    """All arguments as tensors."""
    values = {**SOME.with_ids, **changed}
    del values["similarity"]
    return {name: tf.constant(value) for name, value in values.items()}


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("block_size", [50, 131, None])
def test_a_graph_has_the_same_ranks(
    block_size: int | None, known: bool, jit_compile: bool
) -> None:
    ranks = graph(known, block_size, jit_compile=jit_compile)(tensors())
    np.testing.assert_array_equal(ranks, SOME.ranks(SOME.excluded))


def test_a_graph_reads_a_dataset() -> None:
    blocks = dataset(SOME, 30, True)
    arguments = {**SOME.with_ids, "corpus": blocks, "corpus_ids": None}
    function = tf.function(lambda: retrieval_ranks(**arguments), autograph=False)
    np.testing.assert_array_equal(function(), SOME.ranks(SOME.excluded))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_graph_of_unknown_sizes_takes_empty_sides(jit_compile: bool) -> None:
    function = graph(known=False, jit_compile=jit_compile)
    no_docs = tensors(corpus=SOME.corpus[:0], corpus_ids=SOME.ids[:0])
    np.testing.assert_array_equal(function(no_docs), np.zeros(20))
    empty = {name: value[:0] for name, value in tensors().items()}
    assert function(empty).shape == [0]


@pytest.mark.parametrize("name", ["positive", "positive_ids", "excluded_ids", "corpus_ids"])
def test_sizes_that_do_not_fit_are_an_error_in_the_running_graph(name: str) -> None:
    arguments = tensors()
    arguments[name] = arguments[name][:1]
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name} must have one"):
        graph(known=False)(arguments)


def test_where_xla_omits_the_check_no_rank_is_a_hit() -> None:
    arguments = tensors(corpus_ids=np.append(SOME.ids, 12345))
    ranks = graph(known=False, jit_compile=True)(arguments)
    assert (ranks.numpy() == np.iinfo(np.int64).max).all()


def test_no_tensor_has_the_size_of_all_scores() -> None:
    queries, docs, dim = 200, 100_000, 4
    specs = [tf.TensorSpec([rows, dim]) for rows in (queries, queries, docs)]
    graph = tf.function(retrieval_ranks, autograph=False).get_concrete_function(*specs)
    sizes = [
        output.shape.num_elements() or 0
        for part in (graph.graph, *functions_of(graph.graph))
        for operation in part.get_operations()
        for output in operation.outputs
        if output.shape.rank is not None
    ]
    assert any(size % queries == 0 and size > 1000 * queries for size in sizes)
    assert max(sizes) < queries * docs // 5


def functions_of(graph: Any) -> list[Any]:
    """The graphs of the loops in a graph."""
    return [function.graph for function in graph._functions.values()]


# --- Errors -----------------------------------------------------------------------------

WRONG = [
    ({"query": SOME.query[0]}, r"query must have two dimensions.*\(24,\)"),
    ({"query": SOME.query.astype(int)}, "query must be one of float16.*, got int64"),
    ({"positive": SOME.positive[:3]}, "positive must have one row for each of query's 20"),
    ({"positive": SOME.positive[:, :3]}, "positive must have query's embedding size 24"),
    ({"positive": SOME.positive.astype(float)}, "positive must have query's dtype float32"),
    ({"corpus": SOME.corpus[0]}, "corpus must have two dimensions"),
    ({"corpus": SOME.corpus[:, :3]}, "corpus must have query's embedding size 24"),
    ({"corpus": SOME.corpus.astype(float)}, "corpus must have query's dtype float32"),
    ({"corpus": None}, "corpus must be a tensor or a value"),
    ({"corpus_ids": SOME.ids[:5]}, r"corpus_ids must have shape \[131\]"),
    ({"corpus_ids": SOME.ids / 2}, "corpus_ids must be int32 or int64, got float64"),
    ({"positive_ids": SOME.own[:5]}, r"positive_ids must have shape \[20\]"),
    ({"excluded_ids": SOME.own}, r"excluded_ids must have shape \[B, E\], where B = 20"),
    ({"excluded_ids": SOME.excluded[:5]}, r"excluded_ids must have .* \(5, 3\)"),
    ({"excluded_ids": SOME.excluded / 2}, "excluded_ids must be int32 or int64, got flo"),
    ({"similarity": "euclid"}, "similarity must be one of 'cosine', 'dot', got 'euclid'"),
    ({"block_size": 0}, "block_size must be an integer from 1 to .*, got 0"),
    ({"block_size": 2.0}, "block_size must be an integer from 1 to .*, got 2.0"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=lambda part: str(part)[:30])
def test_a_wrong_argument_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrieval_ranks(**{**SOME.arguments, **change})


WRONG_DATASETS = [
    (SOME.corpus, r"with corpus\.batch\(4096\)"),  # one by one
    ((SOME.corpus[None], SOME.ids[None], SOME.ids[None]), "must be a dataset of blocks"),
    ((SOME.corpus[None], SOME.ids[None] / 2), "must be a dataset of blocks"),
    ({"doc": SOME.corpus[None]}, "must be a dataset of blocks"),
    (SOME.corpus[None].astype(float), "a block of corpus must have query's dtype float32"),
    (SOME.corpus[None, :, :3], "a block of corpus must have query's embedding size 24"),
]


@pytest.mark.parametrize(("parts", "message"), WRONG_DATASETS)
def test_a_dataset_of_other_elements_is_refused(parts: Any, message: str) -> None:
    corpus = tf.data.Dataset.from_tensor_slices(parts)
    with pytest.raises(ValueError, match=message):
        retrieval_ranks(**{**SOME.arguments, "corpus": corpus})


def test_ids_beside_a_dataset_are_refused_with_the_fix() -> None:
    arguments = {**SOME.arguments, "corpus": dataset(SOME, 30, False)}
    with pytest.raises(ValueError, match=r"let the dataset give pairs \(block, ids\)"):
        retrieval_ranks(**arguments, corpus_ids=SOME.ids)


@pytest.mark.parametrize("in_graph", [False, True])
def test_a_block_with_too_few_ids_is_an_error(in_graph: bool) -> None:
    parts = (SOME.corpus[None], SOME.ids[None, :-1])
    corpus = tf.data.Dataset.from_tensor_slices(parts)
    arguments = {**SOME.arguments, "corpus": corpus}

    def run() -> tf.Tensor:
        return retrieval_ranks(**arguments)

    message = "ids of a block must have one element for each row of the block"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        (tf.function(run, autograph=False) if in_graph else run)()
