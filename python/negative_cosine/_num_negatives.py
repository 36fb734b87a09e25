"""``num_negatives``, K: what each sampler takes, checked at once or where a graph runs."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from negative_cosine._options import check_count
from negative_cosine._runtime_checks import Check

# What to do where a sampler does not have K candidates.
_FIXES = {
    "ring": "use a smaller num_negatives or sampler='shuffle', or drop a dataset's short "
    "last batch with batch(..., drop_remainder=True)",
    "all": "omit num_negatives or pass None, which means C - 1 in every batch",
}


def check_num_negatives(
    num_negatives: int | None,
    sampler: str,
    num_candidates: int | None,
    called: str = "doc's number of rows",
) -> int | None:
    """K as an int, or None for ``all`` where the caller did not give it.

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
    if num_candidates is not None and sampler in _FIXES:
        others: int = max(num_candidates - 1, 0)
        if count > others or (sampler == "all" and count != others):
            raise ValueError(
                f"{candidates_needed(sampler, f'C = {num_candidates} is {called}')}, got "
                f"{count}; {_FIXES[sampler]}"
            )
    return count


def candidates_needed(sampler: str, meaning_of_c: str) -> str:
    """What ``num_negatives`` must be for ``ring`` and ``all``."""
    bound = "C - 1" if sampler == "all" else "at most C - 1"
    return f"num_negatives must be {bound} for sampler={sampler!r}, where {meaning_of_c}"


def candidate_checks(
    sampler: str, count: int, docs: tf.Tensor, is_empty: Any, called: str
) -> list[Check]:
    """The same rule for ``ring`` and ``all``, checked where the graph runs."""
    if sampler not in _FIXES:
        return []
    others = docs - 1
    fits = tf.equal(count, others) if sampler == "all" else count <= others
    message = f"{candidates_needed(sampler, f'C is {called}')}; {_FIXES[sampler]}; got"
    return [Check(tf.logical_or(is_empty, fits), [message, count, "and C =", docs])]
