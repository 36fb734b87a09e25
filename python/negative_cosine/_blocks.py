"""Documents in blocks, so that no ``[B, N]`` matrix of scores is ever in memory.

A fold goes over blocks of documents with a state that a step changes: counts, or the best
documents so far. It is one graph, in eager execution too, since a graph frees and reuses
the scores of a block.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import tensorflow as tf

from negative_cosine._known_sizes import known_size

# Of the scores of a block: what a processor's last cache holds. A block of more bytes
# costs the trip to memory, one of fewer the start of more ops.
BLOCK_BYTES = 2**23
FEWEST_DOCS = 64
# Copies of a block's own rows that its scores take, roughly.
COPIES_OF_A_ROW = 4
MOST_DOCS = 2**24  # float32 counts them exactly

Size: TypeAlias = "int | tf.Tensor"
State = TypeVar("State", bound=tuple[tf.Tensor, ...])
Step = Callable[[State, Size, Size], State]  # of the state, a block's start and its size
Function = TypeVar("Function", bound=Callable[..., Any])


def docs_in_block(
    query: tf.Tensor, block_size: int | None, fewest: int = FEWEST_DOCS
) -> Size:
    """How many documents are scored at once: what was asked for, or by ``BLOCK_BYTES``."""
    if block_size is not None:
        return min(block_size, MOST_DOCS)
    rows, columns = size_of(query, 0), size_of(query, 1)
    bytes_of_a_doc = query.dtype.size * (rows + COPIES_OF_A_ROW * columns)
    fewest = min(fewest, MOST_DOCS)
    if isinstance(bytes_of_a_doc, int):
        return max(fewest, BLOCK_BYTES // bytes_of_a_doc)
    return tf.maximum(fewest, BLOCK_BYTES // bytes_of_a_doc)


def size_of(tensor: tf.Tensor, axis: int) -> Size:
    """A size as an int, or as a scalar tensor where only the running graph knows it."""
    size = known_size(tensor, axis)
    return tf.shape(tensor)[axis] if size is None else size


def fold_blocks(step: Step[State], state: State, docs: Size, block: Size) -> State:
    """The state after ``step`` has seen all documents, block by block, in their order.

    The last block is shorter. All others have one size, which XLA needs.
    """
    if isinstance(docs, int) and isinstance(block, int):
        whole: Size = docs // block
    else:  # XLA compiles the body of a loop that no block is for, too
        block = tf.minimum(block, docs)
        whole = docs // tf.maximum(block, 1)
    rest = docs - whole * block
    shapes = tuple(part.shape for part in state)

    def body(number: tf.Tensor, *state: Any) -> tuple[tf.Tensor, ...]:
        changed = step(state, number * block, block)  # type: ignore[arg-type]
        return number + 1, *map(tf.ensure_shape, changed, shapes)

    if isinstance(whole, tf.Tensor) or whole > 1:
        # One block at a time: TensorFlow would begin with ten.
        _, *state = tf.while_loop(
            lambda number, *_: number < whole, body, (0, *state), parallel_iterations=1
        )
    elif whole > 0:
        state = step(state, 0, block)
    if isinstance(rest, tf.Tensor) or rest > 0:
        state = step(state, whole * block, rest)
    return state


def rows_of(tensor: tf.Tensor, start: Size, size: Size) -> tf.Tensor:
    """Rows of a matrix or elements of a vector."""
    rank = tensor.shape.rank
    return tf.slice(tensor, [start, *[0] * (rank - 1)], [size, *[-1] * (rank - 1)])


def as_one_graph(function: Function) -> Function:
    """The function; called in eager execution it runs as a graph of its own.

    Its arguments are tensors, and options that a graph is built for.
    """
    traced = tf.function(function, autograph=False, reduce_retracing=True)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        return (traced if tf.executing_eagerly() else function)(*arguments)

    return cast(Function, call)


def fold_dataset(
    step: Callable[[State, Any], State], state: State, blocks: tf.data.Dataset
) -> State:
    """The state after ``step`` has seen every element of a dataset."""
    if tf.executing_eagerly():
        for block in blocks:
            state = step(state, block)
        return state
    shapes = tuple(part.shape for part in state)
    iterator = iter(blocks)

    def body(element: Any, *state: Any) -> tuple[Any, ...]:
        changed = step(state, element.get_value())  # type: ignore[arg-type]
        following = iterator.get_next_as_optional()
        return following, *map(tf.ensure_shape, changed, shapes)

    _, *state = tf.while_loop(
        lambda element, *_: element.has_value(),
        body,
        (iterator.get_next_as_optional(), *state),
        parallel_iterations=1,
    )
    return state
