"""The arguments of the loss, checked once, at the edge (SPEC sections 2 and 8).

Everything behind this module may rely on a ``LossInputs``: ranks, dtypes and option names
are right, and so is every size that was known. Sizes that only a running graph knows are
checked there, by the native op itself or by ``runtime_checks`` for the reference.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from negative_cosine._sampler import SAMPLERS, fresh_seed

EMBEDDING_DTYPES = (tf.float16, tf.bfloat16, tf.float32, tf.float64)
INDEX_DTYPES = (tf.int32, tf.int64)
NORMALIZE_OVER = ("candidates", "batch")
REDUCTIONS = ("mean", "sum", "none")
IMPLEMENTATIONS = ("auto", "native", "reference")
MOST = 2**31 - 1  # documents, columns, candidates a row

Casting = Literal["safe", "same_kind"]

# The smallest and largest normal number of each compute dtype.
_LIMITS = {
    dtype: (float(limits.tiny), float(limits.max))
    for dtype in (tf.float32, tf.float64)
    for limits in [np.finfo(dtype.as_numpy_dtype)]
}


@dataclass(frozen=True)
class LossInputs:
    """The checked arguments; ``B``, ``C``, ``D`` and ``K`` as in SPEC section 2."""

    query: tf.Tensor  # [B, D]
    doc: tf.Tensor  # [C, D]
    logit_scale: tf.Tensor | float  # a tensor is a scalar of the compute dtype
    margin: float
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


def compute_dtype_of(dtype: tf.DType) -> tf.DType:
    """The dtype that the loss of embeddings of ``dtype`` is computed in."""
    return tf.float64 if dtype == tf.float64 else tf.float32


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
    mask_self: bool,
    doc_ids: Any,
    query_ids: Any,
    doc_log_q: Any,
    sample_weight: Any,
    normalize_over: str,
    reduction: str,
    cross_replica: bool,
) -> LossInputs:
    """Converts and checks the public arguments; ``ValueError`` for what is wrong."""
    check_name("sampler", sampler, SAMPLERS)
    check_name("normalize_over", normalize_over, NORMALIZE_OVER)
    check_name("reduction", reduction, REDUCTIONS)
    if check_boolean("cross_replica", cross_replica):
        _check_cross_replica(doc_ids, query_ids, normalize_over)
    query, doc = _to_tensor("query", query), _to_tensor("doc", doc)
    _check_embeddings(query, doc)
    rows, docs = query.shape[0], doc.shape[0]
    compute_dtype = compute_dtype_of(query.dtype)

    if negative_indices is not None:
        _refuse_both(num_negatives)
        sampler_name, table = None, _index_table(negative_indices, rows)
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
        logit_scale=_logit_scale(scale, temperature, compute_dtype),
        margin=_margin(margin, compute_dtype),
        sampler=sampler_name,
        num_negatives=num_negatives,
        seed=None if sampler_name in (None, "all") else check_seed(seed),
        negative_indices=table,
        mask_self=check_boolean("mask_self", mask_self),
        doc_ids=check_ids("doc_ids", doc_ids, docs, "doc"),
        query_ids=check_ids("query_ids", query_ids, rows, "query"),
        doc_log_q=check_floats("doc_log_q", doc_log_q, docs, "doc", compute_dtype),
        sample_weight=check_floats(
            "sample_weight", sample_weight, rows, "query", compute_dtype
        ),
        normalize_over=normalize_over,
        reduction=reduction,
    )


def check_name(argument: str, value: Any, allowed: Sequence[str]) -> None:
    """Refuses an unknown option, with the list of known ones."""
    if not isinstance(value, str) or value not in allowed:
        names = ", ".join(repr(name) for name in allowed)
        raise ValueError(f"{argument} must be one of {names}, got {value!r}")


def check_num_negatives(
    num_negatives: int | None, sampler: str, num_candidates: int | None
) -> int | None:
    """K as an int, or None for ``all`` where it is left to the sampler."""
    if num_negatives is None:
        if sampler == "all":
            return None
        raise ValueError(
            "give either num_negatives or negative_indices, got neither "
            f"(sampler={sampler!r} needs num_negatives)"
        )
    count = check_count("num_negatives", num_negatives)
    if num_candidates is not None:
        others = num_candidates - 1
        if sampler == "ring" and count > max(others, 0):
            raise ValueError(
                "num_negatives must be at most C - 1 for sampler='ring', where C = "
                f"{num_candidates} is doc's number of rows, got {count}"
            )
        if sampler == "all" and count != max(others, 0):
            raise ValueError(
                "num_negatives must be None or C - 1 for sampler='all', where C = "
                f"{num_candidates} is doc's number of rows, got {count}"
            )
    return count


def num_replicas() -> int:
    """The replicas that run this in step: 1 but inside of ``Strategy.run``."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else int(context.num_replicas_in_sync)


def check_count(name: str, value: Any) -> int:
    """A positive int32 as an int."""
    is_int = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_int or not 1 <= value <= MOST:
        raise ValueError(
            f"{name} must be an integer of at least 1 and below 2**31, got {value!r}"
        )
    return int(value)


def check_seed(seed: Any, name: str = "seed") -> tf.Tensor:
    """The seed as an int32 or int64 ``[2]`` tensor; a fresh one for None."""
    if seed is None:
        return fresh_seed()
    # In a graph TensorFlow would wrap it around, and silently.
    if isinstance(seed, (list, tuple)) and any(
        isinstance(part, int) and not -(2**63) <= part < 2**63 for part in seed
    ):
        raise ValueError(f"{name} must be two integers of 64 bits at most, got {seed!r}")
    tensor = seed if tf.is_tensor(seed) else _to_tensor(name, seed, tf.int64, "safe")
    is_pair = tensor.shape.rank == 1 and tensor.shape.is_compatible_with([2])
    if tensor.dtype not in INDEX_DTYPES or not is_pair:
        raise ValueError(
            f"{name} must be two integers, int32 or int64 of shape [2], got "
            f"{_describe(tensor)}"
        )
    return tensor


def runtime_checks(inputs: LossInputs) -> list[Any]:
    """Assertions for what ``check_inputs`` could not know yet; [] where it knew all.

    XLA leaves assertions out: its shapes are known when it compiles, and there an index
    outside ``[0, C)`` is dropped and never read, as on a GPU.
    """
    checks = []
    query, doc = tf.shape(inputs.query), tf.shape(inputs.doc)
    query_and_doc_rows = inputs.query.shape[0], inputs.doc.shape[0]

    def check(known: Any, holds: tf.Tensor, message: str, *values: Any) -> None:
        if not known:
            checks.append(tf.debugging.Assert(holds, [message, *values]))

    check(
        _all_known(inputs.query.shape[1], inputs.doc.shape[1]),
        query[1] == doc[1],
        "doc must have query's embedding size, got query and doc of shapes",
        query,
        doc,
    )
    check(
        _all_known(*query_and_doc_rows),
        doc[0] >= query[0],
        "doc must have at least as many rows as query (row i is query i's positive), "
        "got query and doc of shapes",
        query,
        doc,
    )
    for name, vector, owner in (
        ("doc_ids", inputs.doc_ids, "doc"),
        ("query_ids", inputs.query_ids, "query"),
        ("doc_log_q", inputs.doc_log_q, "doc"),
        ("sample_weight", inputs.sample_weight, "query"),
    ):
        if vector is not None:
            matrix = inputs.doc if owner == "doc" else inputs.query
            check(
                _all_known(vector.shape[0], matrix.shape[0]),
                tf.shape(vector)[0] == tf.shape(matrix)[0],
                f"{name} must have one element a row of {owner}, got shapes of the two",
                tf.shape(vector),
                tf.shape(matrix),
            )
    if inputs.sampler in ("ring", "all") and inputs.num_negatives is not None:
        exact = inputs.sampler == "all"
        count = inputs.num_negatives
        fits = count == doc[0] - 1 if exact else count <= doc[0] - 1
        check(
            inputs.query.shape[0] == 0 or _all_known(*query_and_doc_rows),
            tf.logical_or(query[0] == 0, fits),
            f"num_negatives must be {'' if exact else 'at most '}C - 1 for "
            f"sampler='{inputs.sampler}', where C is doc's number of rows, got and C",
            count,
            doc[0],
        )
    if inputs.negative_indices is not None:
        checks += _index_checks(inputs.negative_indices, query[0], doc[0])
    return checks


def _index_checks(table: tf.Tensor, rows: tf.Tensor, docs: tf.Tensor) -> list[Any]:
    bad = tf.logical_or(table < 0, table >= tf.cast(docs, table.dtype))
    # An empty table has no first bad entry: one that is not bad stands behind the rest.
    flat = tf.concat([tf.reshape(bad, [-1]), [False]], axis=0)
    first = tf.argmax(tf.cast(flat, tf.int32))
    columns = tf.cast(tf.maximum(tf.shape(table)[1], 1), first.dtype)
    value = tf.reshape(table, [-1])[first : first + 1]
    return [
        tf.debugging.Assert(
            tf.logical_and(tf.shape(table)[0] == rows, tf.shape(table)[1] >= 1),
            [
                "negative_indices must have shape [B, K] with B query's rows and K >= 1, "
                "got and B",
                tf.shape(table),
                rows,
            ],
        ),
        tf.debugging.Assert(
            tf.logical_not(tf.reduce_any(bad)),
            [
                "negative_indices must be in [0, C), the rows of doc; C, value, position",
                docs,
                value,
                first // columns,
                first % columns,
            ],
        ),
    ]


def _all_known(*sizes: int | None) -> bool:
    return None not in sizes


def _describe(tensor: tf.Tensor) -> str:
    return f"{tensor.dtype.name} of shape {tensor.shape}"


def _to_tensor(
    name: str, value: Any, hint: tf.DType = None, casting: Casting = "same_kind"
) -> tf.Tensor:
    """An argument as a tensor, of the hinted dtype where it has none of its own.

    TensorFlow would cast any NumPy array to the hint, and silently: here only as far as
    NumPy's ``casting`` allows it. What remains has its own dtype, for the caller to judge.
    """
    if hint is not None and isinstance(value, np.ndarray):
        fits = np.can_cast(value.dtype, hint.as_numpy_dtype, casting)
        hint = hint if fits else None
    try:
        return tf.convert_to_tensor(value, dtype_hint=hint)
    except (TypeError, ValueError, OverflowError, tf.errors.InvalidArgumentError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{name} must be a tensor, or what TensorFlow makes one of, got "
            f"{type(value).__name__}: {reason}"
        ) from error


def _check_cross_replica(doc_ids: Any, query_ids: Any, normalize_over: str) -> None:
    """Refuses what the joined batch of several replicas cannot be asked for."""
    if doc_ids is not None and query_ids is not None:
        raise ValueError(
            "cross_replica=True takes doc_ids or query_ids, got both: give doc_ids alone, "
            "with one id for the documents that are not to meet"
        )
    if normalize_over != "candidates":
        raise ValueError(
            "cross_replica=True gathers candidates and needs normalize_over='candidates', "
            f"got {normalize_over!r}"
        )


def _check_embeddings(query: tf.Tensor, doc: tf.Tensor) -> None:
    for name, tensor in (("query", query), ("doc", doc)):
        if tensor.dtype not in EMBEDDING_DTYPES:
            allowed = ", ".join(dtype.name for dtype in EMBEDDING_DTYPES)
            raise ValueError(f"{name} must be one of {allowed}, got {tensor.dtype.name}")
        if tensor.shape.rank != 2:
            raise ValueError(
                f"{name} must have two dimensions [rows, embedding], got shape "
                f"{tensor.shape}"
            )
    if query.dtype != doc.dtype:
        raise ValueError(
            f"doc must have query's dtype {query.dtype.name}, got {doc.dtype.name}; "
            "cast one of them"
        )
    (rows, size), (docs, doc_size) = query.shape, doc.shape
    if _all_known(size, doc_size) and size != doc_size:
        raise ValueError(
            f"doc must have query's embedding size {size}, got shape {doc.shape}"
        )
    if size is not None and not 1 <= size <= MOST:
        raise ValueError(
            f"query must have at least one column and at most {MOST}, got shape "
            f"{query.shape}"
        )
    if docs is not None and docs > MOST:
        raise ValueError(f"doc must have at most {MOST} rows, got {docs}")
    if rows is not None and docs is not None and docs < rows:
        raise ValueError(
            "doc must have at least as many rows as query (row i is query i's positive): "
            f"{rows}, got {docs}"
        )


def _refuse_both(num_negatives: int | None) -> None:
    if num_negatives is not None:
        raise ValueError(
            "give either num_negatives or negative_indices, got both "
            f"(num_negatives={num_negatives!r})"
        )


def _index_table(negative_indices: Any, rows: int | None) -> tf.Tensor:
    table = _to_tensor("negative_indices", negative_indices)
    if table.dtype not in INDEX_DTYPES:
        raise ValueError(f"negative_indices must be int32 or int64, got {table.dtype.name}")
    is_table = table.shape.rank == 2 and table.shape.is_compatible_with([rows, None])
    if not is_table or table.shape[1] == 0:
        raise ValueError(
            f"negative_indices must have shape [B, K] with B = {rows}, query's rows, and "
            f"K >= 1, got shape {table.shape}"
        )
    return table


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _as_float(number: Any) -> float:
    """Infinity for an integer or fraction beyond all floats."""
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _margin(value: Any, dtype: tf.DType) -> float:
    margin = _as_float(value) if _is_number(value) else math.nan
    if not math.isfinite(margin):
        raise ValueError(f"margin must be a finite number, got {value!r}")
    if abs(margin) > _LIMITS[dtype][1]:
        raise ValueError(f"margin must be finite in {dtype.name}, got {value!r}")
    return margin


def check_boolean(name: str, value: Any) -> bool:
    """True or False and nothing like them."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return value


def _logit_scale(scale: Any, temperature: Any, dtype: tf.DType) -> tf.Tensor | float:
    """``scale / temperature``, differentiable in those of the two that are tensors.

    Two numbers stay one: it becomes a tensor where it meets one, which costs less.
    """
    scale = _positive_scalar("scale", scale, dtype)
    temperature = _positive_scalar("temperature", temperature, dtype)
    quotient = scale / temperature
    smallest, largest = _LIMITS[dtype]
    if isinstance(quotient, float) and not smallest <= quotient <= largest:
        raise ValueError(
            f"scale / temperature must be above 0 and finite in {dtype.name}, got "
            f"{scale!r} / {temperature!r}"
        )
    return quotient


def _positive_scalar(name: str, value: Any, dtype: tf.DType) -> Any:
    if _is_number(value):
        number = _as_float(value)
        if not (number > 0 and math.isfinite(number)):
            raise ValueError(f"{name} must be a finite number above 0, got {value!r}")
        return number
    tensor = _to_tensor(name, value)
    if not tensor.dtype.is_floating or tensor.shape.rank != 0:
        raise ValueError(
            f"{name} must be a number above 0 or a floating-point scalar tensor, got "
            f"{_describe(tensor)}"
        )
    return tf.cast(tensor, dtype)


def _check_vector(name: str, vector: tf.Tensor, size: int | None, owner: str) -> None:
    if vector.shape.rank != 1 or not vector.shape.is_compatible_with([size]):
        raise ValueError(
            f"{name} must have shape [{size}], one element a row of {owner}, got shape "
            f"{vector.shape}"
        )


def check_ids(name: str, ids: Any, size: int | None, owner: str) -> tf.Tensor | None:
    """Ids as an int32 or int64 vector, one a row of ``owner``; None for None."""
    if ids is None:
        return None
    vector = _to_tensor(name, ids)
    if vector.dtype not in INDEX_DTYPES:
        hint = f"; tf.unique({name}).idx numbers them" if vector.dtype == tf.string else ""
        raise ValueError(f"{name} must be int32 or int64, got {vector.dtype.name}{hint}")
    _check_vector(name, vector, size, owner)
    return vector


def check_floats(
    name: str, values: Any, size: int | None, owner: str, dtype: tf.DType
) -> tf.Tensor | None:
    """Numbers as a vector of ``dtype``, one a row of ``owner``; None for None."""
    if values is None:
        return None
    vector = _to_tensor(name, values, dtype)
    if not vector.dtype.is_floating:
        raise ValueError(f"{name} must be floating-point, got {vector.dtype.name}")
    _check_vector(name, vector, size, owner)
    return tf.cast(vector, dtype)
