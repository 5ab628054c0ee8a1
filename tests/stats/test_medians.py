from __future__ import annotations

import math

import numpy as np
import pytest
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
    assert signed_rank_p([]) == 1.0
