from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.stats import quantile_test, wilcoxon

from robustness.stats import Interval
from robustness.stats.medians import median_interval, signed_rank_p


@pytest.mark.parametrize("n", [6, 9, 10, 25, 60])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_the_interval_of_a_median_is_scipys(n: int, level: float) -> None:
    values = np.random.default_rng(n).normal(size=n)
    expected = quantile_test(values, q=0, p=0.5).confidence_interval(level)

    found = median_interval(values, level=level)

    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), nan_ok=True)


def test_five_values_are_too_few_and_six_give_their_range() -> None:
    assert math.isnan(median_interval(range(5)).low) and math.isnan(median_interval([]).high)
    assert median_interval([5, 0, 1, 4, 2, 3]) == Interval(0.0, 5.0)


@pytest.mark.parametrize("level", [-1.0, 0.0, 1.0, 2.0])
def test_what_is_no_level_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        median_interval([1.0], level=level)


def test_zeros_are_ranked_and_left_out() -> None:
    """Pratt (1959)."""
    values = [0.0] * 8 + [1.0, -2.0, 3.0, 4.0, -5.0, 6.0, 7.0, 8.0, 8.0, 9.0, 10.0, -3.0]

    assert signed_rank_p(values) == pytest.approx(wilcoxon(values, zero_method="pratt").pvalue)
    assert signed_rank_p(values) != pytest.approx(wilcoxon(values, zero_method="wilcox").pvalue, abs=1e-4)
    assert signed_rank_p([0.0, 0.0]) == 1.0
    for value in (1.0, -1.0):
        assert signed_rank_p([value] * 30) == pytest.approx(wilcoxon([value] * 30).pvalue)
    assert signed_rank_p([]) == 1.0


@pytest.mark.parametrize(("n", "rank"), [(6, 1), (10, 2), (25, 8), (100, 40)])
def test_the_interval_lies_between_the_order_statistics_of_the_tables_of_the_sign_test(n: int, rank: int) -> None:
    """Critical ranks at 95 %: Conover, Practical Nonparametric Statistics, from Bin(n, 1/2)."""
    values = np.random.default_rng(n).permutation(n) + 1.0

    assert median_interval(values) == Interval(rank, n + 1 - rank)


def test_fewer_than_six_values_bound_no_median_at_95_percent() -> None:
    assert all(
        math.isnan(end) for n in range(6) for end in (median_interval(range(n)).low, median_interval(range(n)).high)
    )
    assert median_interval(range(5), level=0.9) == Interval(0, 4)


def test_the_interval_covers_the_median_of_skewed_values() -> None:
    samples = np.random.default_rng(0).exponential(size=(1000, 40))

    found = [median_interval(sample) for sample in samples]

    assert np.mean([each.low <= math.log(2) <= each.high for each in found]) >= 0.94


def test_the_signed_rank_test_gives_the_published_value() -> None:
    """Hollander and Wolfe (1973), p. 29, depression before and after: V = 40, two-sided p = .0391."""
    before = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
    after = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])

    assert signed_rank_p(before - after) == pytest.approx(0.0390625)
    assert signed_rank_p(after - before) == pytest.approx(0.0390625)


def test_zeros_are_ranked_before_they_are_left_out() -> None:
    values = [0.0, 0.0, 1.0, -2.0, 3.0, 4.0, 5.0, 6.0]

    assert signed_rank_p(values) == pytest.approx(stats.wilcoxon(values, zero_method="pratt").pvalue)
    assert signed_rank_p([0.0, 0.0]) == 1.0


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_level_that_is_no_share_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        median_interval([1.0], level=level)
