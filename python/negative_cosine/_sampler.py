"""The sampler in TensorFlow: keyed permutations that are evaluated, never stored.

A permutation of ``0..C-1`` writes the numbers in lines of ``2**low_bits`` and takes turns
to shift the columns and to permute the lines, each by a hash of its number: a Feistel
network on a domain of any size. ``csrc/core/sampler.h`` explains it, and the choice of
rounds. It uses only uint32 arithmetic, xor, and, shifts and comparisons, which TensorFlow
has on CPU, GPU and under XLA, and it agrees bit for bit with the kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

SAMPLERS = ("shuffle", "ring", "all")

_GOLDEN_RATIO = 0x9E3779B9
# Rounds of a network on numbers of 0..31 bits; a multiple of two.
_ROUNDS = (32,) * 4 + (24, 20, 16, 12, 10, 10, 8, 8) + (6,) * 20

# An array: a raw op takes 100 microseconds more over a list, in eager execution.
_SEED_SHAPE = np.array([2], np.int32)

_and = tf.bitwise.bitwise_and
_or = tf.bitwise.bitwise_or
_xor = tf.bitwise.bitwise_xor
_right = tf.bitwise.right_shift
_left = tf.bitwise.left_shift


def fresh_seed() -> tf.Tensor:
    """A new seed, int32 ``[2]``, each time it runs; ``tf.random.set_seed`` governs it."""
    # As tf.random.uniform([2], int32.min, int32.max) does it, number by number, without
    # its conversions: in eager execution those cost more than a small batch's loss.
    seed, seed2 = tf.compat.v1.get_seed(None)
    if tf.executing_eagerly() and seed is not None:
        # These two are new each time: TensorFlow would build a kernel for them alone, and
        # keep it (tests/tensorflow/test_endurance.py).
        return tf.constant([seed, seed2], tf.int32)
    return tf.raw_ops.RandomUniformInt(
        shape=_SEED_SHAPE, minval=-(2**31), maxval=2**31 - 1, seed=seed, seed2=seed2
    )


def candidate_table(
    batch_size: Any, num_candidates: Any, num_negatives: Any, sampler: str, seed: Any
) -> tf.Tensor:
    """The int32 ``[batch_size, num_negatives]`` table of candidates, unchecked.

    They are those of docs/semantics.md, "Candidates".
    """
    rows = tf.range(batch_size, dtype=tf.int32)[:, tf.newaxis]
    steps = 1 + tf.range(num_negatives, dtype=tf.int32)[tf.newaxis, :]
    if sampler == "all":
        return (rows + steps) % num_candidates
    if sampler == "ring":
        ring = _Permutations(seed, tf.zeros([1], tf.int32), num_candidates)
        # Positions and steps are below 2**31 each; their sum may not be.
        positions = tf.cast(ring.inverse(rows), tf.int64) + tf.cast(steps, tf.int64)
        positions %= tf.cast(num_candidates, tf.int64)
        return ring.forward(tf.cast(positions, tf.int32))
    permutations = _Permutations(seed, steps[0], num_candidates)
    return permutations.forward(tf.broadcast_to(rows, [batch_size, num_negatives]))


def _word(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint32)


def _mix(x: tf.Tensor) -> tf.Tensor:
    """murmur3's 32-bit finaliser: every input bit reaches every output bit."""
    x = _xor(x, _right(x, _word(16)))
    x = x * _word(0x85EBCA6B)
    x = _xor(x, _right(x, _word(13)))
    x = x * _word(0xC2B2AE35)
    return _xor(x, _right(x, _word(16)))


class _SeedState(NamedTuple):
    """Two words that all 128 bits of a seed have been mixed into."""

    first: tf.Tensor
    second: tf.Tensor


def _seed_state(seed: tf.Tensor) -> _SeedState:
    # Not to [4]: Grappler would take the seed's length from it, and so the assertion out
    # that checks an unknown one.
    words = tf.reshape(tf.bitcast(tf.cast(seed, tf.int64), tf.uint32), [-1])
    first, second = _word(0x243F6A88), _word(0x85A308D3)  # the digits of pi
    for word in tf.unstack(words, num=4):
        first = _mix(_xor(first, word)) * _word(_GOLDEN_RATIO)
        second = _mix(_xor(_mix(_xor(second, first)), word * _word(0xC2B2AE3D)))
    return _SeedState(first, second)


def _round_hash(x: tf.Tensor) -> tf.Tensor:
    """The high bits of ``_mix`` of a number of 16 bits or less, xor a key."""
    x = x * _word(0x85EBCA6B)
    x = _xor(x, _right(x, _word(13)))
    return x * _word(0xC2B2AE35)


class _FeistelShape(NamedTuple):
    """The lines and rounds of a network on ``0..num_candidates-1``."""

    low_bits: tf.Tensor
    high_bits: tf.Tensor
    full_lines: tf.Tensor
    rest: tf.Tensor
    rounds: tf.Tensor


def _feistel_shape(num_candidates: tf.Tensor) -> _FeistelShape:
    powers = tf.constant([1 << bits for bits in range(2, 31)], tf.int32)
    bits = 2 + tf.reduce_sum(tf.cast(powers < num_candidates, tf.int32))
    low_bits = tf.cast(bits // 2, tf.uint32)
    count, one = tf.cast(num_candidates, tf.uint32), _word(1)
    return _FeistelShape(
        low_bits,
        tf.cast(bits - bits // 2, tf.uint32),
        _right(count, low_bits),
        _and(count, _left(one, low_bits) - one),
        tf.gather(tf.constant(_ROUNDS), bits),
    )


class _Permutations:
    """Permutations ``numbers`` of a seed, one a column of the tables they are given."""

    def __init__(self, seed: Any, numbers: tf.Tensor, num_candidates: Any) -> None:
        self._shape = _feistel_shape(tf.cast(num_candidates, tf.int32))
        state = _seed_state(tf.convert_to_tensor(seed))
        permutation = tf.cast(numbers, tf.uint32) * _word(_GOLDEN_RATIO)
        self._first = _mix(_xor(state.first, permutation))
        self._second = _mix(_xor(state.second, self._first))

    def forward(self, values: tf.Tensor) -> tf.Tensor:
        """``pi(values)``, int32, of the same shape."""

        def two_rounds(number: tf.Tensor, line: tf.Tensor, column: tf.Tensor) -> Any:
            length, shift = self._column(number, column)
            moved = line + shift
            line = tf.minimum(moved, moved - length)
            return number + 2, line, self._swapped(number + 1, line, column)

        return self._run(tf.constant(0), two_rounds, values)

    def inverse(self, values: tf.Tensor) -> tf.Tensor:
        """``pi^-1(values)``, int32, of the same shape."""

        def two_rounds(number: tf.Tensor, line: tf.Tensor, column: tf.Tensor) -> Any:
            column = self._swapped(number + 1, line, column)
            length, shift = self._column(number, column)
            moved = line - shift
            return number - 2, tf.minimum(moved, moved + length), column

        return self._run(self._shape.rounds - 2, two_rounds, values)

    def _key(self, number: tf.Tensor) -> tf.Tensor:
        counter = tf.cast(number + 1, tf.uint32) * _word(_GOLDEN_RATIO)
        return _xor(_mix(_xor(self._first, counter)), self._second)

    def _column(self, number: tf.Tensor, column: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """A column's length, and how far a round shifts it."""
        shape = self._shape
        length = shape.full_lines + tf.cast(column < shape.rest, tf.uint32)
        hashed = _round_hash(_xor(column, self._key(number)))
        scaled = _right(hashed, shape.high_bits) * length
        return length, _right(scaled, _word(32) - shape.high_bits)

    def _swapped(self, number: tf.Tensor, line: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        """The column, moved within its line, unless that is the short one at the end."""
        shape = self._shape
        hashed = _round_hash(_xor(line, self._key(number)))
        swap = _right(hashed, _word(32) - shape.low_bits)
        return tf.where(line < shape.full_lines, _xor(column, swap), column)

    def _run(self, start: tf.Tensor, two_rounds: Callable[..., Any], x: Any) -> tf.Tensor:
        shape = self._shape
        x = tf.cast(x, tf.uint32)
        line = _right(x, shape.low_bits)
        column = _xor(x, _left(line, shape.low_bits))
        _, line, column = tf.while_loop(
            lambda number, *_: tf.logical_and(number >= 0, number < shape.rounds),
            two_rounds,
            (start, line, column),
        )
        return tf.cast(_or(_left(line, shape.low_bits), column), tf.int32)
