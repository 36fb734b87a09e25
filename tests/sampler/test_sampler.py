"""The sampler: the same table on every path, and what docs/semantics.md promises of it.

``test_sampler_statistics.py`` holds that it is random.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from negative_cosine import _core, _probes, sample_negatives

from tests.sampler.weak_samplers import WITH_MODULO, Array, core
from tests.support import oracle

SIZES = [
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    16,
    37,
    64,
    100,
    129,
    257,
    600,
    1024,
    1500,
    4096,
    5000,
    65537,
]
SEEDS = [(0, 0), (1, 2), (-1, 2**31 - 1), (2**40 + 5, -(2**50))]


@pytest.mark.parametrize("seed", SEEDS, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_shuffle_is_the_same_table_in_numpy_tensorflow_and_the_core(
    size: int, seed: tuple[int, int]
) -> None:
    rows = min(size, 40)
    expected = oracle.sample_negatives(rows, size, 3, "shuffle", seed)
    np.testing.assert_array_equal(
        sample_negatives(rows, size, 3, "shuffle", seed), expected
    )
    np.testing.assert_array_equal(_core.sample_negatives(rows, size, 3, *seed), expected)


@pytest.mark.parametrize("size", [2, 3, 5, 16, 37, 257, 1500])
def test_ring_is_the_same_table_in_numpy_and_tensorflow(size: int) -> None:
    expected = oracle.sample_negatives(size, size, min(size - 1, 9), "ring", (3, 4))
    table = sample_negatives(size, size, min(size - 1, 9), "ring", (3, 4))
    np.testing.assert_array_equal(table, expected)


def test_all_is_every_other_candidate_once() -> None:
    table = sample_negatives(4, 6, None, "all").numpy()
    for row, candidates in enumerate(table):
        assert sorted({row, *candidates}) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("sampler", ["shuffle", "ring", "all"])
def test_a_graph_of_unknown_size_draws_the_same_table(sampler: str, jit: bool) -> None:
    @tf.function(
        jit_compile=jit,
        autograph=False,
        input_signature=[tf.TensorSpec([None]), tf.TensorSpec([2], tf.int64)],
    )
    def draw(docs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        size = tf.shape(docs)[0]
        count = None if sampler == "all" else 4
        return sample_negatives(size - 1, size, count, sampler, seed)

    for size in (5, 37, 1025):
        seed = (7, -8)
        count = size - 1 if sampler == "all" else 4
        expected = oracle.sample_negatives(size - 1, size, count, sampler, seed)
        drawn = draw(tf.zeros([size]), tf.constant(seed, tf.int64))
        np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize(
    "as_kind",
    [
        np.int64,
        np.uint8,
        np.array,
        tf.constant,
        lambda size: tf.constant(size, tf.int64),
        tf.Variable,
    ],
    ids=["int64", "uint8", "array", "int32 tensor", "int64 tensor", "variable"],
)
@pytest.mark.parametrize("which", ["batch_size", "num_candidates", "both"])
def test_sizes_are_integers_of_any_kind(as_kind: Any, which: str, mode: str) -> None:
    rows = 9 if which == "num_candidates" else as_kind(9)
    docs = 12 if which == "batch_size" else as_kind(12)
    draw = functools.partial(sample_negatives, rows, docs, 4, "ring", (5, 6))
    table = draw() if mode == "eager" else tf.function(draw, autograph=False)()
    np.testing.assert_array_equal(table, oracle.sample_negatives(9, 12, 4, "ring", (5, 6)))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 37, 64, 100, 1024, 5000])
def test_each_draw_of_shuffle_is_a_permutation(size: int) -> None:
    table = _core.sample_negatives(size, size, 9, 11, 12)
    np.testing.assert_array_equal(np.sort(table, axis=0).T, [np.arange(size)] * 9)


@pytest.mark.parametrize("size", [2, 3, 5, 37, 600])
def test_ring_gives_each_row_distinct_others(size: int) -> None:
    k = min(size - 1, 30)
    table = sample_negatives(size, size, k, "ring", (5, 6)).numpy()
    for row, candidates in enumerate(table):
        assert len({row, *candidates}) == k + 1


def test_int32_and_int64_seeds_draw_the_same() -> None:
    for seed in ((5, 6), (-5, -6)):
        narrow = sample_negatives(9, 9, 4, "shuffle", tf.constant(seed, tf.int32))
        wide = sample_negatives(9, 9, 4, "shuffle", tf.constant(seed, tf.int64))
        np.testing.assert_array_equal(narrow, wide)


def test_no_seed_is_a_fresh_seed_each_call_and_each_step() -> None:
    draw = tf.function(lambda: sample_negatives(100, 100, 2, "shuffle"))
    tables = [
        sample_negatives(100, 100, 2),
        sample_negatives(100, 100, 2),
        draw(),
        draw(),
    ]
    assert len({table.numpy().tobytes() for table in tables}) == 4


def test_set_seed_governs_the_fresh_seeds(mode: str) -> None:
    def three_steps(seed: int) -> list[bytes]:
        tf.random.set_seed(seed)
        draw = functools.partial(sample_negatives, 100, 100, 2, "shuffle")
        step = draw if mode == "eager" else tf.function(draw)
        return [step().numpy().tobytes() for _ in range(3)]

    first, again, other = three_steps(42), three_steps(42), three_steps(43)
    assert first == again
    assert len({*first, *other}) == 6


@pytest.mark.parametrize("size", SIZES)
def test_the_tables_are_the_permutations_at_the_rows(size: int) -> None:
    rows, seed, numbers = min(size, 40), (17, -3), np.arange(1, 10)
    table = sample_negatives(rows, size, 9, "shuffle", seed).numpy()
    permuted = core(np.arange(rows), size, np.array([seed]), numbers)[0]
    np.testing.assert_array_equal(table, permuted.T)


@pytest.mark.parametrize("size", SIZES[1:])
def test_the_ring_is_the_order_of_permutation_zero(size: int) -> None:
    successor = _core.sample_negatives(size, size, 1, 17, -3, "ring")[:, 0]
    order = core(np.arange(size), size, np.array([[17, -3]]), np.array([0]))[0, 0]
    np.testing.assert_array_equal(successor[order], np.roll(order, -1))


def is_permutation(drawn: Array, size: int) -> bool:
    """Whether each of ``0..size-1`` is hit once."""
    return np.array_equal(np.bincount(drawn, minlength=size), np.ones(size))


def comes_back(size: int, number: int = 1, number_back: int = 1) -> bool:
    """Whether a permutation hits each value once, and its inverse leads back to all."""
    seed, every = np.array([[size, -size]]), np.arange(size, dtype=np.int32)
    there = _probes.permute(every, size, seed, np.array([number]))[0, 0]
    back = _probes.permute(there, size, seed, np.array([number_back]), inverse=True)[0, 0]
    return is_permutation(there, size) and np.array_equal(back, every)


ABOUT_POWERS = [2**n + more for n in range(10, 17) for more in (-1, 0, 1)]
EVERY_SIZE = [range(start, start + 2**12) for start in range(1, 2**16 + 1, 2**12)]


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param(range(1, 1025), id="1..1024"),
        pytest.param(ABOUT_POWERS, id="about powers of two"),
        *(
            pytest.param(sizes, id=f"{sizes[0]}..{sizes[-1]}", marks=pytest.mark.nightly)
            for sizes in EVERY_SIZE
        ),
    ],
)
def test_every_value_is_hit_once_and_comes_back(sizes: list[int]) -> None:
    assert [size for size in sizes if not comes_back(size)] == []


def test_a_modulo_and_another_keys_inverse_are_seen() -> None:
    seed = np.array([[1, 2]])
    hits = WITH_MODULO(np.arange(1000), 1000, seed, np.array([1]))[0, 0]
    assert not is_permutation(hits, 1000)
    assert not comes_back(1000, number=1, number_back=2)


WORDS = st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    size=st.integers(1, 2**31 - 1) | st.sampled_from([2**30, 2**30 + 1, 2**31 - 1]),
    seed=st.tuples(WORDS, WORDS),
    number=st.integers(0, 2**31 - 1),
    share=st.lists(st.floats(0, 1), min_size=1, max_size=9),
)
def test_random_points_up_to_the_largest_size_go_where_the_oracle_says(
    size: int, seed: tuple[int, int], number: int, share: list[float]
) -> None:
    values = [round(part * (size - 1)) for part in share]
    expected = oracle.Permutation(seed, number, size)
    asked = size, np.array([seed]), np.array([number])
    there = _probes.permute(np.array(values, np.int32), *asked)[0, 0]
    assert there.tolist() == [expected(value) for value in values]
    assert [expected.inverse(value) for value in there.tolist()] == values
    assert _probes.permute(there, *asked, inverse=True)[0, 0].tolist() == values


@pytest.mark.parametrize("size", [1, 2, 3, 1000, 65537, 2**30 + 1, 2**31 - 1])
def test_tensorflow_permutes_and_inverts_at_any_point(size: int) -> None:
    from negative_cosine._sampler import _Permutations

    values = np.random.default_rng(size).integers(0, size, (500, 3), np.int32)
    seed, numbers = (2**40 + 5, -7), np.array([1, 2, 300])
    permutations = _Permutations(tf.constant(seed, tf.int64), numbers, size)
    there = permutations.forward(values)
    by_number = core(values.ravel(), size, np.array([seed]), numbers)[0]
    for column in range(3):
        np.testing.assert_array_equal(there[:, column], by_number[column, column::3])
    np.testing.assert_array_equal(permutations.inverse(there), values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.array([5], np.int32)}, r"values must be in \[0, num_candidates\)"),
        ({"values": np.zeros([1, 1], np.int32)}, "values must have one dimension"),
        ({"num_candidates": 2**31}, "num_candidates must be at least 1 and at most"),
        ({"seeds": np.array([1, 2])}, "seeds must have the shape"),
        ({"numbers": np.array([[1]])}, "numbers must have one dimension"),
    ],
)
def test_permute_refuses_what_has_no_place(change: dict[str, Any], message: str) -> None:
    usual: dict[str, Any] = {
        "values": np.array([4], np.int32),
        "num_candidates": 5,
        "seeds": np.array([[1, 2]]),
        "numbers": np.array([1]),
    }
    with pytest.raises(ValueError, match=message):
        _probes.permute(**{**usual, **change})


@pytest.mark.parametrize(("sampler", "k"), [("ring", 8), ("all", 3)])
def test_where_xla_cannot_refuse_a_k_out_of_range_no_document_comes_out(
    sampler: str, k: int
) -> None:
    def table(num_candidates: tf.Tensor) -> tf.Tensor:
        return sample_negatives(4, num_candidates, k, sampler, (1, 2))

    found = tf.function(table, jit_compile=True)(tf.constant(6))
    np.testing.assert_array_equal(found, -1)
