"""The arguments of the loss, checked once, at the edge (docs/semantics.md, "Inputs").

Everything behind this module may rely on a ``LossInputs``: ranks, dtypes and option names
are right, and so is every size that was known. Sizes that only a running graph knows are
checked there: by the native op itself, for the reference by ``size_checks`` and
``value_checks``.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from negative_cosine._device import device_in_use
from negative_cosine._known_sizes import known_size
from negative_cosine._runtime_checks import Check, asserted, nan_unless_all_hold
from negative_cosine._sampler import SAMPLERS, fresh_seed

EMBEDDING_DTYPES = (tf.float16, tf.bfloat16, tf.float32, tf.float64)
INDEX_DTYPES = (tf.int32, tf.int64)
NORMALIZE_OVER = ("candidates", "batch")
REDUCTIONS = ("mean", "sum", "none")
IMPLEMENTATIONS = ("auto", "native", "reference")
MOST = 2**31 - 1  # documents, columns, candidates a row

# What to do where a sampler does not have K candidates.
_WAYS_OUT = {
    "ring": "give a smaller num_negatives or sampler='shuffle', or leave a dataset's short "
    "last batch out by batch(..., drop_remainder=True)",
    "all": "leave num_negatives out, or give None: it then is C - 1 in every batch",
}

# What is no tensor yet, by the name of its class: Keras has one of each version's own.
_NO_TENSORS = {
    "KerasTensor": ", which has no values yet: in a functional model use the layer "
    "NegativeCosineLoss, or call the function in a layer's call or in compute_loss",
    "RaggedTensor": ", whose rows have lengths of their own; make them equally long",
    "SparseTensor": "; tf.sparse.to_dense makes it one",
}

# to_tensor() alone would fill up with 0, and make document 0 a candidate.
_FILLED_UP = (
    "fill short rows up with their own row number, which mask_self drops: "
    "tf.where(table < 0, tf.range(B, dtype=table.dtype)[:, tf.newaxis], table), for a "
    "ragged one with "
    "table = negative_indices.to_tensor(-1)"
)

Casting = Literal["safe", "same_kind"]

# The smallest and largest normal number of each compute dtype.
_LIMITS = {
    dtype: (float(limits.tiny), float(limits.max))
    for dtype in (tf.float32, tf.float64)
    for limits in [np.finfo(dtype.as_numpy_dtype)]
}


@dataclass(frozen=True)
class LossInputs:
    """The checked arguments; ``B``, ``C``, ``D`` and ``K`` as in docs/semantics.md."""

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
    sampler = check_name("sampler", sampler, SAMPLERS)
    normalize_over = check_name("normalize_over", normalize_over, NORMALIZE_OVER)
    reduction = check_name("reduction", reduction, REDUCTIONS)
    if check_boolean("cross_replica", cross_replica):
        _check_cross_replica(doc_ids, query_ids, normalize_over)
    query, doc = _to_tensor("query", query), _to_tensor("doc", doc)
    _check_embeddings(query, doc)
    rows: int | None = known_size(query, 0)
    docs: int | None = known_size(doc, 0)
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
        sample_weight=check_weight(sample_weight, rows, compute_dtype),
        normalize_over=normalize_over,
        reduction=reduction,
    )


def check_name(argument: str, value: Any, allowed: Sequence[str]) -> str:
    """A known option as a plain string, for NumPy's strings and string enums too."""
    name = _without_array(value)
    if not isinstance(name, str) or name not in allowed:
        names = ", ".join(repr(name) for name in allowed)
        raise ValueError(f"{argument} must be one of {names}, got {value!r}")
    return allowed[allowed.index(name)]


def check_num_negatives(
    num_negatives: int | None,
    sampler: str,
    num_candidates: int | None,
    called: str = "doc's number of rows",
) -> int | None:
    """K as an int, or None for ``all`` where it is left to the sampler.

    ``called`` is the caller's name for ``num_candidates``.
    """
    if num_negatives is None:
        if sampler == "all":
            return None
        raise ValueError(
            "give either num_negatives or negative_indices, got neither "
            f"(sampler={sampler!r} needs num_negatives)"
        )
    count: int = check_count("num_negatives", num_negatives)
    if num_candidates is not None and sampler in _WAYS_OUT:
        others: int = max(num_candidates - 1, 0)
        if count > others or (sampler == "all" and count != others):
            raise ValueError(
                f"{candidates_needed(sampler, f'C = {num_candidates} is {called}')}, got "
                f"{count}; {_WAYS_OUT[sampler]}"
            )
    return count


def candidates_needed(sampler: str, meaning_of_c: str) -> str:
    """What ``num_negatives`` must be for ``ring`` and ``all``."""
    bound = "C - 1" if sampler == "all" else "at most C - 1"
    return f"num_negatives must be {bound} for sampler={sampler!r}, where {meaning_of_c}"


def candidate_checks(
    sampler: str, count: int, docs: tf.Tensor, is_empty: Any, called: str
) -> list[Check]:
    """The same where the graph runs, for ``ring`` and ``all``."""
    if sampler not in _WAYS_OUT:
        return []
    others = docs - 1
    fits = tf.equal(count, others) if sampler == "all" else count <= others
    message = f"{candidates_needed(sampler, f'C is {called}')}; {_WAYS_OUT[sampler]}; got"
    return [Check(tf.logical_or(is_empty, fits), [message, count, "and C =", docs])]


def num_replicas() -> int:
    """The replicas that run this in step: 1 but inside of ``Strategy.run``."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else int(context.num_replicas_in_sync)


def check_count(name: str, value: Any) -> int:
    """A positive int32 as an int."""
    count = _without_array(value)
    if not _is_integer(count) or not 1 <= count <= MOST:
        raise ValueError(
            f"{name} must be an integer of at least 1 and below 2**31, got "
            f"{value!r}{_why_no_tensor(value)}"
        )
    return int(count)


def check_size(name: str, value: Any) -> int | tf.Tensor:
    """A size: an int where its value is known, else a scalar int32 or int64 tensor."""
    hint = ""
    size = _without_array(value)
    if _is_tensor(value):
        tensor = _to_tensor(name, value)
        hint = _how_to_tell_the_rank(name, tensor, "[]")
        if tensor.dtype in INDEX_DTYPES and tensor.shape.rank == 0:
            size = _without_array(tf.get_static_value(tensor))
            if size is None:
                return tensor
    if not _is_integer(size) or not 0 <= size <= MOST:
        raise ValueError(
            f"{name} must be an integer in [0, 2**31), or a scalar int32 or int64 tensor "
            f"of one, got {value!r}{hint}"
        )
    return int(size)


def _is_integer(value: Any) -> bool:
    """Whether it is an integer of Python or NumPy; a boolean is none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _without_array(value: Any) -> Any:
    """What a NumPy array without dimensions holds; all else as it is."""
    return value[()] if isinstance(value, np.ndarray) and value.ndim < 1 else value


def _is_tensor(value: Any) -> bool:
    """Whether it is a tensor or a variable, of TensorFlow or Keras."""
    return tf.is_tensor(value) or hasattr(value, "__tf_tensor__")


def _why_no_tensor(value: Any) -> str:
    """What an error adds where a tensor came for an option that is fixed in a graph."""
    if not _is_tensor(value):
        return ""
    return "; give a Python or NumPy value, no tensor: a graph is built for one value of it"


def check_seed(seed: Any, name: str = "seed") -> tf.Tensor:
    """The seed as an int32 or int64 ``[2]`` tensor; a fresh one for None."""
    if seed is None:
        return fresh_seed()
    parts = seed if isinstance(seed, (list, tuple)) else [seed]
    # In a graph TensorFlow would wrap it around, and silently.
    if any(_is_integer(part) and not -(2**63) <= part < 2**63 for part in parts):
        raise ValueError(f"{name} must be two integers of 64 bits at most, got {seed!r}")
    wanted = f"{name} must be two integers, int32 or int64 of shape [2], got"
    if _has_booleans(seed):
        raise ValueError(f"{wanted} {seed!r}")
    is_tensor = isinstance(seed, tf.Tensor)  # no variable: its dtype may be a reference
    tensor = seed if is_tensor else _to_tensor(name, seed, tf.int64, "safe")
    is_pair = tensor.shape.rank == 1 and tensor.shape.is_compatible_with([2])
    if tensor.dtype not in INDEX_DTYPES or not is_pair:
        raise ValueError(
            f"{wanted} {_describe(tensor)}{_how_to_cast(name, tensor.dtype)}"
            f"{_how_to_tell_the_rank(name, tensor, '[2]')}"
        )
    return tensor


def _has_booleans(values: Any) -> bool:
    """Whether there are any, which TensorFlow would take for 0 and 1."""
    parts = values if isinstance(values, (list, tuple)) else [values]
    return any(getattr(part, "dtype", type(part)) in (bool, np.bool_) for part in parts)


def seed_checks(seed: tf.Tensor | None) -> list[Check]:
    """The same where only the running graph knows the seed's length."""
    if seed is None or known_size(seed, 0) is not None:
        return []
    shape = tf.shape(seed)
    message = "seed must be two integers, got shape"
    return [Check(tf.equal(shape[0], 2), [message, shape])]


def size_checks(inputs: LossInputs) -> list[Check]:
    """For the sizes that ``check_inputs`` could not know yet; [] where it knew all."""
    checks = seed_checks(inputs.seed)
    query, doc = tf.shape(inputs.query), tf.shape(inputs.doc)
    rows: int | None = known_size(inputs.query, 0)
    docs: int | None = known_size(inputs.doc, 0)
    columns = known_size(inputs.query, 1), known_size(inputs.doc, 1)

    def check(known: Any, holds: tf.Tensor, message: str, *values: Any) -> None:
        if not known:
            checks.append(Check(holds, [message, *values]))

    check(
        _all_known(*columns),
        tf.equal(query[1], doc[1]),
        "doc must have query's embedding size, got query and doc of shapes",
        query,
        doc,
    )
    check(
        columns[0] is not None,
        query[1] >= 1,
        "query must have at least one column, got shape",
        query,
    )
    check(
        _all_known(rows, docs),
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
                _all_known(known_size(vector, 0), known_size(matrix, 0)),
                tf.equal(tf.shape(vector)[0], tf.shape(matrix)[0]),
                f"{name} must have one element a row of {owner}, got shapes of the two",
                tf.shape(vector),
                tf.shape(matrix),
            )
    is_known = rows == 0 or _all_known(rows, docs)
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
            _all_known(known_size(table, 0), rows, known_size(table, 1)),
            tf.logical_and(tf.equal(tf.shape(table)[0], query[0]), tf.shape(table)[1] >= 1),
            "negative_indices must have shape [B, K] with B query's rows and K >= 1, got "
            "and B",
            tf.shape(table),
            query[0],
        )
    return checks


def value_checks(inputs: LossInputs) -> list[Check]:
    """For values that are never right.

    Where XLA leaves them out, an index outside ``[0, C)`` is dropped and never read, as on
    a GPU, and the loss of a wrong logQ is infinite.
    """
    checks = []
    if inputs.negative_indices is not None:
        checks.append(_index_check(inputs.negative_indices, tf.shape(inputs.doc)[0]))
    if inputs.doc_log_q is not None:
        checks.append(_log_q_check(inputs.doc_log_q))
    return checks


def _index_check(table: tf.Tensor, docs: tf.Tensor) -> Check:
    bad = tf.logical_or(table < 0, table >= tf.cast(docs, table.dtype))
    first = _first_true(tf.reshape(bad, [-1]))
    columns = tf.cast(tf.maximum(tf.shape(table)[1], 1), first.dtype)
    return Check(
        tf.logical_not(tf.reduce_any(bad)),
        [
            "negative_indices must be in [0, C), the rows of doc; C, value, position",
            docs,
            _value_at(first, tf.reshape(table, [-1])),
            first // columns,
            first % columns,
            _FILLED_UP,
        ],
    )


def _log_q_check(log_q: tf.Tensor) -> Check:
    is_right = log_q >= log_q.dtype.min
    position = _first_true(~is_right)
    return Check(
        tf.reduce_all(is_right),
        [
            "doc_log_q must be numbers, or infinity for a document that is nobody's "
            "candidate; value, position",
            _value_at(position, log_q),
            position,
            "log(0) says that it is never sampled: estimate it above 0",
        ],
    )


def _first_true(conditions: tf.Tensor) -> tf.Tensor:
    """The position of the first that holds; behind all of them, where none does."""
    return tf.argmax(tf.cast(tf.concat([conditions, [True]], axis=0), tf.int32))


def _value_at(position: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """One of some values, ``[1]``; 0 behind them.

    Not by a slice: XLA wants its ends while it compiles, and would compile anew for each
    batch of other values.
    """
    padded = tf.concat([values, tf.zeros([1], values.dtype)], axis=0)
    return tf.gather(padded, position[tf.newaxis])


def _all_known(*sizes: int | None) -> bool:
    return None not in sizes


def _describe(tensor: tf.Tensor) -> str:
    return f"{tensor.dtype.name} of shape {tensor.shape}"


def _how_to_tell_the_rank(name: str, tensor: tf.Tensor, shape: str) -> str:
    """What an error adds where it could be right, had it a rank."""
    if tensor.shape.rank is not None:
        return ""
    return f"; tell its rank by tf.ensure_shape({name}, {shape})"


def _to_tensor(
    name: str, value: Any, hint: tf.DType = None, casting: Casting = "same_kind"
) -> tf.Tensor:
    """An argument as a tensor, of the hinted dtype where it has none of its own.

    TensorFlow would cast any NumPy array to the hint, and the tensors in a list, and
    silently: here arrays only as far as NumPy's ``casting`` allows it. What remains has its
    own dtype, for the caller to judge.
    """
    kind = type(value).__name__
    if kind in _NO_TENSORS:
        raise ValueError(f"{name} must be a dense tensor, got {kind}{_NO_TENSORS[kind]}")
    if isinstance(value, (list, tuple)) and value and _are_of_numpy(value):
        # In a graph TensorFlow would keep their dtype, and in eager execution it would not.
        value = np.asarray(value)
    if isinstance(value, np.ndarray):
        # TensorFlow would read the bytes of another byte order as if they were its own.
        value = value.astype(value.dtype.newbyteorder("="), copy=False)
        fits = hint is None or np.can_cast(value.dtype, hint.as_numpy_dtype, casting)
        hint = hint if fits else None
    elif isinstance(value, (list, tuple)) and any(map(_is_tensor, value)):
        hint = None
    try:
        return tf.convert_to_tensor(value, dtype_hint=hint)
    except (TypeError, ValueError, OverflowError, tf.errors.InvalidArgumentError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{name} must be a tensor, or what TensorFlow makes one of, got {kind}: "
            f"{reason}"
        ) from error


def _are_of_numpy(values: Sequence[Any]) -> bool:
    return all(isinstance(value, np.generic) for value in values)


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
                f"{tensor.shape}{_how_to_tell_the_rank(name, tensor, '[None, None]')}"
            )
    if query.dtype != doc.dtype:
        raise ValueError(
            f"doc must have query's dtype {query.dtype.name}, got {doc.dtype.name}; "
            "cast one of them"
        )
    rows, docs = known_size(query, 0), known_size(doc, 0)
    size: int | None = known_size(query, 1)
    doc_size: int | None = known_size(doc, 1)
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
    if type(negative_indices).__name__ == "RaggedTensor":
        raise ValueError(
            f"negative_indices must be a dense tensor, got RaggedTensor; {_FILLED_UP}"
        )
    table = _to_tensor("negative_indices", negative_indices)
    if table.dtype not in INDEX_DTYPES:
        raise ValueError(
            f"negative_indices must be int32 or int64, got {table.dtype.name}"
            f"{_how_to_cast('negative_indices', table.dtype)}"
        )
    is_table = table.shape.rank == 2 and table.shape.is_compatible_with([rows, None])
    if not is_table or known_size(table, 1) == 0:
        hint = _how_to_tell_the_rank("negative_indices", table, "[None, None]")
        raise ValueError(
            f"negative_indices must have shape [B, K] with B = {rows}, query's rows, and "
            f"K >= 1, got shape {table.shape}{hint}"
        )
    return table


def _is_number(value: Any) -> bool:
    """Whether it is a real number of Python or NumPy; a boolean is none."""
    is_real = isinstance(value, (numbers.Real, tf.bfloat16.as_numpy_dtype))
    return is_real and not isinstance(value, bool)


def _as_float(number: Any) -> float:
    """Infinity for an integer or fraction beyond all floats."""
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _real_number(value: Any) -> float:
    """A real number of Python or NumPy as a float; NaN for what is none."""
    number = _without_array(value)
    return _as_float(number) if _is_number(number) else math.nan


def check_positive_number(name: str, value: Any, highest: float = math.inf) -> float:
    """A real number above 0 that float32 has, up to ``highest``."""
    number = _real_number(value)
    smallest, largest = _LIMITS[tf.float32]
    if not smallest <= number <= min(largest, highest):
        allowed = "a finite number above 0" if highest == math.inf else f"in (0, {highest}]"
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return number


def check_pair_of_numbers(name: str, values: Any) -> tuple[float, float]:
    """Two real numbers that are known."""
    with tf.init_scope():  # what is made of them is no graph's
        tensor = _to_tensor(name, values, tf.float64, "safe")
    is_real = tensor.dtype.is_floating or tensor.dtype.is_integer
    pair = tf.get_static_value(tensor) if is_real else None
    if pair is None or pair.shape != (2,):
        raise ValueError(f"{name} must be two numbers, got {values!r}")
    return float(pair[0]), float(pair[1])


def check_text(name: str, value: Any) -> str:
    """A plain string, of NumPy's strings and string enums too."""
    text = _without_array(value)
    if not isinstance(text, str):
        raise ValueError(f"{name} must be a string, got {value!r}")
    return str.__str__(text)


def _margin(value: Any, dtype: tf.DType) -> float:
    margin = _real_number(value)
    if not math.isfinite(margin):
        raise ValueError(
            f"margin must be a finite number, got {value!r}{_why_no_tensor(value)}"
        )
    if abs(margin) > _LIMITS[dtype][1]:
        raise ValueError(f"margin must be finite in {dtype.name}, got {value!r}")
    return margin


def check_boolean(name: str, value: Any) -> bool:
    """True or False, Python's or NumPy's, and nothing like them."""
    boolean = _without_array(value)
    if not isinstance(boolean, (bool, np.bool_)):
        raise ValueError(
            f"{name} must be True or False, got {value!r}{_why_no_tensor(value)}"
        )
    return bool(boolean)


def _logit_scale(scale: Any, temperature: Any, dtype: tf.DType) -> tf.Tensor | float:
    """``scale / temperature``, differentiable in those of the two that are tensors.

    Two numbers stay one: it becomes a tensor where it meets one, which costs less.
    """
    scale = _positive_scalar("scale", scale, dtype)
    temperature = _positive_scalar("temperature", temperature, dtype)
    quotient = scale / temperature
    if tf.is_tensor(quotient):
        return _checked_when_it_runs("scale / temperature", quotient)
    smallest, largest = _LIMITS[dtype]
    if not smallest <= quotient <= largest:
        raise ValueError(
            f"scale / temperature must be above 0 and finite in {dtype.name}, got "
            f"{scale!r} / {temperature!r}"
        )
    return float(quotient)


def _positive_scalar(name: str, value: Any, dtype: tf.DType) -> Any:
    value = _without_array(value)
    if _is_number(value):
        number = _as_float(value)
        if not (number > 0 and math.isfinite(number)):
            raise ValueError(f"{name} must be a finite number above 0, got {value!r}")
        return number
    tensor = _to_tensor(name, value)
    if not tensor.dtype.is_floating or tensor.shape.rank != 0:
        raise ValueError(
            f"{name} must be a number above 0 or a floating-point scalar tensor, got "
            f"{_describe(tensor)}{_how_to_tell_the_rank(name, tensor, '[]')}"
        )
    return _checked_when_it_runs(name, tf.cast(tensor, dtype))


_TRAINED = (
    "a trained one may cross 0: train its logarithm instead, as in temperature="
    "tf.exp(log_temperature), or use NegativeCosineLoss(learn_temperature=True)"
)


def _checked_when_it_runs(name: str, scalar: tf.Tensor) -> tf.Tensor:
    """The scalar, refused by its name where it is not above 0 and finite.

    Where the number is on a device, and under XLA, it becomes NaN: a scale below 0 would
    turn the ranking around with a loss that looks right.
    """
    smallest, largest = _LIMITS[scalar.dtype]
    if tf.executing_eagerly() and _host_sees(scalar):
        value = float(scalar)
        if not smallest <= value <= largest:
            raise ValueError(
                f"{name} must be above 0 and finite in {scalar.dtype.name}, got "
                f"{value!r}; {_TRAINED}"
            )
        return scalar
    is_right = (scalar >= smallest) & (scalar <= largest)
    message = f"{name} must be above 0 and finite in {scalar.dtype.name}, got"
    checks = [Check(is_right, [message, scalar, _TRAINED])]
    with asserted(checks if _host_sees(scalar) else []):
        return nan_unless_all_hold(checks, scalar)


def _host_sees(scalar: tf.Tensor) -> bool:
    """Whether the host can look at a number without waiting for a device."""
    if scalar.device:
        return "CPU:" in scalar.device.upper()
    return device_in_use() == "CPU"


def _check_vector(name: str, vector: tf.Tensor, size: int | None, owner: str) -> None:
    if vector.shape.rank != 1 or not vector.shape.is_compatible_with([size]):
        raise ValueError(
            f"{name} must have shape [{size}], one element a row of {owner}, got shape "
            f"{vector.shape}{_how_to_make_a_vector(name, vector)}"
        )


def _how_to_make_a_vector(name: str, tensor: tf.Tensor) -> str:
    if tensor.shape.rank is not None and tensor.shape.is_compatible_with([None, 1]):
        return f"; tf.squeeze({name}, 1) makes a vector of a column"
    return _how_to_tell_the_rank(name, tensor, "[None]")


def check_ids(name: str, ids: Any, size: int | None, owner: str) -> tf.Tensor | None:
    """Ids as an int32 or int64 vector, one a row of ``owner``; None for None."""
    if ids is None:
        return None
    # TensorFlow would take a list of nothing for one of floats.
    is_empty_list = isinstance(ids, (list, tuple)) and not ids
    vector = _to_tensor(name, ids, tf.int32 if is_empty_list else None)
    if vector.dtype not in INDEX_DTYPES:
        raise ValueError(
            f"{name} must be int32 or int64, got {vector.dtype.name}"
            f"{_how_to_number(name, vector.dtype)}"
        )
    _check_vector(name, vector, size, owner)
    return vector


def _how_to_number(name: str, dtype: tf.DType) -> str:
    """What an error adds for ids: numbers that are the same in every batch and run."""
    if dtype != tf.string:
        return _how_to_cast(name, dtype)
    return (
        "; number strings alike in every batch, replica and run: "
        f"tf.strings.to_hash_bucket_fast({name}, 2**62), or for an input of a Keras model "
        "keras.layers.Hashing(2**62)"
    )


def _how_to_cast(name: str, dtype: tf.DType) -> str:
    """What an error adds for integers of another size; "" where a cast could change one."""
    if dtype == tf.uint64:
        return f"; tf.bitcast({name}, tf.int64) keeps different ones different"
    is_smaller = dtype.is_integer and dtype not in INDEX_DTYPES
    return f"; tf.cast({name}, tf.int64) keeps them as they are" if is_smaller else ""


def _how_to_make_floats(name: str, dtype: tf.DType) -> str:
    is_number = dtype.is_integer or dtype.is_bool
    return f"; tf.cast({name}, tf.float32) makes it so" if is_number else ""


def check_floats(
    name: str,
    values: Any,
    size: int | None,
    owner: str,
    dtype: tf.DType,
    is_mask: bool = False,
) -> tf.Tensor | None:
    """Numbers as a vector of ``dtype``, one a row of ``owner``; None for None.

    ``is_mask`` says that booleans stand for 0 and 1.
    """
    if values is None:
        return None
    vector = _to_tensor(name, values, dtype)
    own_dtype = tf.bool if _has_booleans(values) else vector.dtype
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
