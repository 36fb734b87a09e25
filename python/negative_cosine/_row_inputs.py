"""The arguments with a row for each query or document: embeddings, ids, logQ, weights.

Sizes that only a running graph knows are checked there: by the native op itself, for the
reference by ``_size_checks.py``.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from negative_cosine._known_sizes import all_known, known_size
from negative_cosine._options import MOST
from negative_cosine._tensors import (
    EMBEDDING_DTYPES,
    INDEX_DTYPES,
    has_booleans,
    how_to_cast,
    how_to_tell_the_rank,
    to_tensor,
)

# to_tensor() alone would pad with 0, and make document 0 a candidate.
HOW_TO_PAD = (
    "pad short rows with their own row number, which mask_self drops: "
    "tf.where(table < 0, tf.range(B, dtype=table.dtype)[:, tf.newaxis], table), where "
    "table = negative_indices.to_tensor(-1) for a ragged tensor"
)


def check_embeddings(query: tf.Tensor, doc: tf.Tensor) -> None:
    check_matrix("query", query)
    check_matrix("doc", doc)
    check_like_query("doc", doc, query)
    rows, docs = known_size(query, 0), known_size(doc, 0)
    if docs is not None and docs > MOST:
        raise ValueError(f"doc must have at most 2**31 - 1 rows, got {docs} rows")
    if rows is not None and docs is not None and docs < rows:
        raise ValueError(
            "doc must have at least as many rows as query, since row i of doc is query i's "
            f"positive: at least {rows}, got {docs} rows"
        )


def check_matrix(name: str, tensor: tf.Tensor) -> None:
    """That it holds embeddings, one a row."""
    if tensor.dtype not in EMBEDDING_DTYPES:
        allowed = ", ".join(dtype.name for dtype in EMBEDDING_DTYPES)
        raise ValueError(
            f"{name} must be one of {allowed}, got {tensor.dtype.name}"
            f"{_how_to_make_floats(name, tensor.dtype)}"
        )
    if tensor.shape.rank != 2:
        raise ValueError(
            f"{name} must have two dimensions [rows, embedding], got shape "
            f"{tensor.shape}{how_to_tell_the_rank(name, tensor, '[None, None]')}"
        )


def check_like_query(name: str, tensor: tf.Tensor, query: tf.Tensor) -> None:
    """That embeddings have query's dtype and columns."""
    if tensor.dtype != query.dtype:
        raise ValueError(
            f"{name} must have query's dtype {query.dtype.name}, got {tensor.dtype.name}; "
            "cast one of them"
        )
    size: int | None = known_size(query, 1)
    own_size: int | None = known_size(tensor, 1)
    if all_known(size, own_size) and size != own_size:
        raise ValueError(
            f"{name} must have query's embedding size {size}, got shape {tensor.shape}"
        )
    if size is not None and not 1 <= size <= MOST:
        raise ValueError(
            f"query must have from 1 to 2**31 - 1 columns, got shape {query.shape}"
        )


def check_index_table(negative_indices: Any, rows: int | None) -> tf.Tensor:
    if type(negative_indices).__name__ == "RaggedTensor":
        raise ValueError(
            f"negative_indices must be a dense tensor, got RaggedTensor; {HOW_TO_PAD}"
        )
    table = to_tensor("negative_indices", negative_indices)
    if table.dtype not in INDEX_DTYPES:
        raise ValueError(
            f"negative_indices must be int32 or int64, got {table.dtype.name}"
            f"{how_to_cast('negative_indices', table.dtype)}"
        )
    is_table = table.shape.rank == 2 and table.shape.is_compatible_with([rows, None])
    if not is_table or known_size(table, 1) == 0:
        hint = how_to_tell_the_rank("negative_indices", table, "[None, None]")
        raise ValueError(
            f"negative_indices must have shape [B, K], where B = {rows} is query's number "
            f"of rows and K is from 1 to 2**31 - 1, got shape {table.shape}{hint}"
        )
    return table


def check_ids(name: str, ids: Any, size: int | None, owner: str) -> tf.Tensor | None:
    """Ids as an int32 or int64 vector, one a row of ``owner``; None for None."""
    if ids is None:
        return None
    # TensorFlow would make an empty list a tensor of floats.
    is_empty_list = isinstance(ids, (list, tuple)) and not ids
    vector = to_tensor(name, ids, tf.int32 if is_empty_list else None)
    if vector.dtype not in INDEX_DTYPES:
        raise ValueError(
            f"{name} must be int32 or int64, got {vector.dtype.name}"
            f"{_how_to_number(name, vector.dtype)}"
        )
    _check_vector(name, vector, size, owner)
    return vector


def check_floats(
    name: str,
    values: Any,
    size: int | None,
    owner: str,
    dtype: tf.DType,
    is_mask: bool = False,
) -> tf.Tensor | None:
    """Numbers as a vector of ``dtype``, one a row of ``owner``; None for None.

    ``is_mask`` says that booleans are allowed, as 0 and 1.
    """
    if values is None:
        return None
    vector = to_tensor(name, values, dtype)
    own_dtype = tf.bool if has_booleans(values) else vector.dtype
    if not own_dtype.is_floating and not (is_mask and own_dtype == tf.bool):
        raise ValueError(
            f"{name} must be floating-point, got {own_dtype.name}"
            f"{_how_to_make_floats(name, own_dtype)}"
        )
    _check_vector(name, vector, size, owner)
    return tf.cast(vector, dtype)


def check_weight(values: Any, size: int | None, dtype: tf.DType) -> tf.Tensor | None:
    """``sample_weight``, which may be a mask."""
    return check_floats("sample_weight", values, size, "query", dtype, is_mask=True)


def _check_vector(name: str, vector: tf.Tensor, size: int | None, owner: str) -> None:
    if vector.shape.rank != 1 or not vector.shape.is_compatible_with([size]):
        raise ValueError(
            f"{name} must have shape [{size}], one element for each row of {owner}, got "
            f"shape {vector.shape}{_how_to_make_a_vector(name, vector)}"
        )


def _how_to_make_a_vector(name: str, tensor: tf.Tensor) -> str:
    if tensor.shape.rank is not None and tensor.shape.is_compatible_with([None, 1]):
        return f"; turn a column into a vector with tf.squeeze({name}, 1)"
    return how_to_tell_the_rank(name, tensor, "[None]")


def _how_to_number(name: str, dtype: tf.DType) -> str:
    """What an error adds for ids: how to get integers that identify the same thing."""
    if dtype != tf.string:
        return how_to_cast(name, dtype)
    return (
        "; give each string the same number in every batch, replica and run: "
        f"tf.strings.to_hash_bucket_fast({name}, 2**62), or, for an input of a Keras "
        "model, keras.layers.Hashing(2**62)"
    )


def _how_to_make_floats(name: str, dtype: tf.DType) -> str:
    is_number = dtype.is_integer or dtype.is_bool
    return f"; convert it with tf.cast({name}, tf.float32)" if is_number else ""
