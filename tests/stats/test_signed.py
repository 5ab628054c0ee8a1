from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import permutation_test

from robustness.stats import mcnemar_exact, mcnemar_mid_p, paired_permutation

# Differences of Darwin's fifteen pairs of Zea mays, cross minus self fertilised, in eighths of an inch.
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def share_of_sign_patterns(sums: list[float]) -> float:
    totals = [abs(float(np.dot(signs, sums))) for signs in itertools.product([-1, 1], repeat=len(sums))]
    return float(np.mean([total >= abs(sum(sums)) - 1e-9 for total in totals]))


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_the_permutation_test_counts_all_sign_patterns_of_small_samples(values: list[int]) -> None:
    assert paired_permutation(values, rng=rng()) == pytest.approx(share_of_sign_patterns([float(v) for v in values]))


def test_groups_flip_as_one() -> None:
    values, groups = [1.0, 0.5, -0.25, 2.0, 1.0], ["a", "a", "b", "c", "c"]

    assert paired_permutation(values, groups, rng=rng()) == share_of_sign_patterns([1.5, -0.25, 3.0])


def test_darwins_plants_have_fishers_p_value() -> None:
    """Fisher, The Design of Experiments, section 21: 1,726 of 32,768 arrangements."""
    found = paired_permutation(DARWIN, rng=rng(), permutations=200_000)

    assert found == pytest.approx(1726 / 32768, abs=0.002)


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=14))
def test_on_right_and_wrong_the_permutation_test_is_mcnemars(differences: list[int]) -> None:
    reference, candidate = [d == 1 for d in differences], [d == -1 for d in differences]

    assert paired_permutation(differences, rng=rng()) == pytest.approx(mcnemar_exact(reference, candidate).p_value)


@pytest.mark.parametrize("continuous", [True, False])
def test_drawn_permutations_agree_with_scipys(continuous: bool) -> None:
    source = np.random.default_rng(3)
    values = source.normal(0.15, 1, 120) if continuous else source.choice([-1, 0, 1], 120, p=[0.15, 0.6, 0.25])
    expected = permutation_test(
        (values, np.zeros(120)), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=20_000, rng=1
    )

    assert paired_permutation(values, rng=rng(), permutations=20_000) == pytest.approx(expected.pvalue, abs=0.015)


def test_swapping_the_arms_keeps_the_p_value_and_nothing_has_none() -> None:
    values = np.random.default_rng(1).normal(size=12)

    assert paired_permutation(values, rng=rng()) == paired_permutation(-values, rng=rng())
    assert paired_permutation([0.0, 0.0], rng=rng()) == 1.0
    assert math.isnan(paired_permutation([], rng=rng()))


def test_ten_thousand_permutations_of_3560_continuous_rows_take_less_than_a_second() -> None:
    values = np.random.default_rng(0).normal(size=3560)
    started = time.process_time()

    paired_permutation(values, rng=rng())

    assert time.process_time() - started < 1


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        paired_permutation([1.0, math.inf], rng=rng())
    with pytest.raises(ValueError, match="permutation"):
        paired_permutation([1.0], rng=rng(), permutations=0)


@given(st.integers(0, 30), st.integers(0, 30))
def test_mid_p_counts_half_of_what_was_observed(only_reference: int, only_candidate: int) -> None:
    n = only_reference + only_candidate
    reference = [True] * only_reference + [False] * only_candidate
    tail = sum(math.comb(n, k) for k in range(min(only_reference, only_candidate))) + 0.5 * math.comb(
        n, min(only_reference, only_candidate)
    )
    expected = 1.0 if only_reference == only_candidate else 2 * tail / 2**n

    found = mcnemar_mid_p(reference, [not right for right in reference])

    assert found.p_value == pytest.approx(expected)
    assert found.p_value <= mcnemar_exact(reference, [not right for right in reference]).p_value


def test_mid_p_gives_the_published_value() -> None:
    """Fagerland et al. (2013), table 1: airway hyper-responsiveness, 1 against 7 discordant pairs."""
    reference, candidate = [1] * 7 + [0], [0] * 7 + [1]

    assert mcnemar_mid_p(reference, candidate).p_value == pytest.approx(0.0391, abs=5e-5)
    assert mcnemar_exact(reference, candidate).p_value == pytest.approx(0.0703, abs=5e-5)


@pytest.mark.parametrize("n", [1, 2, 7, 14])
def test_fractions_of_few_units_have_the_share_of_all_sign_patterns(n: int) -> None:
    values = np.random.default_rng(n).normal(0.4, 1, n).round(3)

    assert paired_permutation(values, rng=rng()) == pytest.approx(share_of_sign_patterns(values.tolist()), abs=1e-12)


def test_small_fractions_are_counted_like_large_ones() -> None:
    values = np.random.default_rng(7).normal(0.4, 1, 10)

    assert paired_permutation(1e-6 * values, rng=rng()) == paired_permutation(values, rng=rng())


def test_repeated_fractions_drawn_by_binomials_agree_with_the_count_of_all_patterns() -> None:
    """Halves of odd numbers: doubled, they are whole and counted."""
    values = np.repeat([0.5, -1.5, 2.5], [40, 25, 8])
    exact = paired_permutation(2 * values, rng=rng())

    found = paired_permutation(values, rng=rng(), permutations=100_000)

    assert found == pytest.approx(exact, abs=0.006)


def test_a_drawn_p_value_counts_the_observed_pattern_too() -> None:
    """Forty-one signs, 199 times: a number of bits that fills no whole byte."""
    assert paired_permutation(np.arange(1, 42) + 0.5, rng=rng(), permutations=199) == 1 / 200


def test_drawn_p_values_are_shares_of_the_drawn_and_the_observed() -> None:
    values = np.random.default_rng(2).normal(0, 1, 60)

    found = [paired_permutation(values, rng=np.random.default_rng(seed), permutations=9) for seed in range(40)]

    assert {round(10 * p, 9) for p in found} <= set(range(1, 11))


def test_one_drawn_permutation_will_do() -> None:
    assert paired_permutation(np.arange(1, 41) + 0.5, rng=rng(), permutations=1) == 0.5


def test_where_every_pattern_reaches_the_observed_sum_p_is_one() -> None:
    values = np.arange(1, 21) + 0.3

    assert paired_permutation([*values, *-values], rng=rng(), permutations=99) == 1.0


@pytest.mark.parametrize("seed", range(8))
def test_large_fractions_are_counted_like_small_ones(seed: int) -> None:
    values = np.random.default_rng(seed).normal(0.4, 1, 10)

    assert paired_permutation(1e9 * values, rng=rng()) == paired_permutation(values, rng=rng())


def test_every_drawn_sign_is_random_to_the_last_bit() -> None:
    """Fifteen near ones: at least 11 of a sign have 2 * 1941 / 32768 of the patterns."""
    values = np.array([1.0] * 11 + [-1.0] * 4) + np.linspace(0, 1e-4, 15) * np.repeat([1, -1], [11, 4])

    found = [paired_permutation(values, rng=np.random.default_rng(s), permutations=1) == 1.0 for s in range(400)]

    patterns = np.array(list(itertools.product((-1, 1), repeat=15))) @ np.abs(values)
    expected = (np.abs(patterns) >= abs(values.sum()) - 1e-9).mean()
    assert np.mean(found) == pytest.approx(expected, abs=4 * math.sqrt(expected / 400))
