"""The sampler's permutations cannot be told from true shuffles, to a stated significance.

Each test has fixed seeds and fails where its p-value is below ALPHA, one in a million.
Beside each stands a planted fault that the same test of the same size turns down. The
permutations are drawn by the core at single points; ``test_sampler.py`` holds that the
tables of ``sample_negatives`` are made of them. ``docs/sampler.md`` is the overview.
"""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np
import pytest
from negative_cosine import _core
from scipy.stats import binom

from tests.sampler.statistics_of_samplers import (
    ALPHA,
    agreements_p,
    cyclic_orders_p,
    discordant_pairs,
    fixed_points_p,
    is_ring,
    mallows_kernel,
    mallows_mean,
    mallows_p,
    marginals_p,
    numbers_p,
    orders_p,
    pairs_p,
    ring_p,
    seed_bits_p,
    seeds_in_order,
    sign_p,
)
from tests.sampler.weak_samplers import (
    FEW_ROUNDS,
    FOUR_ROUNDS,
    NO_MULTIPLY,
    ONE_MULTIPLY,
    SIX_ROUNDS,
    WITH_A_FIXED_LINE,
    WITH_MODULO,
    WITHOUT_HIGH_WORDS,
    WITHOUT_NUMBER,
    Array,
    Draw,
    Feistel,
    core,
    cyclic_shift,
    one_cycle,
    ring_table,
    true_shuffles,
)

SIZES = (2, 3, 5, 7, 8, 16, 100, 1000, 1024, 4096, 65537)
MORE_SIZES = (4, 9, 15, 33, 64, 127, 300, 512, 5000, 2**17, 2**20 - 1)

ORDER_DRAWS = 200_000
POINT_DRAWS = 100_000
BIT_DRAWS = 4_000
PAIRS = 2_000
MORE_DRAWS = 16


def whole_draws(size: int) -> int:
    """Draws of whole permutations: as many as take about the same time."""
    return min(max(2_000_000 // size, 500), 50_000)


def cases(sizes: tuple[int, ...], draws: Any, more: tuple[int, ...] = ()) -> Any:
    """Sizes, and draws for each; the nightly part has more of both."""
    of = draws if callable(draws) else lambda size: draws
    usual = [pytest.param(size, of(size), id=str(size)) for size in sizes]
    nightly = [
        pytest.param(size, MORE_DRAWS * of(size), id=f"{size}*", marks=pytest.mark.nightly)
        for size in (*sizes, *more)
    ]
    return pytest.mark.parametrize(("size", "draws"), usual + nightly)


@pytest.mark.parametrize("size", [2, 3, 16, 1000, 65537, 2**31 - 1])
def test_the_sampler_to_be_made_worse_is_the_cores(size: int) -> None:
    values, seeds, numbers = (
        np.array([0, size // 2, size - 1]),
        seeds_in_order(99),
        [0, 1, 9],
    )
    asked = (values, size, seeds, np.array(numbers))
    np.testing.assert_array_equal(Feistel()(*asked), core(*asked))


# --- A few values of a permutation. -----------------------------------------------------


@cases((3, 4, 5), ORDER_DRAWS, more=(6, 7))
def test_every_permutation_of_a_few_is_equally_likely(size: int, draws: int) -> None:
    assert orders_p(core, size, draws) > ALPHA


@pytest.mark.parametrize(
    ("weak", "size"), [(FEW_ROUNDS, 3), (SIX_ROUNDS, 4), (SIX_ROUNDS, 5)]
)
def test_the_orders_show_that_a_few_need_more_rounds(weak: Draw, size: int) -> None:
    assert orders_p(weak, size, ORDER_DRAWS) < ALPHA


@cases(SIZES, POINT_DRAWS, MORE_SIZES)
def test_each_value_is_uniform_over_seeds_and_draws(size: int, draws: int) -> None:
    assert marginals_p(core, size, draws) > ALPHA


@pytest.mark.parametrize("size", [3, 5, 7, 100, 1000, 5000])
def test_the_marginals_show_a_biased_modulo(size: int) -> None:
    assert marginals_p(WITH_MODULO, size, POINT_DRAWS) < ALPHA


@pytest.mark.parametrize("size", [3, 5, 7, 100, 1000, 65537])
def test_the_marginals_show_a_short_line_that_stays(size: int) -> None:
    assert marginals_p(WITH_A_FIXED_LINE, size, POINT_DRAWS) < ALPHA


@cases(SIZES, POINT_DRAWS, MORE_SIZES)
def test_two_values_are_uniform_among_the_distinct_pairs(size: int, draws: int) -> None:
    assert pairs_p(core, size, draws) > ALPHA


@pytest.mark.parametrize(
    ("weak", "size"),
    [
        *((cyclic_shift, size) for size in SIZES[2:]),
        *((FEW_ROUNDS, size) for size in SIZES[2:]),
        *((FOUR_ROUNDS, size) for size in (8, 16, 100, 1000, 1024, 4096)),
        *((ONE_MULTIPLY, size) for size in (1024, 4096)),
        *((NO_MULTIPLY, size) for size in (100, 1000, 1024, 4096)),
    ],
)
def test_the_pairs_show_a_shift_few_rounds_and_a_weak_mix(weak: Draw, size: int) -> None:
    assert pairs_p(weak, size, POINT_DRAWS) < ALPHA


@cases(SIZES, POINT_DRAWS, MORE_SIZES)
def test_the_draws_of_one_seed_are_independent(size: int, draws: int) -> None:
    assert numbers_p(core, size, draws) > ALPHA


@pytest.mark.parametrize("size", SIZES)
def test_the_draws_show_a_key_without_the_number(size: int) -> None:
    assert numbers_p(WITHOUT_NUMBER, size, POINT_DRAWS) < ALPHA


@cases(SIZES, BIT_DRAWS, MORE_SIZES)
def test_seeds_that_differ_in_one_bit_draw_independently(size: int, draws: int) -> None:
    assert seed_bits_p(core, size, draws) > ALPHA


@pytest.mark.parametrize("size", [2, 16, 1000])
def test_the_seeds_show_a_key_without_their_high_words(size: int) -> None:
    assert seed_bits_p(WITHOUT_HIGH_WORDS, size, BIT_DRAWS) < ALPHA


# --- Whole permutations. ----------------------------------------------------------------


@cases(SIZES, whole_draws)
def test_the_number_of_fixed_points_is_poissons(size: int, draws: int) -> None:
    assert fixed_points_p(core, size, draws) > ALPHA


@pytest.mark.parametrize("size", [3, 16, 1000, 4096])
@pytest.mark.parametrize("weak", [cyclic_shift, one_cycle])
def test_the_fixed_points_show_a_shift_and_a_single_cycle(weak: Draw, size: int) -> None:
    assert fixed_points_p(weak, size, whole_draws(size)) < ALPHA


@cases(SIZES[:-1], whole_draws)
def test_two_draws_agree_as_seldom_as_two_shuffles(size: int, draws: int) -> None:
    assert agreements_p(core, size, draws) > ALPHA


@pytest.mark.parametrize("size", [3, 16, 1000])
@pytest.mark.parametrize("weak", [WITHOUT_NUMBER, cyclic_shift])
def test_the_agreements_show_draws_that_repeat(weak: Draw, size: int) -> None:
    assert agreements_p(weak, size, whole_draws(size)) < ALPHA


def test_the_mallows_kernel_has_the_mean_that_is_stated() -> None:
    from itertools import permutations

    every = np.array(list(permutations(range(6))))
    for scale in (1.0, 5.0, 10.0):
        mean = mallows_kernel(every, np.broadcast_to(every[100], every.shape), scale).mean()
        assert mallows_mean(6, scale) == pytest.approx(mean, rel=1e-12)
    backwards = discordant_pairs(np.arange(9)[None], np.arange(9)[None, ::-1])
    assert backwards == [comb(9, 2)]


@cases((3, 5, 7, 8, 16, 100, 1000), PAIRS)
def test_the_kernel_distance_from_true_shuffles_can_be_zero(size: int, draws: int) -> None:
    assert mallows_p(core, size, draws) > ALPHA


@pytest.mark.parametrize(
    ("weak", "size"),
    [*((cyclic_shift, size) for size in (3, 5, 16, 100, 1000)), (FEW_ROUNDS, 16)],
)
def test_the_kernel_distance_shows_a_shift_and_few_rounds(weak: Draw, size: int) -> None:
    assert mallows_p(weak, size, PAIRS) < ALPHA


@cases((2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 48, 100, 128), 10_000)
def test_even_and_odd_permutations_are_equally_likely(size: int, draws: int) -> None:
    assert sign_p(core, size, draws, 0.0) > ALPHA


@pytest.mark.parametrize("size", [12, 20, 28, 40])
def test_an_odd_number_of_whole_lines_gives_even_permutations_alone(size: int) -> None:
    # A limit of the network: to shift columns of odd length is even, and so is to permute
    # lines of four and more. The law of C - 2 values does not depend on the sign, so no
    # batch of candidates shows it.
    assert sign_p(core, size, 2_000, 1.0) > ALPHA
    assert sign_p(core, size, 2_000, 0.0) < ALPHA


# --- The ring. --------------------------------------------------------------------------


def ring_draws(size: int) -> int:
    """Rings to draw: as many as take about the same time."""
    return min(max(2_000_000 // size, 1_000), 50_000)


def core_ring(size: int, k: int, draws: int) -> Array:
    """The package's ring: tables ``[draws, C, k]``."""
    tables = [
        _core.sample_negatives(size, size, k, first, second, "ring")
        for first, second in seeds_in_order(draws).tolist()
    ]
    return np.stack(tables)


def weak_ring(weak: Draw, size: int, k: int, first_step: int = 1) -> Array:
    """A ring in the order that a weak sampler draws."""
    return ring_table(weak, size, k, seeds_in_order(ring_draws(size)), first_step)


def test_the_ring_to_be_made_worse_is_the_cores() -> None:
    np.testing.assert_array_equal(
        core_ring(37, 5, 50), ring_table(core, 37, 5, seeds_in_order(50))
    )


@cases((2, 3, 4, 5, 16, 100, 1000), lambda size: 200)
def test_a_rings_candidates_are_distinct_and_never_the_row(size: int, draws: int) -> None:
    for k in {1, min(3, size - 1), min(size - 1, 40)}:
        assert is_ring(core_ring(size, k, draws))


def test_is_ring_sees_the_row_itself_and_a_candidate_twice() -> None:
    table = core_ring(9, 3, 1)
    twice = table.copy()
    twice[0, 4, 2] = twice[0, 4, 0]
    assert is_ring(table)
    assert not is_ring(twice)
    assert not is_ring(weak_ring(core, 9, 3, first_step=0))


@cases((3, 4, 5), ring_draws, more=(6, 7))
def test_every_ring_of_a_few_is_equally_likely(size: int, draws: int) -> None:
    assert cyclic_orders_p(core_ring(size, size - 1, draws)) > ALPHA


def test_the_rings_show_that_four_rounds_are_few_for_a_few() -> None:
    assert cyclic_orders_p(weak_ring(FOUR_ROUNDS, 5, 4)) < ALPHA


@cases((4, 5, 8, 16, 100, 1000, 1024), ring_draws, more=(9, 37, 512))
def test_a_rings_candidates_are_uniform_without_replacement(size: int, draws: int) -> None:
    assert ring_p(core_ring(size, 3, draws)) > ALPHA


@pytest.mark.parametrize(
    ("weak", "first_step"),
    [(cyclic_shift, 1), (FEW_ROUNDS, 1), (core, 0)],
    ids=["shift", "two rounds", "the row itself"],
)
@pytest.mark.parametrize("size", [16, 100, 1000])
def test_the_candidates_show_a_weak_ring(weak: Draw, first_step: int, size: int) -> None:
    assert ring_p(weak_ring(weak, size, 3, first_step)) < ALPHA


# --- The tests themselves. --------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "size", "draws"),
    [
        (orders_p, 4, 5_000),
        (marginals_p, 100, 5_000),
        (pairs_p, 20, 5_000),
        (numbers_p, 20, 2_000),
        (fixed_points_p, 30, 2_000),
        (agreements_p, 30, 2_000),
        (mallows_p, 20, 400),
    ],
)
def test_true_shuffles_seldom_have_small_p_values(test: Any, size: int, draws: int) -> None:
    repeats, level = 60, 0.05
    small = sum(
        test(true_shuffles(start), size, draws) <= level for start in range(repeats)
    )
    assert binom.sf(small - 1, repeats, level) > ALPHA
