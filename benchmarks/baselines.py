"""What people write today in TensorFlow: the losses that the benchmarks compare with.

Each takes ``(query, doc, num_negatives)`` and an optional ``table``, the candidates
``[B, K]``, so that it can be shown to compute the same loss as this package on the same
candidates. By itself it draws as its original does.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from benchmarks.problem import SCALE


def article_loss(
    query: tf.Tensor, doc: tf.Tensor, num_negatives: int, table: Any = None
) -> tf.Tensor:
    """The article's code with its softmax put on the right axis."""
    rows = tf.shape(doc)[0]
    gathered = doc
    for draw in range(num_negatives):
        drawn = tf.random.shuffle(tf.range(rows)) if table is None else table[:, draw]
        gathered = tf.concat([gathered, tf.gather(doc, drawn)], axis=0)
    repeats = [num_negatives + 1, 1]
    query_norm = tf.sqrt(tf.reduce_sum(tf.square(query), axis=1, keepdims=True))
    doc_norm = tf.sqrt(tf.reduce_sum(tf.square(gathered), axis=1, keepdims=True))
    product = tf.reduce_sum(tf.tile(query, repeats) * gathered, axis=1, keepdims=True)
    cosine = product / (tf.tile(query_norm, repeats) * doc_norm)
    logits = tf.transpose(tf.reshape(cosine, [num_negatives + 1, -1])) * SCALE
    probability = tf.exp(logits) / tf.reduce_sum(tf.exp(logits), axis=1, keepdims=True)
    return -tf.reduce_mean(tf.math.log(probability[:, :1]))


def own_docs(query: tf.Tensor, doc: tf.Tensor) -> tf.Tensor:
    """The queries' own, which come first; nothing is cut off where there are no others.

    The gradient of a cut would write zeros for all documents, and add them.
    """
    return doc if query.shape[0] == doc.shape[0] else doc[: tf.shape(query)[0]]


def vectorised_loss(
    query: tf.Tensor, doc: tf.Tensor, num_negatives: int, table: Any = None
) -> tf.Tensor:
    """The same in well-written TensorFlow: unit rows, one gather, one cross-entropy."""
    rows, docs = (tf.shape(each)[0] for each in (query, doc))
    query = tf.math.l2_normalize(query, axis=1)
    doc = tf.math.l2_normalize(doc, axis=1)
    if table is None:
        shape = [rows, num_negatives]
        table = tf.random.uniform(shape, maxval=docs, dtype=tf.int32)
    negative = tf.einsum("bd,bkd->bk", query, tf.gather(doc, table))
    positive = tf.reduce_sum(query * own_docs(query, doc), axis=1, keepdims=True)
    logits = tf.concat([positive, negative], axis=1) * SCALE
    labels = tf.zeros([rows], tf.int32)
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    )


def in_batch_softmax_loss(
    query: tf.Tensor, doc: tf.Tensor, num_negatives: int = 0, table: Any = None
) -> tf.Tensor:
    """Every other document is a negative: one matrix product, ``[B, C]``."""
    del num_negatives, table
    query = tf.math.l2_normalize(query, axis=1)
    doc = tf.math.l2_normalize(doc, axis=1)
    logits = tf.matmul(query, doc, transpose_b=True) * SCALE
    labels = tf.range(tf.shape(query)[0])
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    )
