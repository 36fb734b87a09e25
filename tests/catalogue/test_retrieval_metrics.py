"""The callback: an epoch's logs hold the metrics of a whole catalogue."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import (
    NegativeCosineLoss,
    RetrievalMetrics,
    mean_reciprocal_rank,
    ndcg_at_k,
    recall_at_k,
    retrieval_ranks,
)

RANDOM = np.random.default_rng(0)
CORPUS = RANDOM.normal(size=(130, 8)).astype(np.float32)
OWN = np.arange(30) * 4
POSITIVES = CORPUS[OWN]
QUERIES = POSITIVES + RANDOM.normal(size=(30, 8)).astype(np.float32) / 4
NAMES = ["val_recall_at_3", "val_recall_at_10", "val_ndcg_at_10", "val_mrr"]


def towers() -> tuple[Any, Any]:
    """Two towers of the same start in every test."""
    keras.utils.set_random_seed(1)
    pair = [keras.Sequential([keras.Input([8]), keras.layers.Dense(6)]) for _ in "qd"]
    return pair[0], pair[1]


def callback(pair: tuple[Any, Any], corpus: Any = CORPUS, **options: Any) -> Any:
    return RetrievalMetrics(
        *pair, QUERIES, POSITIVES, corpus, **{"verbose": False, **options}
    )


def ranks_of(pair: tuple[Any, Any], **options: Any) -> tf.Tensor:
    """What the callback should find."""
    embedded = (pair[0](QUERIES), pair[1](POSITIVES), pair[1](CORPUS))
    return retrieval_ranks(*embedded, **options)


def model_of(pair: tuple[Any, Any]) -> keras.Model:
    query, doc = keras.Input([8]), keras.Input([8])
    outputs = NegativeCosineLoss(5)([pair[0](query), pair[1](doc)])
    model = keras.Model([query, doc], outputs)
    model.compile(keras.optimizers.Adam(0.05))
    return model


def test_the_logs_hold_the_metrics_of_each_epochs_towers() -> None:
    pair = towers()
    metrics = callback(pair, recall_at=(3, 10))
    untrained = metrics.evaluate()
    model = model_of(pair)
    rows = [QUERIES, POSITIVES]
    fit = {"batch_size": 10, "epochs": 30, "verbose": 0, "callbacks": [metrics]}
    history = model.fit(rows, **fit).history
    assert [name for name in history if name.startswith("val_")] == NAMES
    ranks = ranks_of(pair)
    last = {name: values[-1] for name, values in history.items()}
    assert last["val_recall_at_3"] == pytest.approx(float(recall_at_k(ranks, 3)))
    assert last["val_recall_at_10"] == pytest.approx(float(recall_at_k(ranks, 10)))
    assert last["val_ndcg_at_10"] == pytest.approx(float(ndcg_at_k(ranks, 10)))
    assert last["val_mrr"] == pytest.approx(float(mean_reciprocal_rank(ranks)))
    assert last["val_mrr"] > untrained["val_mrr"] + 0.2


def test_callbacks_after_it_find_the_metrics() -> None:
    pair = towers()
    seen: list[dict[str, float]] = []
    after = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(dict(logs))
    )
    callbacks = [callback(pair, recall_at=(3, 10)), after]
    rows = [QUERIES, POSITIVES]
    model_of(pair).fit(rows, epochs=2, verbose=0, callbacks=callbacks)
    assert len(seen) == 2
    assert set(NAMES) < set(seen[0])


@pytest.mark.parametrize("batch_size", [1, 7, 130, 1000])
def test_ranks_do_not_depend_on_the_batches(batch_size: int) -> None:
    pair = towers()
    found = callback(pair, batch_size=batch_size).ranks()
    np.testing.assert_array_equal(found, ranks_of(pair))


@pytest.mark.parametrize("as_dataset", [False, True])
@pytest.mark.parametrize("with_ids", [False, True])
def test_ids_are_those_of_retrieval_ranks(with_ids: bool, as_dataset: bool) -> None:
    pair = towers()
    ids = 1000 - np.arange(130) if with_ids else np.arange(130)
    excluded = RANDOM.choice(ids, (30, 20))
    own: dict[str, Any] = {"positive_ids": ids[OWN], "excluded_ids": excluded}
    corpus, options = CORPUS, {"corpus_ids": ids} if with_ids else {}
    if as_dataset:
        parts = (CORPUS, ids) if with_ids else CORPUS
        corpus, options = tf.data.Dataset.from_tensor_slices(parts).batch(33), {}
    found = callback(pair, corpus, **own, **options).ranks()
    np.testing.assert_array_equal(found, ranks_of(pair, corpus_ids=ids, **own))


def test_the_similarity_is_that_of_retrieval_ranks() -> None:
    pair = towers()
    dots = callback(pair, similarity="dot").ranks()
    np.testing.assert_array_equal(dots, ranks_of(pair, similarity="dot"))
    assert np.any(dots != ranks_of(pair))


def test_a_list_or_dict_of_arrays_is_the_input_of_a_tower() -> None:
    pair = towers()
    expected = ranks_of(pair)
    of_list = RetrievalMetrics(
        lambda parts: pair[0](tf.concat(parts, axis=1)),
        lambda named: pair[1](named["doc"]),
        [QUERIES[:, :3], QUERIES[:, 3:]],
        {"doc": POSITIVES},
        {"doc": CORPUS},
        verbose=False,
    )
    np.testing.assert_array_equal(of_list.ranks(), expected)


def test_layers_are_as_in_inference() -> None:
    pair = towers()
    with_dropout = (keras.Sequential([pair[0], keras.layers.Dropout(0.9)]), pair[1])
    np.testing.assert_array_equal(callback(with_dropout).ranks(), ranks_of(pair))


def test_embeddings_of_16_bits_have_ranks() -> None:
    keras.utils.set_random_seed(1)
    pair = [keras.layers.Dense(6, dtype="mixed_float16") for _ in "qd"]
    found = callback((pair[0], pair[1])).ranks()
    np.testing.assert_array_equal(found, ranks_of((pair[0], pair[1])))


@pytest.mark.parametrize("verbose", [False, True])
def test_a_bar_shows_its_progress(
    verbose: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    callback(towers(), verbose=verbose, batch_size=40).ranks()
    assert ("4/4" in capsys.readouterr().out) == verbose


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_tower": None}, "query_tower must be a layer, a model or a function"),
        ({"doc_tower": 3}, "doc_tower must be a layer, a model or a function, got int"),
        ({"queries": QUERIES[:7]}, "queries and positives must have equally many .* 7 and"),
        ({"positives": {"a": QUERIES, "b": QUERIES[:3]}}, "positives must be an array"),
        ({"queries": tf.data.Dataset.range(3)}, "queries must be arrays, got a dataset"),
        ({"corpus": None}, "corpus must be an array"),
        ({"corpus_ids": [1, 2]}, r"corpus_ids must have shape \[130\]"),
        ({"recall_at": 10}, "recall_at must be a list of integers, got 10"),
        ({"ndcg_at": (0,)}, "ndcg_at must be an integer from 1 to"),
        ({"similarity": "l2"}, "similarity must be one of"),
        ({"batch_size": 0}, "batch_size must be an integer from 1 to"),
        ({"prefix": 1}, "prefix must be a string, got 1"),
        ({"verbose": 2}, "verbose must be True or False, got 2"),
    ],
    ids=lambda part: str(part)[:20],
)
def test_a_wrong_argument_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    pair = towers()
    usual = {
        "query_tower": pair[0],
        "doc_tower": pair[1],
        "queries": QUERIES,
        "positives": POSITIVES,
        "corpus": CORPUS,
    }
    with pytest.raises(ValueError, match=message):
        RetrievalMetrics(**{**usual, **change})


def test_ids_beside_a_dataset_are_refused_with_the_fix() -> None:
    corpus = tf.data.Dataset.from_tensors(CORPUS)
    with pytest.raises(ValueError, match=r"let the dataset give pairs \(inputs, ids\)"):
        callback(towers(), corpus, corpus_ids=np.arange(130))
