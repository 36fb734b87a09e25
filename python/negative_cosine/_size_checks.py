"""Checks of the sizes that only a running graph knows, for the reference.

The native op does the same for itself, in ``csrc/core/inputs.cc``.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from negative_cosine._inputs import LossInputs
from negative_cosine._known_sizes import all_known, known_size
from negative_cosine._num_negatives import candidate_checks
from negative_cosine._runtime_checks import Check, equal_size_checks, vector_checks
from negative_cosine._seed import seed_checks


def size_checks(inputs: LossInputs) -> list[Check]:
    """Checks for the sizes that ``check_inputs`` did not know yet; [] if it knew all."""
    checks = seed_checks(inputs.seed)
    query, doc = tf.shape(inputs.query), tf.shape(inputs.doc)
    rows: int | None = known_size(inputs.query, 0)
    docs: int | None = known_size(inputs.doc, 0)

    def check(known: Any, holds: tf.Tensor, message: str, *values: Any) -> None:
        if not known:
            checks.append(Check(holds, [message, *values]))

    checks += equal_size_checks(
        "doc must have query's embedding size, got query and doc of shapes",
        inputs.query,
        inputs.doc,
        axis=1,
    )
    check(
        known_size(inputs.query, 1) is not None,
        query[1] >= 1,
        "query must have from 1 to 2**31 - 1 columns, got shape",
        query,
    )
    check(
        all_known(rows, docs),
        doc[0] >= query[0],
        "doc must have at least as many rows as query, since row i of doc is query i's "
        "positive, got query and doc of shapes",
        query,
        doc,
    )
    for name, vector, owner in (
        ("doc_ids", inputs.doc_ids, "doc"),
        ("query_ids", inputs.query_ids, "query"),
        ("doc_log_q", inputs.doc_log_q, "doc"),
        ("sample_weight", inputs.sample_weight, "query"),
    ):
        matrix = inputs.doc if owner == "doc" else inputs.query
        checks += vector_checks(name, vector, owner, matrix)
    is_known = rows == 0 or all_known(rows, docs)
    if inputs.sampler is not None and inputs.num_negatives is not None and not is_known:
        checks += candidate_checks(
            inputs.sampler,
            inputs.num_negatives,
            doc[0],
            tf.equal(query[0], 0),
            "doc's number of rows",
        )
    table = inputs.negative_indices
    if table is not None:
        check(
            all_known(known_size(table, 0), rows, known_size(table, 1)),
            tf.logical_and(tf.equal(tf.shape(table)[0], query[0]), tf.shape(table)[1] >= 1),
            "negative_indices must have shape [B, K], where B is query's number of rows "
            "and K is from 1 to 2**31 - 1, got its shape and B",
            tf.shape(table),
            query[0],
        )
    return checks
