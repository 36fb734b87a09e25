"""The arguments of the loss, checked once, at the edge (docs/semantics.md, "Inputs").

Code that gets a ``LossInputs`` may rely on it: ranks, dtypes and option names are right,
and so are all sizes that were known. Sizes that only a running graph knows are checked
there: by the native op itself, for the reference by ``_size_checks.py`` and
``_value_checks.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from negative_cosine._known_sizes import known_size
from negative_cosine._logit_scale import check_logit_scale
from negative_cosine._num_negatives import check_num_negatives
from negative_cosine._options import (
    NORMALIZE_OVER,
    REDUCTIONS,
    check_boolean,
    check_margin,
    check_name,
    check_negative_weight,
)
from negative_cosine._row_inputs import (
    check_embeddings,
    check_floats,
    check_ids,
    check_index_table,
    check_weight,
)
from negative_cosine._sampler import SAMPLERS
from negative_cosine._seed import check_seed
from negative_cosine._tensors import compute_dtype_of, to_tensor


@dataclass(frozen=True)
class LossInputs:
    """The checked arguments; ``B``, ``C``, ``D`` and ``K`` as in docs/semantics.md."""

    query: tf.Tensor  # [B, D]
    doc: tf.Tensor  # [C, D]
    logit_scale: tf.Tensor | float  # a tensor is a scalar of the compute dtype
    margin: float
    negative_weight: float | None  # None for "auto"
    sampler: str | None  # None with negative_indices
    num_negatives: int | None  # None with negative_indices, and for "all"
    seed: tf.Tensor | None  # [2]
    negative_indices: tf.Tensor | None  # [B, K]
    mask_self: bool
    doc_ids: tf.Tensor | None  # [C]
    query_ids: tf.Tensor | None  # [B]
    doc_log_q: tf.Tensor | None  # [C], compute dtype
    sample_weight: tf.Tensor | None  # [B], compute dtype
    normalize_over: str
    reduction: str

    @property
    def compute_dtype(self) -> tf.DType:
        """float64 for float64 embeddings, float32 for all others."""
        return compute_dtype_of(self.query.dtype)


def check_inputs(
    query: Any,
    doc: Any,
    num_negatives: int | None,
    *,
    negative_indices: Any,
    sampler: str,
    seed: Any,
    scale: Any,
    temperature: Any,
    margin: float,
    negative_weight: float | str,
    mask_self: bool,
    doc_ids: Any,
    query_ids: Any,
    doc_log_q: Any,
    sample_weight: Any,
    normalize_over: str,
    reduction: str,
    cross_replica: bool,
) -> LossInputs:
    """Converts and checks the public arguments; raises ``ValueError`` for a wrong one."""
    sampler = check_name("sampler", sampler, SAMPLERS)
    normalize_over = check_name("normalize_over", normalize_over, NORMALIZE_OVER)
    reduction = check_name("reduction", reduction, REDUCTIONS)
    if check_boolean("cross_replica", cross_replica):
        _check_cross_replica(doc_ids, query_ids, normalize_over)
    query, doc = to_tensor("query", query), to_tensor("doc", doc)
    check_embeddings(query, doc)
    rows: int | None = known_size(query, 0)
    docs: int | None = known_size(doc, 0)
    compute_dtype = compute_dtype_of(query.dtype)

    if negative_indices is not None:
        _refuse_both(num_negatives)
        sampler_name, table = None, check_index_table(negative_indices, rows)
    else:
        sampler_name, table = sampler, None
        # An empty batch has no candidates to run out of; other replicas' documents are
        # counted when they have been gathered.
        others = cross_replica and num_replicas() > 1
        num_negatives = check_num_negatives(
            num_negatives, sampler, None if rows == 0 or others else docs
        )

    return LossInputs(
        query=query,
        doc=doc,
        logit_scale=check_logit_scale(scale, temperature, compute_dtype),
        margin=check_margin(margin, compute_dtype),
        negative_weight=check_negative_weight(
            negative_weight, compute_dtype, is_drawn=table is None
        ),
        sampler=sampler_name,
        num_negatives=num_negatives,
        seed=None if sampler_name in (None, "all") else check_seed(seed),
        negative_indices=table,
        mask_self=check_boolean("mask_self", mask_self),
        doc_ids=check_ids("doc_ids", doc_ids, docs, "doc"),
        query_ids=check_ids("query_ids", query_ids, rows, "query"),
        doc_log_q=check_floats("doc_log_q", doc_log_q, docs, "doc", compute_dtype),
        sample_weight=check_weight(sample_weight, rows, compute_dtype),
        normalize_over=normalize_over,
        reduction=reduction,
    )


def num_replicas() -> int:
    """The number of replicas in sync; 1 outside of ``Strategy.run``."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else int(context.num_replicas_in_sync)


def _check_cross_replica(doc_ids: Any, query_ids: Any, normalize_over: str) -> None:
    """Refuses options that do not work on the joined batch of several replicas."""
    if doc_ids is not None and query_ids is not None:
        raise ValueError(
            "cross_replica=True takes doc_ids or query_ids, got both; give doc_ids alone, "
            "with equal ids for documents that must not be each other's negatives"
        )
    if normalize_over != "candidates":
        raise ValueError(
            "cross_replica=True gathers candidates and needs normalize_over='candidates', "
            f"got {normalize_over!r}"
        )


def _refuse_both(num_negatives: int | None) -> None:
    if num_negatives is not None:
        raise ValueError(
            "give either num_negatives or negative_indices, got both "
            f"(num_negatives={num_negatives!r})"
        )
