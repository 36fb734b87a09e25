"""Samplers with a known fault, on which every statistical test has to fail.

A draw takes values ``[n]``, the size C, seeds ``[S, 2]`` and numbers ``[P]``, and returns
``[S, P, n]``: permutation ``numbers[p]`` of ``seeds[s]`` at each value. ``core`` is the
package's own; ``Feistel()`` is the same sampler on arrays, part by part, so that one part
at a time can be made worse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from negative_cosine import _probes
from numpy.typing import NDArray

from tests.support import oracle

Array = NDArray[Any]
Draw = Callable[[Array, int, Array, Array], Array]

GOLDEN_RATIO = np.uint32(0x9E3779B9)


def core(values: Array, size: int, seeds: Array, numbers: Array) -> Array:
    """The package's sampler."""
    return _probes.permute(values.astype(np.int32), size, seeds, numbers)


def true_shuffles(start: int) -> Draw:
    """NumPy's Fisher-Yates shuffles, one after the other whatever seed is asked for."""
    random = np.random.default_rng(start)

    def draw(values: Array, size: int, seeds: Array, numbers: Array) -> Array:
        every = np.tile(np.arange(size), (len(seeds) * len(numbers), 1))
        shuffled = random.permuted(every, axis=1)
        return shuffled.reshape(len(seeds), len(numbers), size)[..., values]

    return draw


def murmur(x: Array) -> Array:
    """The 32-bit finaliser with its two multiplications."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def round_hash(x: Array) -> Array:
    """The finaliser without its first and last step: its high bits are used."""
    x = x * np.uint32(0x85EBCA6B)
    return (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)


def one_multiply(x: Array) -> Array:
    """A multiplicative hash that spares murmur's second multiplication."""
    return x * GOLDEN_RATIO


def no_multiply(x: Array) -> Array:
    """The number and the key, with no hash at all."""
    return x << np.uint32(16)


@dataclass(frozen=True)
class Feistel:
    """A Feistel permutation of lines and columns; the defaults are the package's."""

    rounds: Callable[[int], int] = oracle.enough_rounds
    hash: Callable[[Array], Array] = round_hash
    seed_words: tuple[int, ...] = (0, 1, 2, 3)
    heeds_number: bool = True
    by_modulo: bool = False
    moves_the_rest: bool = True

    def __call__(self, values: Array, size: int, seeds: Array, numbers: Array) -> Array:
        """The permutations of the seeds and numbers at the values."""
        bits = max(2, (size - 1).bit_length())
        keys = self.keys(seeds, numbers, self.rounds(bits))
        shape = (len(seeds), len(numbers), len(values))
        x = np.broadcast_to(values.astype(np.uint32), shape)
        if self.by_modulo:
            return (self.permute(x, 1 << bits, keys) % np.uint32(size)).astype(np.int32)
        return self.permute(x, size, keys).astype(np.int32)

    def permute(self, x: Array, size: int, keys: list[Array]) -> Array:
        """The network on numbers below size."""
        bits = max(2, (size - 1).bit_length())
        low_bits, high_bits = np.uint32(bits // 2), np.uint32(bits - bits // 2)
        full_lines, rest = divmod(size, 1 << int(low_bits))
        line, column = x >> low_bits, x & np.uint32((1 << int(low_bits)) - 1)
        for shift_key, swap_key in zip(keys[::2], keys[1::2], strict=True):
            length = np.uint32(full_lines) + ((column < rest) & self.moves_the_rest)
            scaled = (self.hash(column ^ shift_key) >> high_bits) * length
            is_moved = line < length
            moved = (line + (scaled >> np.uint32(32 - high_bits))) % np.maximum(length, 1)
            line = np.where(is_moved, moved, line)
            swap = self.hash(line ^ swap_key) >> np.uint32(32 - low_bits)
            column = np.where(line < full_lines, column ^ swap, column)
        return (line << low_bits) | column

    def keys(self, seeds: Array, numbers: Array, rounds: int) -> list[Array]:
        """The round keys ``[S, P, 1]``, a round each."""
        words = np.ascontiguousarray(seeds, np.int64).view(np.uint32)
        first = np.full(len(seeds), 0x243F6A88, np.uint32)
        second = np.full(len(seeds), 0x85A308D3, np.uint32)
        for number in self.seed_words:
            word = words[:, number]
            first = murmur(first ^ word) * GOLDEN_RATIO
            second = murmur(murmur(second ^ first) ^ (word * np.uint32(0xC2B2AE3D)))
        heeded = (numbers * self.heeds_number).astype(np.uint32)
        first = murmur(first[:, None] ^ (heeded * GOLDEN_RATIO))
        second = murmur(second[:, None] ^ first)
        counters = np.arange(1, rounds + 1, dtype=np.uint32) * GOLDEN_RATIO
        return [(murmur(first ^ counter) ^ second)[..., None] for counter in counters]


def ring_table(draw: Draw, size: int, k: int, seeds: Array, first_step: int = 1) -> Array:
    """The ring's candidates ``[S, C, k]`` where permutation 0 of ``draw`` orders it."""
    ring = draw(np.arange(size), size, seeds, np.array([0]))[:, 0]
    steps = np.arange(first_step, first_step + k)
    places = (np.argsort(ring, axis=1)[..., None] + steps) % size
    table: Array = np.take_along_axis(ring[:, None, :], places, axis=2)
    return table


def cyclic_shift(values: Array, size: int, seeds: Array, numbers: Array) -> Array:
    """``(value + key) mod C``: each value is uniform, but they all move together."""
    key = Feistel().keys(seeds, numbers, 1)[0].astype(np.int64)
    return (values + key) % size


def one_cycle(values: Array, size: int, seeds: Array, numbers: Array) -> Array:
    """The next on the ring: a permutation with a single cycle, where nothing stays."""
    ring = core(np.arange(size), size, seeds, numbers)
    place = np.argsort(ring, axis=-1)[..., values]
    return np.take_along_axis(ring, (place + 1) % size, axis=-1)


FEW_ROUNDS = Feistel(rounds=lambda bits: 2)
FOUR_ROUNDS = Feistel(rounds=lambda bits: 4)
SIX_ROUNDS = Feistel(rounds=lambda bits: 6)
ONE_MULTIPLY = Feistel(hash=one_multiply)
NO_MULTIPLY = Feistel(hash=no_multiply)
WITHOUT_NUMBER = Feistel(heeds_number=False)
WITHOUT_HIGH_WORDS = Feistel(seed_words=(0, 2))
WITH_MODULO = Feistel(by_modulo=True)
WITH_A_FIXED_LINE = Feistel(moves_the_rest=False)
