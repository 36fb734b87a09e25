"""A Keras callback that ranks held-out queries' documents among a whole catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from negative_cosine._catalogue_inputs import check_catalogue, check_positive
from negative_cosine._corpus import ids_of
from negative_cosine._keras_environment import check_environment, keras
from negative_cosine._options import (
    check_boolean,
    check_count,
    check_counts,
    check_name,
    check_text,
)
from negative_cosine._rank_metrics import mean_reciprocal_rank, ndcg_at_k, recall_at_k
from negative_cosine._ranks import RankCounts
from negative_cosine._row_inputs import check_ids
from negative_cosine._scores import SIMILARITIES


class RetrievalMetrics(keras.callbacks.Callback):
    """Puts recall, MRR and NDCG among a whole catalogue into the logs of every epoch.

    At the end of an epoch the towers embed the queries, their documents and the catalogue,
    and each query's document is ranked as by ``retrieval_ranks``. The logs get
    ``val_recall_at_k``, ``val_ndcg_at_k`` and ``val_mrr``; the history and callbacks after
    this one, such as ``EarlyStopping``, find them there. The catalogue is embedded batch by
    batch: neither its embeddings nor its scores are kept.

    Example:
        >>> import keras, numpy as np
        >>> from negative_cosine import NegativeCosineLoss, RetrievalMetrics
        >>> rows = np.random.default_rng(0).normal(size=(32, 8))
        >>> query, doc = keras.Input([8]), keras.Input([8])
        >>> towers = keras.layers.Dense(4), keras.layers.Dense(4)
        >>> outputs = NegativeCosineLoss(3)([towers[0](query), towers[1](doc)])
        >>> model = keras.Model([query, doc], outputs)
        >>> model.compile("adam")
        >>> metrics = RetrievalMetrics(*towers, rows, rows, corpus=rows, verbose=False)
        >>> history = model.fit([rows, rows], verbose=0, callbacks=[metrics]).history
        >>> [name for name in history if name.startswith("val_")]
        ['val_recall_at_10', 'val_ndcg_at_10', 'val_mrr']

    Args:
        query_tower: what embeds queries: a layer, a model or a function.
        doc_tower: what embeds documents.
        queries: the inputs of B held-out queries: an array, or a list or dict of arrays.
        positives: the inputs of their documents, in the same order.
        corpus: the inputs of the documents to rank among: arrays too, or a
            ``tf.data.Dataset`` of batches of inputs or of pairs ``(inputs, ids)``; it takes
            two arrays that are both inputs for such a pair: give a dict.
        positive_ids: int32 or int64 ``[B]``: documents with the positive's id do not count.
        corpus_ids: int32 or int64 ``[N]``, the documents' ids. None: their row numbers.
        excluded_ids: int32 or int64 ``[B, E]``: documents that do not count for a query.
        recall_at: the k of the recalls to report.
        ndcg_at: the k of the discounted gains to report.
        similarity: ``"cosine"`` or ``"dot"``.
        batch_size: how many inputs are embedded at once.
        prefix: put before the metrics' names.
        verbose: whether to show a progress bar.

    Raises:
        ValueError: an argument is wrong; the message names it, and what is allowed.
        RuntimeError: Keras 2, or a backend of Keras other than TensorFlow.

    Source:
        ``FactorizedTopK`` of TensorFlow Recommenders measures the same at the end of an
        epoch, by sorting.
    """

    def __init__(
        self,
        query_tower: Callable[[Any], Any],
        doc_tower: Callable[[Any], Any],
        queries: Any,
        positives: Any,
        corpus: Any,
        *,
        positive_ids: Any = None,
        corpus_ids: Any = None,
        excluded_ids: Any = None,
        recall_at: Sequence[int] = (10,),
        ndcg_at: Sequence[int] = (10,),
        similarity: str = "cosine",
        batch_size: int = 1024,
        prefix: str = "val_",
        verbose: bool = True,
    ) -> None:
        check_environment("RetrievalMetrics")
        super().__init__()
        self.batch_size = check_count("batch_size", batch_size)
        self.recall_at = check_counts("recall_at", recall_at)
        self.ndcg_at = check_counts("ndcg_at", ndcg_at)
        self.prefix = check_text("prefix", prefix)
        self.verbose = check_boolean("verbose", verbose)
        self._embed_queries = _graph_of("query_tower", query_tower)
        self._embed_docs = _graph_of("doc_tower", doc_tower)
        self._queries = _rows("queries", queries)
        self._positives = _rows("positives", positives)
        _check_pairs(self._queries, self._positives)
        self._corpus = _check_corpus(corpus, corpus_ids, self.batch_size)
        self._options: dict[str, Any] = {
            "positive_ids": positive_ids,
            "excluded_ids": excluded_ids,
            "similarity": check_name("similarity", similarity, SIMILARITIES),
        }

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Ranks anew, and adds the metrics to the logs."""
        if logs is not None:
            logs.update(self.evaluate())

    def evaluate(self) -> dict[str, float]:
        """The metrics of the towers as they are."""
        ranks = self.ranks()
        found = {f"recall_at_{k}": recall_at_k(ranks, k) for k in self.recall_at}
        found |= {f"ndcg_at_{k}": ndcg_at_k(ranks, k) for k in self.ndcg_at}
        found["mrr"] = mean_reciprocal_rank(ranks)
        return {self.prefix + name: float(value) for name, value in found.items()}

    def ranks(self) -> tf.Tensor:
        """The rank of each query's document, int64 ``[B]``."""
        query = self._embed_all(self._embed_queries, self._queries)
        positive = self._embed_all(self._embed_docs, self._positives)
        # The documents follow batch by batch.
        arguments = check_catalogue(
            query, query[:0], corpus_ids=None, block_size=None, **self._options
        )
        check_positive(positive, query)
        counts = RankCounts(arguments, positive)
        found, first = counts.start, tf.zeros([], tf.int64)
        for batch in self._with_progress(self._corpus):
            is_pair = isinstance(batch, tuple) and len(batch) == 2
            inputs, ids = batch if is_pair else (batch, None)
            doc = self._embed_docs(inputs)
            found = counts.add(found, doc, ids_of(doc, ids, first))
            first += tf.shape(doc, tf.int64)[0]
        return found[0]

    def _embed_all(self, embed: Callable[[Any], Any], rows: tf.data.Dataset) -> tf.Tensor:
        batches = rows.batch(self.batch_size)
        return tf.concat([embed(inputs) for inputs in batches], axis=0)

    def _with_progress(self, batches: tf.data.Dataset) -> Iterator[Any]:
        if not self.verbose:
            yield from batches
            return
        number = int(batches.cardinality())
        print()  # the bar of the epoch has no end yet
        bar = keras.utils.Progbar(number if number > 0 else None, unit_name="batch")
        for batch in batches:
            yield batch
            bar.add(1)


def _rows(name: str, inputs: Any) -> tf.data.Dataset:
    """The rows of arrays; a list of arrays is a tuple, since tf.data would stack them."""
    if isinstance(inputs, tf.data.Dataset):
        raise ValueError(f"{name} must be arrays, got a dataset")
    is_list = isinstance(inputs, list) and all(hasattr(part, "shape") for part in inputs)
    try:
        return tf.data.Dataset.from_tensor_slices(tuple(inputs) if is_list else inputs)
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"{name} must be an array, or a list or dict of arrays, of equally many rows, "
            f"got {type(inputs).__name__}: {str(error).splitlines()[0]}"
        ) from error


def _check_pairs(queries: tf.data.Dataset, positives: tf.data.Dataset) -> None:
    rows: int = int(queries.cardinality())
    own: int = int(positives.cardinality())
    if rows != own or rows == 0:
        raise ValueError(
            "queries and positives must have equally many rows, one or more, got "
            f"{rows} and {own}"
        )


def _check_corpus(corpus: Any, ids: Any, batch_size: int) -> tf.data.Dataset:
    """Batches of inputs, or of pairs of inputs and ids."""
    if isinstance(corpus, tf.data.Dataset):
        if ids is not None:
            raise ValueError(
                "corpus_ids must be None where corpus is a dataset, got "
                f"{type(ids).__name__}; let the dataset give pairs (inputs, ids)"
            )
        return corpus
    rows = _rows("corpus", corpus)
    size = int(rows.cardinality())
    numbers = (
        np.arange(size) if ids is None else check_ids("corpus_ids", ids, size, "corpus")
    )
    pairs = tf.data.Dataset.zip((rows, tf.data.Dataset.from_tensor_slices(numbers)))
    return pairs.batch(batch_size)


def _graph_of(name: str, tower: Any) -> Callable[[Any], tf.Tensor]:
    """A tower that is traced for each shape but once."""
    if not callable(tower):
        raise ValueError(
            f"{name} must be a layer, a model or a function, got {type(tower).__name__}"
        )

    def embed(inputs: Any) -> tf.Tensor:
        return tower(list(inputs) if isinstance(inputs, tuple) else inputs)

    return tf.function(embed, reduce_retracing=True)
