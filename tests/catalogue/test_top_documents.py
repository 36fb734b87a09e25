"""The best documents of a catalogue: those of a full sort, on any path."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import top_documents

from tests.catalogue.judge import Catalogue, counts
from tests.support.cases import DTYPES, VALUE_TOLERANCE, Array

SOME = Catalogue((20, 131, 24), "float32")


def best(catalogue: Catalogue, k: int, excluded: Array | None = None) -> Array:
    """The columns of the k highest scores that are not excluded."""
    counted = counts(catalogue.ids, excluded, len(catalogue.query))
    scores = np.where(counted, catalogue.scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_best_are_the_first_of_all_in_order(dtype: str, similarity: str) -> None:
    catalogue = Catalogue((7, 200, 16), dtype, similarity)
    scores, ids = top_documents(catalogue.query, catalogue.corpus, 9, similarity=similarity)
    expected = best(catalogue, 9)
    np.testing.assert_array_equal(ids, expected)
    values = np.take_along_axis(catalogue.scores, expected, axis=1)
    tolerance = 10 * VALUE_TOLERANCE[dtype]
    np.testing.assert_allclose(scores, values, rtol=tolerance, atol=tolerance)
    assert scores.dtype == (tf.float64 if dtype == "float64" else tf.float32)
    assert ids.dtype == tf.int64


@pytest.mark.parametrize("block_size", [1, 7, 50, 131, 500])
@pytest.mark.parametrize("as_dataset", [False, True])
def test_the_best_do_not_depend_on_the_blocks(block_size: int, as_dataset: bool) -> None:
    corpus = SOME.corpus
    if as_dataset:
        corpus = tf.data.Dataset.from_tensor_slices(corpus).batch(30)
    _, ids = top_documents(SOME.query, corpus, 10, block_size=block_size)
    np.testing.assert_array_equal(ids, best(SOME, 10))


def test_ids_are_those_of_the_corpus_without_the_excluded() -> None:
    _, ids = top_documents(
        SOME.query,
        SOME.corpus,
        10,
        corpus_ids=SOME.ids,
        excluded_ids=SOME.excluded,
        block_size=50,
    )
    expected = SOME.ids[best(SOME, 10, SOME.excluded)]
    assert np.any(expected != SOME.ids[best(SOME, 10)])
    np.testing.assert_array_equal(ids, expected)


def test_of_equal_scores_the_earlier_document_is_first() -> None:
    corpus = np.eye(4)[[2, 1, 1, 0, 1]]
    for block_size in (1, 2, 5):
        _, ids = top_documents(np.eye(4)[1:2], corpus, 4, block_size=block_size)
        assert ids.numpy().tolist() == [[1, 2, 4, 0]]


@pytest.mark.parametrize("block_size", [1, 2, None])
def test_a_query_with_fewer_than_k_documents_gets_no_id_for_the_rest(
    block_size: int | None,
) -> None:
    corpus = SOME.corpus[:3].copy()
    corpus[1] = np.nan
    query = SOME.query[:2].copy()
    query[1] = np.inf
    scores, ids = top_documents(
        query, corpus, 4, excluded_ids=[[0], [0]], block_size=block_size
    )
    assert ids.numpy().tolist() == [[2, -1, -1, -1], [-1] * 4]
    assert np.isneginf(scores.numpy()[ids.numpy() == -1]).all()
    assert np.isfinite(scores[0, 0])


def test_empty_sides_are_no_error() -> None:
    _, ids = top_documents(SOME.query, SOME.corpus[:0], 3)
    np.testing.assert_array_equal(ids, np.full([20, 3], -1))
    scores, ids = top_documents(SOME.query[:0], SOME.corpus, 3)
    assert scores.shape == ids.shape == [0, 3]


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("block_size", [50, None])
@pytest.mark.parametrize("known", [False, True])
def test_a_graph_has_the_same_documents(
    known: bool, block_size: int | None, jit_compile: bool
) -> None:
    def run(query: tf.Tensor, corpus: tf.Tensor, excluded: tf.Tensor) -> Any:
        options = {"excluded_ids": excluded, "block_size": block_size}
        return top_documents(query, corpus, 10, **options)[1]

    signature = [
        tf.TensorSpec([None, None]),
        tf.TensorSpec([None, None]),
        tf.TensorSpec([None, None], tf.int64),
    ]
    function = tf.function(
        run,
        autograph=False,
        jit_compile=jit_compile,
        input_signature=None if known else signature,
    )
    rows = np.argsort(-SOME.scores, axis=1)[:, [0, 5]]
    ids = function(*map(tf.constant, (SOME.query, SOME.corpus, rows)))
    expected = np.delete(np.argsort(-SOME.scores, axis=1), [0, 5], axis=1)[:, :10]
    np.testing.assert_array_equal(ids, expected)
    if not known:
        empty = map(tf.constant, (SOME.query, SOME.corpus[:0], rows))
        np.testing.assert_array_equal(function(*empty), np.full([20, 10], -1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be an integer from 1 to .*, got 0"),
        ({"corpus": SOME.corpus[0]}, "corpus must have two dimensions"),
        ({"query": SOME.query[0]}, "query must have two dimensions"),
        ({"excluded_ids": [1, 2]}, r"excluded_ids must have shape \[B, E\]"),
        ({"corpus_ids": [1, 2]}, r"corpus_ids must have shape \[131\]"),
        ({"similarity": "l2"}, "similarity must be one of"),
        ({"block_size": -1}, "block_size must be an integer"),
    ],
    ids=lambda part: str(part)[:20],
)
def test_a_wrong_argument_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    usual = {"query": SOME.query, "corpus": SOME.corpus, "k": 3}
    with pytest.raises(ValueError, match=message):
        top_documents(**{**usual, **change})
