"""Statistical tests of permutations: each turns a sampler into a p-value.

A p-value is the probability that independent, uniform permutations look at least as odd.
The draws have fixed seeds, so a test passes always or never; ALPHA is the share of perfect
samplers that one test would turn down. Where a test looks at several statistics, its
p-value is the smallest, times their number (Bonferroni).

All that is seen of a sampler is what it draws: ``Draw``, see ``weak_samplers.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import permutations, product
from math import comb, factorial, isqrt

import numpy as np
from scipy.stats import binomtest, chi2

from tests.sampler.weak_samplers import Array, Draw

ALPHA = 1e-6

# Chi-square's law is an approximation: cells with fewer expected draws are merged.
_FEWEST_IN_A_CELL = 20
_MOST_CELLS = 4096

MALLOWS_LAMBDA = 5.0


def seeds_in_order(count: int, start: int = 0) -> Array:
    """``[count, 2]``, as of a training loop that counts its steps."""
    return np.stack([np.full(count, 17), np.arange(start, start + count)], axis=1)


def bonferroni(p_values: Iterable[float]) -> float:
    """One p-value of several, dependent or not."""
    found = list(p_values)
    return min(1.0, len(found) * min(found))


# --- Chi-square on cells whose exact probabilities are known. ---------------------------


def chi_square_p(cells: Array, weights: Array) -> float:
    """Of draws by their cells: too far from the expectation, or suspiciously near to it."""
    counts = np.bincount(cells.ravel(), minlength=weights.size)
    expected = weights.ravel() * (counts.sum() / weights.sum())
    if counts[expected == 0].any():
        return 0.0
    order = np.argsort(expected, kind="stable")
    order = order[expected[order] > 0]
    starts = _starts_of_cells(expected[order])
    counts = np.add.reduceat(counts[order], starts)
    expected = np.add.reduceat(expected[order], starts)
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = len(counts) - 1
    if freedom == 0:
        return 1.0
    # With a few cells a perfect fit is no wonder.
    too_near = chi2.cdf(statistic, freedom) if freedom > 9 else 1.0
    return float(min(1.0, 2 * min(chi2.sf(statistic, freedom), too_near)))


def _starts_of_cells(expected: Array) -> list[int]:
    """Where cells begin that together expect enough draws; the rest joins the last one."""
    starts, total = [0], 0.0
    for place, amount in enumerate(expected):
        if total >= _FEWEST_IN_A_CELL:
            starts.append(place)
            total = 0.0
        total += amount
    return starts if total >= _FEWEST_IN_A_CELL or len(starts) == 1 else starts[:-1]


def _digits(size: int, cells: int) -> list[Array]:
    """The numbers ``0..size-1`` as cells: by their high digits, and by their low ones."""
    every = np.arange(size)
    return [every] if cells >= size else [every * cells // size, every % cells]


def values_p(values: Array, weights: Array) -> float:
    """Whether draws from ``0..len(weights)-1`` have these weights, in both their digits."""
    most = min(values.size // (2 * _FEWEST_IN_A_CELL), _MOST_CELLS)
    return bonferroni(
        chi_square_p(cells[values], np.bincount(cells, weights))
        for cells in _digits(len(weights), most)
    )


def pair_p(first: Array, second: Array, size: int, distinct: bool) -> float:
    """Whether pairs are uniform: of all C * C, or of the C * (C - 1) distinct ones.

    Looks at both digits jointly, at the difference mod C, and at the exclusive or, in
    which Feistel networks of too few rounds show first.
    """
    found = []
    most = min(isqrt(first.size // (2 * _FEWEST_IN_A_CELL)), 64)
    for cells in _digits(size, most):
        sizes = np.bincount(cells).astype(float)
        weights = np.outer(sizes, sizes) - np.diag(sizes) * distinct
        found.append(chi_square_p(cells[first] * len(sizes) + cells[second], weights))
    difference, exclusive_or = np.full(size, float(size)), _exclusive_or_counts(size).copy()
    if distinct:
        difference[0] = exclusive_or[0] = 0
    found.append(values_p((first - second) % size, difference))
    found.append(values_p(first ^ second, exclusive_or))
    return bonferroni(found)


@lru_cache(maxsize=64)
def _exclusive_or_counts(size: int) -> Array:
    """How many pairs of ``0..size-1`` have each exclusive or: a Walsh-Hadamard square."""
    length = 1 << max(size - 1, 1).bit_length()
    below = (np.arange(length) < size).astype(float)
    return np.rint(_walsh_hadamard(_walsh_hadamard(below) ** 2) / length)


def _walsh_hadamard(values: Array) -> Array:
    width = 1
    while width < len(values):
        blocks = values.reshape(-1, 2, width)
        low, high = blocks[:, 0], blocks[:, 1]
        values = np.stack([low + high, low - high], axis=1).ravel()
        width *= 2
    return values


# --- A few values of many permutations. -------------------------------------------------


def _places(size: int) -> Array:
    """Values that differ in a low bit, in a high one, in many, and in the half's border."""
    half = 1 << max(2, (size - 1).bit_length()) // 2
    return np.unique([place % size for place in (0, 1, half, size // 2, size - 1)])


def orders_p(draw: Draw, size: int, count: int) -> float:
    """Whether each of the ``size!`` permutations is equally likely over the seeds."""
    drawn = draw(np.arange(size), size, seeds_in_order(count), np.array([1]))[:, 0]
    return chi_square_p(_order_codes(drawn), np.ones(factorial(size)))


def _order_codes(drawn: Array) -> Array:
    """Each row, a permutation, as its number among all."""
    powers = drawn.shape[1] ** np.arange(drawn.shape[1])
    every = np.array(list(permutations(range(drawn.shape[1])))) @ powers
    return np.searchsorted(np.sort(every), drawn @ powers)


def marginals_p(draw: Draw, size: int, count: int) -> float:
    """Whether ``pi(i)`` is uniform over the seeds, and over the numbers k of one seed."""
    places, one = _places(size), np.array([1])
    by_seed = draw(places, size, seeds_in_order(count), one)[:, 0]
    by_number = draw(places, size, seeds_in_order(1), np.arange(1, count + 1))[0]
    return bonferroni(
        values_p(column, np.ones(size)) for column in (*by_seed.T, *by_number.T)
    )


def pairs_p(draw: Draw, size: int, count: int) -> float:
    """Whether ``(pi(i), pi(j))`` are uniform among the pairs of different values."""
    places = _places(size)
    drawn = draw(places, size, seeds_in_order(count), np.array([1]))[:, 0].T
    return bonferroni(
        pair_p(drawn[i], drawn[j], size, distinct=True)
        for i in range(len(places))
        for j in range(i)
    )


def numbers_p(draw: Draw, size: int, count: int) -> float:
    """Whether permutations k and k' of one seed are independent."""
    places, numbers = _places(size)[[0, -1]], np.array([1, 2, 3, 257, 65537])
    drawn = draw(places, size, seeds_in_order(count), numbers)
    same = ((drawn[:, 0, 0], drawn[:, k, 0]) for k in range(1, len(numbers)))
    other = ((drawn[:, 0, 0], drawn[:, k, 1]) for k in range(1, len(numbers)))
    return bonferroni(pair_p(*pair, size, distinct=False) for pair in (*same, *other))


def seed_bits_p(draw: Draw, size: int, count: int) -> float:
    """Whether seeds that differ in one of their 128 bits draw independently."""
    places, one = _places(size)[[0, -1]], np.array([1])
    found = []
    for word, bit in product(range(2), range(64)):
        seeds = _seeds_without(word, bit, count)
        drawn = draw(places, size, seeds, one)[:, 0]
        seeds.view(np.uint64)[:, word] ^= np.uint64(1 << bit)
        other = draw(places, size, seeds, one)[:, 0]
        found.append(pair_p(drawn[:, 0], other[:, 0], size, distinct=False))
        found.append(pair_p(drawn[:, 0], other[:, 1], size, distinct=False))
    return bonferroni(found)


def _seeds_without(word: int, bit: int, count: int) -> Array:
    """Seeds that count in one word, past that bit: none is another with the bit set."""
    step = np.arange(count)
    seeds = np.full((count, 2), 17)
    seeds[:, word] = (step >> bit << min(bit + 1, 63)) | (step & (1 << bit) - 1)
    return seeds


# --- Whole permutations. ----------------------------------------------------------------


@lru_cache(maxsize=64)
def _agreement_weights(size: int) -> Array:
    """The law of the number of fixed points: Poisson's with mean 1, but for small sizes."""
    most = min(size, 40)
    weights = np.zeros(size + 1)
    for points in range(most + 1):
        left = min(size - points, 40)
        moved = sum((-1) ** m / factorial(m) for m in range(left + 1))
        weights[points] = max(moved, 0.0) / factorial(points)
    return weights


def _parts(seeds: Array, size: int) -> list[Array]:
    """The seeds in parts whose whole permutations fit into memory."""
    return np.array_split(seeds, max(1, len(seeds) * size >> 24))


def fixed_points_p(draw: Draw, size: int, count: int) -> float:
    """Whether the number of fixed points has its law."""
    every = np.arange(size)
    found = [
        (draw(every, size, seeds, np.array([1]))[:, 0] == every).sum(axis=1)
        for seeds in _parts(seeds_in_order(count), size)
    ]
    return chi_square_p(np.concatenate(found), _agreement_weights(size))


def agreements_p(draw: Draw, size: int, count: int) -> float:
    """Whether two draws agree as often as two shuffles: over k, and over seeds."""
    every = np.arange(size)
    found = []
    for seeds in _parts(seeds_in_order(count), size):
        drawn = draw(every, size, seeds, np.array([1, 2]))
        next_seed = draw(every, size, seeds + np.array([1, 0]), np.array([1]))
        others = np.concatenate([drawn[:, 1:], next_seed], axis=1)
        found.append((drawn[:, :1] == others).sum(axis=2))
    weights = _agreement_weights(size)
    return bonferroni(chi_square_p(column, weights) for column in np.concatenate(found).T)


def discordant_pairs(first: Array, second: Array) -> Array:
    """How many pairs of places two permutations order differently, row by row."""
    order = np.argsort(first, axis=1)
    sequence = np.take_along_axis(second, order, axis=1)
    total = np.zeros(len(sequence), np.int64)
    for place in range(sequence.shape[1] - 1):
        total += (sequence[:, place, None] > sequence[:, place + 1 :]).sum(axis=1)
    return total


def mallows_kernel(first: Array, second: Array, scale: float = MALLOWS_LAMBDA) -> Array:
    """``exp(-scale * n_dis / C(n, 2))``, row by row."""
    return np.exp(-scale * discordant_pairs(first, second) / comb(first.shape[1], 2))


def mallows_mean(size: int, scale: float = MALLOWS_LAMBDA) -> float:
    """The kernel's mean over uniform permutations.

    Source: the number of inversions has the generating function
    ``prod_j (1 - x^j) / (j (1 - x))`` (Knuth, TAOCP 3, 5.1.1); so Mitchell et al.,
    "Bandwidth-optimal random shuffling for GPUs" (2021), section 4, at
    ``x = exp(-scale / C(n, 2))``.
    """
    step = scale / comb(size, 2)
    j = np.arange(1, size + 1)
    return float(np.exp(np.log(np.expm1(-step * j) / (j * np.expm1(-step))).sum()))


def mallows_p(draw: Draw, size: int, count: int) -> float:
    """Whether the squared MMD between the draws and true shuffles can be zero.

    ``E k(sigma, tau) - mean`` is that distance, because the kernel depends on
    ``sigma tau^-1`` alone: against a uniform permutation its mean is the same, whatever
    the other is. Its estimate is the average over ``count`` independent pairs. Bernstein's
    inequality for terms below 1, of which mean and variance are known, bounds how often
    perfect samplers reach it, for any ``count``.
    """
    drawn = draw(np.arange(size), size, seeds_in_order(2 * count), np.array([1]))[:, 0]
    mean = mallows_mean(size)
    variance = mallows_mean(size, 2 * MALLOWS_LAMBDA) - mean**2
    distance = float(mallows_kernel(drawn[::2], drawn[1::2]).mean()) - mean
    if distance <= 0:
        return 1.0
    return float(
        np.exp(-count * distance**2 / (2 * (variance + (1 - mean) * distance / 3)))
    )


def sign_p(draw: Draw, size: int, count: int, mean: float) -> float:
    """Whether the permutations' signs have this mean."""
    drawn = draw(np.arange(size), size, seeds_in_order(count), np.array([1]))[:, 0]
    identity = np.broadcast_to(np.arange(size), drawn.shape)
    even = int((discordant_pairs(identity, drawn) % 2 == 0).sum())
    return float(binomtest(even, count, (1 + mean) / 2).pvalue)


# --- The ring: tables [S, C, K] of candidates. ------------------------------------------


def is_ring(table: Array) -> bool:
    """Whether each row's candidates are distinct, and never the row itself."""
    rows = np.broadcast_to(np.arange(table.shape[1])[:, None], (*table.shape[:2], 1))
    met = np.sort(np.concatenate([rows, table], axis=2), axis=2)
    return bool((np.diff(met, axis=2) > 0).all())


def ring_p(table: Array) -> float:
    """Whether a row's candidates are uniform without replacement among the others."""
    size = table.shape[1]
    found = []
    for row in _places(size):
        candidates = table[:, row]
        if (candidates == row).any():
            return 0.0
        others = candidates - (candidates > row)
        found += [values_p(column, np.ones(size - 1)) for column in others.T]
        found.append(pair_p(others[:, 0], others[:, 1], size - 1, distinct=True))
        found.append(pair_p(others[:, 0], others[:, -1], size - 1, distinct=True))
    return bonferroni(found)


def cyclic_orders_p(table: Array) -> float:
    """Whether each of the ``(C - 1)!`` rings is equally likely; K is C - 1."""
    return chi_square_p(_order_codes(table[:, 0] - 1), np.ones(factorial(table.shape[2])))
