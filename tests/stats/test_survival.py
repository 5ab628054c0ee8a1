from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.duration.api import SurvfuncRight, survdiff

from robustness.stats import auc, kaplan_meier, log_rank, rank_correlation

# Weeks of remission of Freireich et al. (1963), the textbook example: 6-mercaptopurine and placebo.
TREATED = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
RELAPSED = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]


def test_kaplan_meier_gives_the_textbook_curve() -> None:
    curve = kaplan_meier(TREATED, RELAPSED)

    steps = dict(zip(curve.times.tolist(), curve.surviving.tolist(), strict=True))
    published = {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}
    assert {t: round(s, 3) for t, s in steps.items() if t in published} == published
    assert curve.median == 23
    assert ((curve.low <= curve.surviving) & (curve.surviving <= curve.high)).all()
    # R: survfit(..., conf.type = "log-log") at 6 weeks
    assert (curve.low[0], curve.high[0]) == pytest.approx((0.620, 0.952), abs=5e-4)


def test_log_rank_gives_the_textbook_value() -> None:
    found = log_rank(TREATED, RELAPSED, PLACEBO, [1] * 21)

    assert found.statistic == pytest.approx(16.79, abs=0.005)
    assert found.p_value == pytest.approx(4.17e-5, rel=0.01)
    assert log_rank(PLACEBO, [1] * 21, TREATED, RELAPSED).p_value == pytest.approx(found.p_value)


def test_without_censoring_the_curve_is_the_share_that_is_left() -> None:
    curve = kaplan_meier([3, 1, 2, 2], [1, 1, 1, 1])

    assert curve.times.tolist() == [1, 2, 3]
    assert curve.surviving.tolist() == pytest.approx([0.75, 0.25, 0.0])


def test_what_never_breaks_has_no_steps_no_median_and_no_test() -> None:
    curve = kaplan_meier([5, 5], [0, 0])

    assert curve.times.size == 0 and math.isnan(curve.median)
    assert math.isnan(log_rank([5], [0], [5], [0]).p_value)
    with pytest.raises(ValueError, match="at least one"):
        kaplan_meier([], [])


def test_auc_counts_pairs_and_ties_half() -> None:
    source = np.random.default_rng(0)
    values, broken = source.integers(0, 6, 40), source.random(40) < 0.4
    wins = [(a > b) + 0.5 * (a == b) for a in values[broken] for b in values[~broken]]

    found = auc(values, broken)

    assert found.auc == pytest.approx(np.mean(wins))
    assert 0 < found.interval.low < found.auc < found.interval.high < 1
    assert auc(-values, broken).auc == pytest.approx(1 - found.auc)


def test_the_interval_of_an_auc_covers_the_truth() -> None:
    source = np.random.default_rng(0)
    truth = 0.7602  # Phi(1 / sqrt 2)
    inside = 0
    for _ in range(400):
        broken = np.arange(120) < 50
        interval = auc(source.normal(size=120) + broken, broken).interval
        inside += interval.low <= truth <= interval.high

    assert 0.95 - 0.033 <= inside / 400 <= 0.95 + 0.033


def test_a_predictor_needs_both_outcomes_and_a_correlation_needs_spread() -> None:
    assert math.isnan(auc([1, 2], [1, 1]).auc)
    assert auc([1, 2, 3, 4], [0, 0, 1, 1]).auc == 1.0
    assert math.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)


def test_arms_that_break_all_at_one_count_cannot_be_compared() -> None:
    found = log_rank([1, 1], [1, 1], [1, 1], [1, 1])

    assert math.isnan(found.statistic) and math.isnan(found.p_value)


@pytest.mark.parametrize("seed", range(4))
def test_curves_and_tests_with_ties_and_censoring_are_statsmodels(seed: int) -> None:
    source = np.random.default_rng(seed)
    spent, broken = source.integers(1, 12, (2, 40)), source.random((2, 40)) < 0.6

    curve, found = kaplan_meier(spent[0], broken[0]), log_rank(spent[0], broken[0], spent[1], broken[1])

    fitted = SurvfuncRight(spent[0], broken[0].astype(int))
    assert curve.times.tolist() == fitted.surv_times.tolist()
    assert curve.surviving == pytest.approx(fitted.surv_prob)
    statistic, p_value = survdiff(spent.ravel(), broken.ravel().astype(int), np.repeat([0, 1], 40))
    assert (found.statistic, found.p_value) == pytest.approx((statistic, p_value))


def test_the_band_of_an_empty_rest_is_a_point_and_that_of_a_curve_is_the_log_log_one() -> None:
    """At 2: S = 1/4, Greenwood's variance of log S is 1/12 + 2/3 = 3/4, over |log S| = 1.386."""
    curve = kaplan_meier([3, 1, 2, 2], [1, 1, 1, 1])

    width = 1.959964 * math.sqrt(0.75) / math.log(4)
    assert (curve.low[1], curve.high[1]) == pytest.approx((0.25 ** math.exp(width), 0.25 ** math.exp(-width)))
    assert (curve.low[-1], curve.high[-1]) == (0.0, 0.0)


def test_the_median_is_where_at_most_half_are_left() -> None:
    assert kaplan_meier([1, 2, 3, 4], [1, 1, 1, 1]).median == 2
    assert kaplan_meier([1, 2, 3], [1, 1, 1]).median == 2
    assert math.isnan(kaplan_meier([1, 2, 3], [1, 0, 0]).median)


def test_arms_of_different_size_are_compared_as_statsmodels_does() -> None:
    source = np.random.default_rng(9)
    spent, broken, arm = source.integers(1, 30, 50), source.random(50) < 0.7, np.repeat([0, 1], [15, 35])

    found = log_rank(spent[arm == 0], broken[arm == 0], spent[arm == 1], broken[arm == 1])

    assert (found.statistic, found.p_value) == pytest.approx(survdiff(spent, broken.astype(int), arm))


def test_an_arm_without_examples_is_compared_with_none() -> None:
    assert math.isnan(log_rank([], [], [1, 2], [1, 1]).p_value)
    assert math.isnan(log_rank([1, 2], [1, 1], [], []).p_value)
    with pytest.raises(ValueError, match="one shape"):
        log_rank([1, 2], [1], [1, 2], [1, 1])


def test_the_last_one_under_attack_adds_no_variance() -> None:
    found = log_rank([1, 2, 6], [1, 1, 1], [3, 4, 5], [1, 1, 1])

    expected = survdiff(np.array([1, 2, 6, 3, 4, 5]), np.ones(6, dtype=int), np.repeat([0, 1], 3))
    assert (found.statistic, found.p_value) == pytest.approx(expected)
