"""The arguments of ``retrieval_ranks`` and ``top_documents``, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from negative_cosine._corpus import Corpus, check_corpus, column_checks
from negative_cosine._known_sizes import all_known, known_size
from negative_cosine._options import check_count, check_name
from negative_cosine._row_inputs import check_ids, check_like_query, check_matrix
from negative_cosine._runtime_checks import Check, equal_size_checks
from negative_cosine._scores import SIMILARITIES
from negative_cosine._tensors import (
    INDEX_DTYPES,
    compute_dtype_of,
    how_to_tell_the_rank,
    to_tensor,
)


@dataclass(frozen=True)
class CatalogueInputs:
    """The checked arguments, and checks of the sizes that are not known yet."""

    query: tf.Tensor  # [B, D]
    corpus: Corpus
    excluded: tuple[tf.Tensor | None, ...]  # ids, [B] or [B, E]
    similarity: str
    block_size: int | None
    checks: list[Check]

    @property
    def compute_dtype(self) -> tf.DType:
        """float64 for float64 embeddings, float32 for all others."""
        return compute_dtype_of(self.query.dtype)


def check_catalogue(
    query: tf.Tensor,
    corpus: Any,
    *,
    corpus_ids: Any,
    excluded_ids: Any,
    positive_ids: Any,
    similarity: str,
    block_size: Any,
) -> CatalogueInputs:
    """The public arguments; ``ValueError`` for what is wrong as far as it is known."""
    similarity = check_name("similarity", similarity, SIMILARITIES)
    if block_size is not None:
        block_size = check_count("block_size", block_size)
    check_matrix("query", query)
    documents = check_corpus(corpus, corpus_ids, query)
    rows = known_size(query, 0)
    own = check_ids("positive_ids", positive_ids, rows, "query")
    others = _check_excluded(excluded_ids, rows)
    checks = list(documents.checks)
    for name, ids in (("positive_ids", own), ("excluded_ids", others)):
        if ids is not None:
            checks += _row_checks(name, ids, query)
    return CatalogueInputs(query, documents, (own, others), similarity, block_size, checks)


def check_positive(positive: tf.Tensor, query: tf.Tensor) -> list[Check]:
    """That it has a row for each query; returns checks of sizes that are not known."""
    check_matrix("positive", positive)
    check_like_query("positive", positive, query)
    rows: int | None = known_size(query, 0)
    own: int | None = known_size(positive, 0)
    if all_known(rows, own) and rows != own:
        raise ValueError(
            f"positive must have one row for each of query's {rows}, got {own} rows"
        )
    return column_checks("positive", positive, query) + _row_checks(
        "positive", positive, query
    )


def _check_excluded(excluded_ids: Any, rows: int | None) -> tf.Tensor | None:
    if excluded_ids is None:
        return None
    table = to_tensor("excluded_ids", excluded_ids)
    if table.dtype not in INDEX_DTYPES:
        raise ValueError(f"excluded_ids must be int32 or int64, got {table.dtype.name}")
    if table.shape.rank != 2 or not table.shape.is_compatible_with([rows, None]):
        raise ValueError(
            f"excluded_ids must have shape [B, E], where B = {rows} is query's number of "
            f"rows, got shape {table.shape}"
            f"{how_to_tell_the_rank('excluded_ids', table, '[None, None]')}"
        )
    return table


def _row_checks(name: str, tensor: tf.Tensor, query: tf.Tensor) -> list[Check]:
    message = f"{name} must have one row for each row of query, got shapes"
    return equal_size_checks(message, tensor, query)
