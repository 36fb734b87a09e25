"""The float64 judge: docs/semantics.md in NumPy, written apart from the package.

Nothing here is shared with the code under test. Everything is dense: a ``[B, C]`` matrix
of cosines, and another that counts how often query i drew document j and kept it. It
knows no NaN: a test puts numbers in the place of what has to be left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Result(NamedTuple):
    """Values, statistics and gradients of one batch, in float64."""

    loss: Array
    row_loss: Array
    positive_cosine: Array
    num_kept: Array
    logits: Array  # [B, K], minus infinity where dropped
    positive_logit: Array
    query_gradient: Array
    doc_gradient: Array
    scale_gradient: float
    temperature_gradient: float
    sample_weight_gradient: Array
    # The size of the terms that each gradient is a sum of: what its rounding scales with.
    gradient_sizes: dict[str, float]
    # The same by row, for batches whose rows differ much: the lengths of a row's terms,
    # added up, and for `scale` the weights of the cosines that it is a sum of.
    gradient_terms: dict[str, Array]


def unit_rows(rows: Array) -> tuple[Array, Array]:
    """Rows at unit length (zero where the norm is <= 1e-12), and 1 / norm."""
    norm = np.linalg.norm(rows, axis=1)
    inverse = np.where(norm <= 1e-12, 0.0, 1.0 / np.where(norm <= 1e-12, 1.0, norm))
    return rows * inverse[:, None], inverse


def kept_candidates(
    table: Array,
    num_queries: int,
    mask_self: bool,
    doc_ids: Any,
    query_ids: Any,
    is_excluded: Array | None = None,
) -> Array:
    """docs/semantics.md, "Dropped candidates", pair by pair.

    ``is_excluded`` says which documents are nobody's candidates, by their logQ.
    """
    kept = np.ones(table.shape, bool) if is_excluded is None else ~is_excluded[table]
    for i, row in enumerate(table):
        for k, j in enumerate(row):
            if mask_self and j == i:
                kept[i, k] = False
            if doc_ids is not None and doc_ids[j] == doc_ids[i]:
                kept[i, k] = False
            if query_ids is not None and j < num_queries and query_ids[j] == query_ids[i]:
                kept[i, k] = False
    return kept


def negative_cosine_loss(
    query: Array,
    doc: Array,
    table: Array,
    *,
    scale: float = 20.0,
    temperature: float = 1.0,
    margin: float = 0.0,
    negative_weight: float = 1.0,
    mask_self: bool = True,
    doc_ids: Any = None,
    query_ids: Any = None,
    doc_log_q: Any = None,
    sample_weight: Any = None,
    normalize_over: str = "candidates",
    reduction: str = "mean",
) -> Result:
    """Loss, statistics and the gradients of the summed output."""
    query, doc = np.asarray(query, np.float64), np.asarray(doc, np.float64)
    rows, docs = len(query), len(doc)
    log_q = np.zeros(docs) if doc_log_q is None else np.asarray(doc_log_q, np.float64)
    weight = (
        np.ones(rows) if sample_weight is None else np.asarray(sample_weight, np.float64)
    )
    share = weight / rows if reduction == "mean" and rows else weight
    s = scale / temperature
    is_excluded = np.isposinf(log_q)  # nobody's candidate, and no positive can beat it
    log_q = np.where(is_excluded, 0.0, log_q)

    unit_query, query_inverse = unit_rows(query)
    unit_doc, doc_inverse = unit_rows(doc)
    cosine = unit_query @ unit_doc.T
    diagonal = np.arange(rows)
    positive_cosine = cosine[diagonal, diagonal]
    positive_logit = s * (positive_cosine - margin) - log_q[:rows]
    all_logits = s * cosine - log_q[None, :]

    kept = kept_candidates(table, rows, mask_self, doc_ids, query_ids, is_excluded)
    counts = np.zeros((rows, docs))
    for i, k in zip(*np.nonzero(kept), strict=True):
        counts[i, table[i, k]] += negative_weight
    logits = np.where(kept, np.take_along_axis(all_logits, table, axis=1), -np.inf)

    if normalize_over == "candidates":
        with np.errstate(divide="ignore"):
            log_counts = np.log(counts)  # minus infinity where nothing was drawn
        relative = all_logits - positive_logit[:, None] + log_counts
        row_loss = np.logaddexp(0.0, logsumexp(relative))
        probability = np.exp(relative - row_loss[:, None])
        row_loss[is_excluded[:rows] & kept.any(axis=1)] = np.inf
        # d loss / d z, by document, and for the positive's own logit.
        counted = np.where(np.isinf(row_loss), 0.0, share)
        by_logit = counted[:, None] * probability
        by_positive = counted * np.expm1(-row_loss)
        positive_terms = np.abs(by_positive)
    else:
        others = positive_logit[None, :] - positive_logit[:, None]
        others[diagonal, diagonal] = -np.inf
        others[:, is_excluded[:rows]] = -np.inf
        row_loss = np.logaddexp(0.0, logsumexp(others))
        row_loss[is_excluded[:rows]] = np.inf
        counted = np.where(np.isinf(row_loss), 0.0, share)
        by_logit = np.zeros_like(cosine)
        by_positive = np.exp(-row_loss) * counted.sum() - counted
        positive_terms = np.exp(-row_loss) * np.abs(counted.sum()) + np.abs(counted)

    by_cosine = s * by_logit
    by_cosine[diagonal, diagonal] += s * by_positive
    terms = s * np.abs(by_logit)  # before any of them cancel
    terms[diagonal, diagonal] += s * positive_terms
    s_terms = np.append(by_logit * cosine, by_positive * (positive_cosine - margin))
    s_gradient, s_size = s_terms.sum(), np.abs(s_terms).sum()
    losses = np.multiply(share, row_loss, out=np.zeros(rows), where=share != 0)
    by_weight = np.where((share == 0) & np.isinf(row_loss), 0.0, row_loss)
    return Result(
        loss=losses if reduction == "none" else losses.sum(),
        row_loss=row_loss,
        positive_cosine=positive_cosine,
        num_kept=kept.sum(axis=1),
        logits=logits,
        positive_logit=positive_logit,
        query_gradient=tangent(by_cosine @ unit_doc, unit_query, query_inverse),
        doc_gradient=tangent(by_cosine.T @ unit_query, unit_doc, doc_inverse),
        scale_gradient=s_gradient / temperature,
        temperature_gradient=-s_gradient * scale / temperature**2,
        sample_weight_gradient=by_weight / rows if reduction == "mean" else by_weight,
        gradient_sizes={
            "query": largest(terms @ abs(unit_doc) * query_inverse[:, None]),
            "doc": largest(terms.T @ abs(unit_query) * doc_inverse[:, None]),
            "scale": s_size / temperature,
            "temperature": s_size * scale / temperature**2,
            "sample_weight": largest(by_weight),
        },
        gradient_terms={
            "query": terms.sum(axis=1) * query_inverse,
            "doc": terms.sum(axis=0) * doc_inverse,
            "scale": terms.sum() / scale,
            "temperature": terms.sum() / temperature,
        },
    )


def largest(values: Array) -> float:
    """The largest magnitude, 0 of nothing."""
    return float(np.abs(values).max(initial=0.0))


def logsumexp(values: Array) -> Array:
    """By rows; minus infinity for a row of nothing."""
    largest = values.max(axis=1, initial=-np.inf)
    shift = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(divide="ignore"):
        return shift + np.log(np.exp(values - shift[:, None]).sum(axis=1))


def tangent(by_unit: Array, unit: Array, inverse_norm: Array) -> Array:
    """The gradient by a row from the gradient by the row at unit length."""
    along = (by_unit * unit).sum(axis=1, keepdims=True)
    return (by_unit - along * unit) * inverse_norm[:, None]


# --- The sampler, a third time: scalar Python integers, one value at a time. -----------

_WORD = 0xFFFFFFFF


def _mix(x: int) -> int:
    x ^= x >> 16
    x = x * 0x85EBCA6B & _WORD
    x ^= x >> 13
    x = x * 0xC2B2AE35 & _WORD
    return x ^ x >> 16


def _round_hash(x: int) -> int:
    """A hash of numbers of 16 bits, xor a key, of which the high bits are used."""
    x = x * 0x85EBCA6B & _WORD
    x ^= x >> 13
    return x * 0xC2B2AE35 & _WORD


def enough_rounds(bits: int) -> int:
    """The sampler's rounds for numbers of so many bits."""
    known = {2: 32, 3: 32, 4: 24, 5: 20, 6: 16, 7: 12, 8: 10, 9: 10, 10: 8, 11: 8}
    return known.get(bits, 6)


class Permutation:
    """One keyed bijection of ``0..size-1``."""

    def __init__(self, seed: tuple[int, int], number: int, size: int) -> None:
        first, second = 0x243F6A88, 0x85A308D3
        for half in seed:
            for word in (half & _WORD, half >> 32 & _WORD):
                first = _mix(first ^ word) * 0x9E3779B9 & _WORD
                second = _mix(_mix(second ^ first) ^ (word * 0xC2B2AE3D & _WORD))
        first = _mix(first ^ (number * 0x9E3779B9 & _WORD))
        second = _mix(second ^ first)
        bits = max(2, (size - 1).bit_length())
        self.size = size
        self.low_bits, self.high_bits = bits // 2, bits - bits // 2
        self.keys = [
            _mix(first ^ ((r + 1) * 0x9E3779B9 & _WORD)) ^ second
            for r in range(enough_rounds(bits))
        ]

    def __call__(self, x: int) -> int:
        """``pi(x)``."""
        line, column = divmod(x, 1 << self.low_bits)
        for shift_key, swap_key in zip(self.keys[::2], self.keys[1::2], strict=True):
            line = self._shifted(line, column, shift_key, 1)
            column = self._swapped(line, column, swap_key)
        return line << self.low_bits | column

    def inverse(self, x: int) -> int:
        """``pi^-1(x)``."""
        line, column = divmod(x, 1 << self.low_bits)
        for shift_key, swap_key in zip(self.keys[-2::-2], self.keys[-1::-2], strict=True):
            column = self._swapped(line, column, swap_key)
            line = self._shifted(line, column, shift_key, -1)
        return line << self.low_bits | column

    def _shifted(self, line: int, column: int, key: int, direction: int) -> int:
        """The line, moved round a column as long as the numbers below size reach."""
        length = len(range(column, self.size, 1 << self.low_bits))
        scaled = (_round_hash(column ^ key) >> self.high_bits) * length
        return (line + direction * (scaled >> (32 - self.high_bits))) % length

    def _swapped(self, line: int, column: int, key: int) -> int:
        """The column, moved within its line, unless that is the short one at the end."""
        if line + 1 << self.low_bits > self.size:
            return column
        return column ^ _round_hash(line ^ key) >> (32 - self.low_bits)


def sample_negatives(
    batch_size: int, num_candidates: int, k: int, sampler: str, seed: tuple[int, int]
) -> Array:
    """The table of docs/semantics.md, "Candidates"."""
    rows = range(batch_size)
    if sampler == "all":
        table = [[(i + n) % num_candidates for n in range(1, k + 1)] for i in rows]
    elif sampler == "ring":
        rho = Permutation(seed, 0, num_candidates)
        order = [rho(x) for x in range(num_candidates)]
        place = {document: x for x, document in enumerate(order)}
        table = [
            [order[(place[i] + n) % num_candidates] for n in range(1, k + 1)] for i in rows
        ]
    else:
        pi = [Permutation(seed, n, num_candidates) for n in range(1, k + 1)]
        table = [[p(i) for p in pi] for i in rows]
    return np.array(table, np.int32).reshape(batch_size, k)
