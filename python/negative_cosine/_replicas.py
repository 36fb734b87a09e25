"""Candidates from every replica of a ``tf.distribute`` strategy.

Each replica gathers the documents of all replicas, and what belongs to them, with its own
rows first: so row ``i`` stays query ``i``'s positive, and the other replicas' documents
are further candidates. The gradient of a gathered document goes back to the replica that
it came from, which receives the sum over all replicas. Each replica's loss is its share
of the joined batch's, and the shares add up to what one device would compute.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from negative_cosine._inputs import LossInputs, num_replicas
from negative_cosine._runtime_checks import Check, asserted
from negative_cosine._size_checks import size_checks
from negative_cosine._statistics import NegativeCosineStats
from negative_cosine._value_checks import value_checks

LossAndStats = tuple[tf.Tensor, NegativeCosineStats | None]
Compute = Callable[[LossInputs, bool], LossAndStats]


def loss_across_replicas(
    inputs: LossInputs, with_statistics: bool, compute: Compute
) -> LossAndStats:
    """What ``compute`` gives for the own queries and the documents of every replica.

    A mean is over the joined batch's rows, of which only the own ones are summed here.
    """
    if num_replicas() == 1:
        return compute(inputs, with_statistics)
    with asserted(_own_row_checks(inputs)):
        replicas = _Replicas(inputs.query, inputs.doc)
    loss, stats = compute(_with_every_candidate(inputs, replicas), with_statistics)
    if inputs.reduction == "mean":
        loss = tf.math.divide_no_nan(loss, tf.cast(replicas.joined_rows, loss.dtype))
    return loss, stats


def _own_row_checks(inputs: LossInputs) -> list[Check]:
    """Checks that would come too late: a gathered batch hides that an own row is missing.

    The candidates are known, and checked, after the gathering.
    """
    own = dataclasses.replace(inputs, sampler=None, negative_indices=None)
    return size_checks(own) + value_checks(own)


def _with_every_candidate(inputs: LossInputs, replicas: _Replicas) -> LossInputs:
    seed, doc_ids, log_q = inputs.seed, inputs.doc_ids, inputs.doc_log_q
    if seed is not None:
        seed = replicas.own_seed(seed)
    if doc_ids is not None:
        doc_ids = replicas.gather(doc_ids)
    if inputs.query_ids is not None:
        doc_ids = _ids_by_query(inputs, inputs.query_ids, replicas)
    if log_q is not None:
        log_q = replicas.gather(tf.stop_gradient(log_q))
    return dataclasses.replace(
        inputs,
        doc=_gather_embeddings(inputs.doc, replicas),
        seed=seed,
        doc_ids=doc_ids,
        query_ids=None,
        doc_log_q=log_q,
        reduction="sum" if inputs.reduction == "mean" else inputs.reduction,
    )


def _gather_embeddings(doc: tf.Tensor, replicas: _Replicas) -> tf.Tensor:
    # TensorFlow's collective gather knows every other embedding dtype.
    if doc.dtype == tf.bfloat16:
        return tf.cast(replicas.gather(tf.cast(doc, tf.float32)), tf.bfloat16)
    return replicas.gather(doc)


def _ids_by_query(
    inputs: LossInputs, query_ids: tf.Tensor, replicas: _Replicas
) -> tf.Tensor:
    """``query_ids`` of the joined batch, as ids of documents.

    The op knows only the queries of the own documents. An id that two documents share
    tells it that they were clicked for one query. Documents that are no query's positive
    get an id that no positive has.
    """
    others = tf.shape(inputs.doc)[0] - tf.shape(query_ids)[0]
    query_of_doc = replicas.gather(tf.pad(query_ids, [[0, others]]))
    is_positive = replicas.gather(tf.pad(tf.ones_like(query_ids), [[0, others]])) > 0
    _, number_of_query = tf.unique(query_of_doc)
    return tf.where(is_positive, number_of_query, -1)


def gather(values: tf.Tensor) -> tf.Tensor:
    """``values`` of every replica, the first replica's first; each has to call it.

    The replicas may hold different numbers of them.
    """
    # An argument of a tf.function has no device, and all_gather wants to know one.
    context = tf.distribute.get_replica_context()
    joined = context.all_gather(tf.identity(values), axis=0)
    return tf.ensure_shape(joined, [None, *values.shape[1:]])


class _Replicas:
    """The replicas as one of them sees them: itself first, then those that follow it."""

    def __init__(self, query: tf.Tensor, doc: tf.Tensor) -> None:
        self._context = tf.distribute.get_replica_context()
        own_sizes = tf.stack([tf.shape(query)[0], tf.shape(doc)[0]])
        sizes = self._context.all_gather(own_sizes[tf.newaxis], axis=0)
        self.joined_rows = tf.reduce_sum(sizes[:, 0])
        self._docs_before_own = tf.reduce_sum(sizes[: self._id, 1])

    @property
    def _id(self) -> Any:
        return self._context.replica_id_in_sync_group

    def gather(self, values: tf.Tensor) -> tf.Tensor:
        """``values``, one a document, of every replica; the own ones first.

        The replicas may hold different numbers of them.
        """
        return tf.roll(gather(values), -self._docs_before_own, axis=0)

    def own_seed(self, seed: tf.Tensor) -> tf.Tensor:
        """A seed of this replica's own, for a seed that all replicas may share."""
        # Named, the generator is the same on every device.
        return tf.random.experimental.stateless_fold_in(seed, self._id, alg="philox")
