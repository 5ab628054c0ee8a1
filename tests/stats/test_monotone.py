"""The monotone test, held against enumerated orders and scipy's Kendall test."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from robustness.stats.doses.monotone import critical_score, monotone_trend

VALUES = st.lists(st.integers(0, 5), min_size=2, max_size=6)


def score(values: tuple[float, ...]) -> int:
    return sum(int(np.sign(b - a)) for a, b in itertools.combinations(values, 2))


def enumerated(tables: list[list[float]]) -> float:
    """The two-sided p-value over every order of each seed's values."""
    observed = abs(sum(score(tuple(values)) for values in tables))
    orders = [[score(order) for order in itertools.permutations(values)] for values in tables]
    scores = np.array([abs(sum(each)) for each in itertools.product(*orders)])
    return float((scores >= observed).mean())


@pytest.mark.parametrize(
    "tables",
    [
        [[1, 2, 3, 4]],
        [[1, 3, 2, 4], [2, 1, 3, 4]],
        [[1, 1, 2, 2], [3, 3, 3, 4]],
        [[5, 1, 1, 0], [2, 2, 2, 1]],
        [[1, 2, 3], [3, 2, 1], [1, 1, 2]],
        [[7, 7, 7]],
    ],
)
def test_p_is_the_share_of_orders_at_least_as_extreme(tables: list[list[float]]) -> None:
    values = [value for table in tables for value in table]
    doses = [dose for table in tables for dose in range(len(table))]
    seeds = [seed for seed, table in enumerate(tables) for _ in table]

    found = monotone_trend(values, doses, seeds)

    assert found.p_value == pytest.approx(enumerated(tables))
    pairs = sum(len(table) * (len(table) - 1) // 2 for table in tables)
    assert found.statistic == pytest.approx(sum(score(tuple(table)) for table in tables) / pairs)


def test_of_one_seed_without_ties_it_is_kendalls_exact_test() -> None:
    values = np.random.default_rng(0).normal(size=9)

    expected = kendalltau(np.arange(9), values, method="exact")
    found = monotone_trend(values, np.arange(9), np.zeros(9))

    assert (found.statistic, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))


@given(st.lists(VALUES, min_size=1, max_size=3))
def test_reversed_doses_change_the_sign_alone(tables: list[list[int]]) -> None:
    values = [value for table in tables for value in table]
    doses = np.array([dose for table in tables for dose in range(len(table))])
    seeds = [seed for seed, table in enumerate(tables) for _ in table]

    there, back = monotone_trend(values, doses, seeds), monotone_trend(values, -doses, seeds)

    assert back.statistic == -there.statistic
    assert back.p_value == there.p_value
    assert 0 < there.p_value <= 1 + 1e-12


@given(VALUES)
def test_only_the_order_of_values_and_doses_counts(values: list[int]) -> None:
    doses = np.arange(len(values), dtype=float)

    assert monotone_trend(np.exp(values), doses**3, [0] * len(values)) == monotone_trend(
        values, doses, [0] * len(values)
    )


def test_order_of_rows_does_not_count() -> None:
    rng = np.random.default_rng(1)
    values, doses, seeds = rng.normal(size=12), np.tile(np.arange(4), 3), np.repeat(np.arange(3), 4)
    order = rng.permutation(12)

    assert monotone_trend(values[order], doses[order], seeds[order]) == monotone_trend(values, doses, seeds)


def test_values_of_one_seed_and_dose_are_averaged() -> None:
    found = monotone_trend([1.0, 3.0, 1.5], [1, 1, 2], [0, 0, 0])

    assert found.statistic == -1.0


def test_without_a_pair_of_doses_nothing_is_known() -> None:
    assert math.isnan(monotone_trend([1.0, 2.0], [1, 1], [0, 1]).p_value)
    assert math.isnan(monotone_trend([], [], []).p_value)


def test_twenty_doses_need_no_enumeration() -> None:
    found = monotone_trend(np.tile(np.arange(20), 5), np.tile(np.arange(20), 5), np.repeat(np.arange(5), 20))

    assert found.statistic == 1.0
    assert 0 <= found.p_value < 1e-12


def test_the_critical_score_is_the_least_that_chance_rarely_reaches() -> None:
    doses, seeds = np.tile(np.arange(4), 2), np.repeat([0, 1], 4)
    orders = [score(order) for order in itertools.permutations(range(4))]
    sums = np.add.outer(orders, orders).ravel()

    critical = critical_score(doses, seeds)

    assert (sums >= critical).mean() <= 0.05 < (sums >= critical - 2).mean()  # scores are even
    assert critical_score([1, 2], [0, 0]) > 1  # no score of one pair is rare
