"""The documents that are ranked: a matrix in memory, or a dataset of blocks of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import tensorflow as tf

from negative_cosine._blocks import fold_dataset
from negative_cosine._known_sizes import known_size
from negative_cosine._row_inputs import check_ids, check_like_query, check_matrix
from negative_cosine._runtime_checks import (
    Check,
    asserted,
    equal_size_checks,
    vector_checks,
)
from negative_cosine._tensors import INDEX_DTYPES, to_tensor

State = TypeVar("State", bound=tuple[tf.Tensor, ...])
Step = Callable[[State, tf.Tensor, tf.Tensor], State]  # of the state, documents and ids


@dataclass(frozen=True)
class Corpus:
    """Documents and their ids, which are row numbers where none were given."""

    doc: tf.Tensor | None  # [N, D]; None with blocks
    ids: tf.Tensor | None  # int64 [N]
    blocks: tf.data.Dataset | None  # of matrices, or pairs of a matrix and ids
    checks: list[Check]


def check_corpus(corpus: Any, corpus_ids: Any, query: tf.Tensor) -> Corpus:
    """The public arguments; ``ValueError`` for what is wrong as far as it is known."""
    if isinstance(corpus, tf.data.Dataset):
        _check_blocks(corpus, query)
        if corpus_ids is not None:
            raise ValueError(
                "corpus_ids must be None where corpus is a dataset, got "
                f"{type(corpus_ids).__name__}; let the dataset give pairs (block, ids)"
            )
        return Corpus(None, None, corpus, [])
    doc = to_tensor("corpus", corpus)
    check_matrix("corpus", doc)
    check_like_query("corpus", doc, query)
    rows = known_size(doc, 0)
    ids = check_ids("corpus_ids", corpus_ids, rows, "corpus")
    checks = column_checks("corpus", doc, query)
    checks += vector_checks("corpus_ids", ids, "corpus", doc)
    return Corpus(doc, None if ids is None else tf.cast(ids, tf.int64), None, checks)


def column_checks(name: str, tensor: tf.Tensor, query: tf.Tensor) -> list[Check]:
    """That a matrix has query's columns, where only the running graph knows it."""
    message = f"{name} must have query's embedding size, got {name} and query of shapes"
    return equal_size_checks(message, tensor, query, axis=1)


def fold_corpus(step: Step[State], state: State, corpus: Corpus) -> State:
    """The state after ``step`` has seen the documents, at once or block by block."""
    if corpus.doc is not None:
        first = tf.zeros([], tf.int64)
        return step(state, corpus.doc, ids_of(corpus.doc, corpus.ids, first))

    def add(counted: tuple[tf.Tensor, ...], block: Any) -> tuple[tf.Tensor, ...]:
        first, *state = counted
        doc, ids = block if isinstance(block, tuple) else (block, None)
        with asserted(vector_checks("ids of a block", ids, "the block", doc)):
            ids = ids_of(doc, ids, first)
            changed = step(state, doc, ids)  # type: ignore[arg-type]
        return first + tf.shape(doc, tf.int64)[0], *changed

    start = (tf.zeros([], tf.int64), *state)
    _, *found = fold_dataset(add, start, corpus.blocks)
    return tuple(found)  # type: ignore[return-value]


def ids_of(doc: tf.Tensor, ids: tf.Tensor | None, first: tf.Tensor) -> tf.Tensor:
    """The ids of a block as int64; its row numbers, after ``first``, where it has none."""
    if ids is None:
        return first + tf.range(tf.shape(doc, tf.int64)[0])
    return tf.cast(ids, tf.int64)


def _check_blocks(blocks: tf.data.Dataset, query: tf.Tensor) -> None:
    spec = blocks.element_spec
    is_pair = isinstance(spec, tuple) and len(spec) == 2
    doc, ids = spec if is_pair else (spec, None)
    is_right = isinstance(doc, tf.TensorSpec) and doc.shape.rank == 2
    if not is_right or (is_pair and not _are_ids(ids)):
        raise ValueError(
            "corpus must be a dataset of blocks [n, D], or of pairs of a block and int32 "
            f"or int64 ids [n], got elements of {spec}; a dataset of single documents "
            "becomes one of blocks with corpus.batch(4096)"
        )
    check_matrix("a block of corpus", doc)
    check_like_query("a block of corpus", doc, query)


def _are_ids(spec: Any) -> bool:
    is_tensor = isinstance(spec, tf.TensorSpec)
    return is_tensor and spec.dtype in INDEX_DTYPES and spec.shape.rank == 1
