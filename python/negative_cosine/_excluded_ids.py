"""Documents that do not count for a query, by their ids.

The ids of a block are sorted, and those of each query looked up among them: no comparison
of every id with every other is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import tensorflow as tf

State = TypeVar("State", bound=tuple[tf.Tensor, ...])


class ExcludedIds(NamedTuple):
    """The ids that each query leaves out, in order."""

    ids: tf.Tensor  # int64 [B, E]
    is_first: tf.Tensor  # bool [B, E]: not the one before it again


def excluded_ids_of(*tables: tf.Tensor | None) -> ExcludedIds | None:
    """All ids of some tables ``[B]`` or ``[B, E]``; None where there is no table."""
    given = [tf.cast(table, tf.int64) for table in tables if table is not None]
    if not given:
        return None
    columns = [t if t.shape.rank == 2 else t[:, tf.newaxis] for t in given]
    ids = tf.sort(tf.concat(columns, axis=1), axis=1)
    is_first = tf.pad(
        tf.not_equal(ids[:, 1:], ids[:, :-1]), [[0, 0], [1, 0]], constant_values=True
    )
    return ExcludedIds(ids, is_first[:, : tf.shape(ids)[1]])


def fold_excluded(
    step: Callable[[State, tf.Tensor, tf.Tensor], State],
    state: State,
    excluded: ExcludedIds,
    ids: tf.Tensor,
) -> State:
    """The state after ``step`` has seen every document that a query excludes.

    ``ids`` are those of a block. ``step`` gets positions in it ``[B, E]`` and whether there
    is a document at all: one for each id of ``excluded``, and again for as long as some id
    has a further document.
    """
    order = tf.argsort(ids)
    ordered = tf.gather(ids, order)
    order = tf.pad(order, [[0, 1]])  # XLA gathers nothing of a vector without elements

    def positions(side: str) -> tf.Tensor:
        flat = tf.searchsorted(ordered, tf.reshape(excluded.ids, [-1]), side=side)
        return tf.reshape(flat, tf.shape(excluded.ids))

    first = positions("left")
    counts = tf.where(excluded.is_first, positions("right") - first, 0)

    def body(number: tf.Tensor, *state: Any) -> tuple[tf.Tensor, ...]:
        found = number < counts
        columns = tf.gather(order, tf.where(found, first + number, 0))
        return number + 1, *step(state, columns, found)  # type: ignore[arg-type]

    most = tf.reduce_max(counts)
    _, *state = tf.while_loop(
        lambda number, *_: number < most, body, (0, *state), parallel_iterations=1
    )
    return state
