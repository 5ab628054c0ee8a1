from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from robustness.stats import Estimate, difference_over_seeds, mean_difference


def ends(estimate: Estimate) -> tuple[float, float]:
    interval = estimate.interval()
    return interval.low, interval.high


def width(estimate: Estimate) -> float:
    low, high = ends(estimate)
    return high - low


def draw_table(
    rng: np.random.Generator, seeds: int, n: int, seed_sd: float, truth: float = 0.0
) -> NDArray[np.float64]:
    """Right-and-wrong differences: half of the examples answer alike under every seed, seeds shift the rates."""
    shift = np.clip(truth + rng.normal(0, seed_sd, (seeds, 1)), -0.4, 0.4)
    draws = np.where(rng.random((1, n)) < 0.5, rng.random((1, n)), rng.random((seeds, n)))
    gains, losses = 0.08 + np.maximum(shift, 0), 0.08 + np.maximum(-shift, 0)
    return np.where(draws < gains, 1.0, np.where(draws > 1 - losses, -1.0, 0.0))


def anova(table: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean squares of seeds, columns and the rest of a two-way layout."""
    seeds, n = table.shape
    frame = pd.DataFrame(
        {"d": table.ravel(), "seed": np.repeat(np.arange(seeds), n), "column": np.tile(np.arange(n), seeds)}
    )
    squares = anova_lm(ols("d ~ C(seed) + C(column)", frame).fit())
    found = squares["sum_sq"] / squares["df"]
    return found["C(seed)"], found["C(column)"], found["Residual"]


def half_width(table: NDArray[np.float64], n_groups: int) -> float:
    seeds, n = table.shape
    ms_seed, ms_column, ms_rest = anova(table)
    of_seeds = stats.t.ppf(0.975, seeds - 1) ** 2 * ms_seed / (seeds * n)
    of_columns = stats.t.ppf(0.975, n_groups - 1) ** 2 * max(0, ms_column - ms_rest) / (seeds * n)
    return math.sqrt(of_seeds + of_columns)


@pytest.mark.parametrize(("seeds", "n"), [(2, 12), (3, 40), (5, 25)])
def test_the_interval_is_that_of_a_two_way_analysis_of_variance(seeds: int, n: int) -> None:
    table = draw_table(np.random.default_rng(seeds), seeds, n, seed_sd=0.1, truth=0.2)
    padded = np.column_stack([table, np.ones(seeds), -np.ones(seeds)])

    found = difference_over_seeds(table)

    width = half_width(padded, n)
    assert found.difference == pytest.approx(table.mean())
    assert found.center == pytest.approx(padded.mean())
    assert ends(found) == pytest.approx((padded.mean() - width, padded.mean() + width))
    assert [part.df for part in found.parts] == [seeds - 1, n - 1]


def test_a_group_counts_as_one_column_of_its_means() -> None:
    table = draw_table(np.random.default_rng(0), 3, 30, seed_sd=0.05)
    four_times = np.repeat(table, 4, axis=1), np.repeat(np.arange(30), 4)

    assert ends(difference_over_seeds(*four_times)) == pytest.approx(ends(difference_over_seeds(table)))


def test_groups_of_unequal_size_are_linearised_ratios() -> None:
    rng = np.random.default_rng(4)
    sizes = rng.integers(1, 5, 20)
    effective = sizes.sum() ** 2 / (sizes**2).sum()
    groups, size = np.repeat(np.arange(20), sizes), sizes.sum() / effective
    table = draw_table(rng, 3, int(sizes.sum()), seed_sd=0.05, truth=0.1)
    sums = np.stack([np.bincount(groups, weights=row) for row in table])
    sums = np.column_stack([sums, np.full(3, size), np.full(3, -size)])
    sizes = np.append(sizes, [size, size])
    means = sums.sum(axis=1) / sizes.sum()
    linearised = means[:, None] + (sums - sizes * means[:, None]) / sizes.mean()

    found = difference_over_seeds(table, groups)

    width = half_width(linearised, effective)
    assert found.difference == pytest.approx(table.mean())
    assert ends(found) == pytest.approx((means.mean() - width, means.mean() + width))


def test_seeds_that_answer_alike_leave_the_uncertainty_of_one() -> None:
    row = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 300, p=[0.1, 0.7, 0.2])

    found = difference_over_seeds([row] * 4)

    assert found.parts[0].variance == pytest.approx(0)
    assert ends(found) == pytest.approx(ends(mean_difference(row)), rel=0.02)


def test_seeds_that_differ_make_it_less_sure_than_examples_alone_would() -> None:
    table = draw_table(np.random.default_rng(0), 4, 400, seed_sd=0.1)

    assert width(difference_over_seeds(table)) > 1.5 * width(mean_difference(table.mean(axis=0)))


def test_two_seeds_say_next_to_nothing() -> None:
    rng = np.random.default_rng(0)
    tables = [draw_table(rng, 5, 500, seed_sd=0.03) for _ in range(200)]

    two, three, five = (np.median([width(difference_over_seeds(t[:seeds])) for t in tables]) for seeds in (2, 3, 5))

    assert two > 0.3 and two > 2 * three > 2 * five


@given(st.lists(st.tuples(*[st.sampled_from([-1.0, 0.0, 1.0])] * 3), min_size=1, max_size=30), st.integers(1, 3))
def test_swapping_the_arms_turns_the_estimate_over(rows: list[tuple[float, float, float]], size: int) -> None:
    table, groups = np.array(rows).T, np.arange(len(rows)) // size

    one, two = difference_over_seeds(table, groups), difference_over_seeds(-table, groups)

    assert (two.difference, two.center) == pytest.approx((-one.difference, -one.center))
    low, high = ends(one)
    assert ends(two) == pytest.approx((-high, -low), nan_ok=True)
    assert two.p_value == pytest.approx(one.p_value, nan_ok=True, abs=1e-9)


@given(st.permutations(range(4)), st.permutations(range(20)))
def test_neither_the_order_of_seeds_nor_of_examples_matters(seeds: list[int], columns: list[int]) -> None:
    table = draw_table(np.random.default_rng(9), 4, 20, seed_sd=0.1)

    assert ends(difference_over_seeds(table[seeds][:, columns])) == pytest.approx(ends(difference_over_seeds(table)))


@pytest.mark.parametrize(("seeds", "seed_sd"), [(3, 0.0), (3, 0.03), (5, 0.0), (5, 0.03)])
@pytest.mark.parametrize("n", [100, 500])
def test_the_interval_covers_whether_or_not_seeds_differ(seeds: int, seed_sd: float, n: int) -> None:
    """Resampling seeds and examples covered .73 to .93 where two or three seeds differ."""
    rng = np.random.default_rng(seeds)

    found = [ends(difference_over_seeds(draw_table(rng, seeds, n, seed_sd))) for _ in range(1000)]

    assert np.mean([low <= 0 <= high for low, high in found]) >= 0.94


def test_the_interval_covers_with_few_groups_under_every_seed() -> None:
    rng, groups, inside = np.random.default_rng(0), np.repeat(np.arange(8), 20), 0

    for _ in range(500):
        table = np.repeat(draw_table(rng, 3, 8, seed_sd=0.03), 20, axis=1)
        low, high = ends(difference_over_seeds(table, groups))
        inside += low <= 0 <= high

    assert inside / 500 >= 0.93


@pytest.mark.parametrize("table", [np.zeros((3, 0)), [[math.nan, 1.0], [0.0, 0.0]]])
def test_without_data_nothing_is_estimated(table: NDArray[np.float64]) -> None:
    found = difference_over_seeds(table)

    assert all(math.isnan(number) for number in (found.difference, found.p_value, *ends(found)))


def test_one_group_says_nothing_of_other_groups() -> None:
    found = difference_over_seeds([[1.0, 0.0], [1.0, 1.0]], ["q", "q"])

    assert found.difference == 0.75
    assert all(math.isnan(number) for number in (found.p_value, found.p_equivalence(0.02), *ends(found)))


def test_one_seed_is_refused_and_groups_must_fit() -> None:
    with pytest.raises(ValueError, match="two rows"):
        difference_over_seeds([[1.0, 0.0]])
    with pytest.raises(ValueError, match="groups"):
        difference_over_seeds([[1.0, 0.0], [0.0, 0.0]], ["a"])
