"""The float64 judge of a catalogue in NumPy, with every score, written by itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.support import oracle
from tests.support.cases import DTYPES, Array

# Scores that differ by less may be a tie in float32.
GAP = 2e-6


def scores(query: Array, corpus: Array, similarity: str) -> Array:
    """``[B, N]`` in float64."""
    rows = [np.asarray(part, np.float64) for part in (query, corpus)]
    if similarity == "cosine":
        rows = [oracle.unit_rows(part)[0] for part in rows]
    return rows[0] @ rows[1].T


def counts(ids: Array, excluded: Array | None, queries: int) -> Array:
    """``[B, N]``: whether a document counts for a query."""
    found = np.ones([queries, len(ids)], bool)
    if excluded is not None:
        for row, left_out in enumerate(excluded):
            found[row] = ~np.isin(ids, left_out)
    return found


class Catalogue:
    """Random queries and documents; a query's own document is one of them."""

    def __init__(
        self, shape: tuple[int, int, int], dtype: str, similarity: str = "cosine"
    ) -> None:
        queries, docs, dim = shape
        random = np.random.default_rng(queries + 1000 * docs + dim)
        self.similarity = similarity
        self.query = random.normal(size=(queries, dim)).astype(DTYPES[dtype])
        self.corpus = random.normal(size=(docs, dim)).astype(DTYPES[dtype])
        self.own = random.integers(0, docs, queries)
        self.positive = self.corpus[self.own]
        self.ids = random.permutation(10 * docs)[:docs] - docs
        self.excluded = random.choice(self.ids, (queries, 3))
        self.scores = scores(self.query, self.corpus, similarity)

    @property
    def arguments(self) -> dict[str, Any]:
        """What ``retrieval_ranks`` takes, without ids."""
        return {
            "query": self.query,
            "positive": self.positive,
            "corpus": self.corpus,
            "similarity": self.similarity,
        }

    @property
    def with_ids(self) -> dict[str, Any]:
        """The same with everything about ids."""
        ids = {
            "positive_ids": self.ids[self.own],
            "corpus_ids": self.ids,
            "excluded_ids": self.excluded,
        }
        return {**self.arguments, **ids}

    def ranks(self, excluded: Array | None = None) -> Array:
        """Of the positives among all documents that are not excluded."""
        own = np.take_along_axis(self.scores, self.own[:, None], axis=1)
        others = self.scores != own
        gaps = np.abs(self.scores - own)[others]
        assert gaps.size == 0 or gaps.min() > GAP, "float32 could not tell these apart"
        counted = counts(self.ids, excluded, len(self.query))
        return np.sum((self.scores > own) & counted, axis=1)
