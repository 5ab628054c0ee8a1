"""Slopes over seeds, held against closed forms and statsmodels' least squares with an intercept of each seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import stdtrit

from robustness.stats.doses.monotone import MonotoneTest, monotone_trend
from robustness.stats.doses.power import detectable_slope
from robustness.stats.doses.trends import Fit, Slope, Trend, curvature_over_seeds, judge_trend, slope_over_seeds
from robustness.stats.estimates import Estimate, Part

DOSES, SEEDS = np.tile(np.arange(5.0), 3), np.repeat(np.arange(3), 5)


def drawn(seed: int, *, seed_sd: float = 1.0, slope: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return slope * DOSES + seed_sd * rng.normal(size=3)[SEEDS] + rng.normal(size=15)


def least_squares(values: np.ndarray, doses: np.ndarray, seeds: np.ndarray) -> tuple[float, float, float]:
    """Slope, standard error and degrees of freedom with a fixed intercept of each seed."""
    api = pytest.importorskip("statsmodels.api")
    design = np.column_stack([doses, seeds[:, None] == np.unique(seeds)])
    found = api.OLS(values, design.astype(float)).fit()
    return found.params[0], found.bse[0], found.df_resid


def test_with_equal_doses_the_mixed_model_is_the_closed_form_within_seeds() -> None:
    values = drawn(3)

    found = slope_over_seeds(values, DOSES, SEEDS)
    slope, error, df = least_squares(values, DOSES, SEEDS)

    assert found.fit is Fit.MIXED_MODEL
    assert found.estimate.difference == pytest.approx(slope, abs=1e-6)
    assert found.estimate.error == pytest.approx(error, rel=1e-3)
    assert found.estimate.parts[0].df == df == 11
    width = stdtrit(11, 0.975) * error
    assert found.estimate.interval().high == pytest.approx(slope + width, rel=1e-3)


def test_seeds_that_do_not_differ_fall_back_to_least_squares_within_seeds() -> None:
    values = drawn(1, seed_sd=0.0)
    values -= np.array([values[seed == SEEDS].mean() for seed in range(3)])[SEEDS]

    found = slope_over_seeds(values, DOSES, SEEDS)
    slope, error, _ = least_squares(values, DOSES, SEEDS)

    assert found.fit is Fit.WITHIN_SEEDS
    assert (found.estimate.difference, found.estimate.error) == pytest.approx((slope, error))


def test_seeds_with_slopes_of_their_own_give_the_t_interval_of_the_mean_slope() -> None:
    own = np.array([-1.0, 0.5, 2.0])
    values = own[SEEDS] * DOSES + 0.01 * np.random.default_rng(0).normal(size=15)

    found = slope_over_seeds(values, DOSES, SEEDS)

    assert found.fit is Fit.SLOPES_PER_SEED
    assert found.estimate.difference == pytest.approx(0.5, abs=0.02)
    assert found.estimate.error == pytest.approx(1.5 / math.sqrt(3), rel=0.02)
    assert found.estimate.parts[0].df == 2


def test_a_missing_checkpoint_leaves_an_estimate() -> None:
    values, kept = drawn(3), np.arange(15) != 4

    found = slope_over_seeds(values[kept], DOSES[kept], SEEDS[kept])
    slope, error, df = least_squares(values[kept], DOSES[kept], SEEDS[kept])

    assert found.estimate.difference == pytest.approx(slope, abs=0.1)  # seeds' intercepts are shrunk
    assert found.estimate.error == pytest.approx(error, rel=0.1)
    assert found.estimate.parts[0].df == df == 10


@pytest.mark.parametrize(
    ("values", "doses", "seeds"),
    [
        (np.arange(10.0), np.tile(np.arange(5.0), 2), np.repeat([0, 1], 5)),  # two seeds
        (np.arange(6.0), np.tile([0.0, 1.0], 3), np.repeat([0, 1, 2], 2)),  # two doses
        (np.full(15, 0.4), DOSES, SEEDS),  # nothing varies
        (np.where(np.arange(15) == 3, np.nan, 0.5), DOSES, SEEDS),
        (np.zeros(0), np.zeros(0), np.zeros(0)),
    ],
)
def test_too_little_data_gives_no_slope(values: np.ndarray, doses: np.ndarray, seeds: np.ndarray) -> None:
    found = slope_over_seeds(values, doses, seeds)

    assert found.fit is Fit.NONE
    assert math.isnan(found.estimate.difference)
    assert math.isnan(detectable_slope(found, doses, seeds))
    order = MonotoneTest(1.0, 0.001)
    assert judge_trend(found, order, doses if len(doses) else [0.0], margin=0.02) is Trend.NOT_ENOUGH_DATA


def test_other_examples_widen_the_interval_by_their_own_t() -> None:
    values, examples = drawn(3), Part(0.04, 99)

    alone, both = slope_over_seeds(values, DOSES, SEEDS), slope_over_seeds(values, DOSES, SEEDS, examples=examples)

    widths = [each.estimate.interval().high - each.estimate.difference for each in (alone, both)]
    assert widths[1] ** 2 == pytest.approx(widths[0] ** 2 + 0.04 * stdtrit(99, 0.975) ** 2)
    assert detectable_slope(both, DOSES, SEEDS) > detectable_slope(alone, DOSES, SEEDS)


def test_reversed_doses_reverse_the_slope() -> None:
    values = drawn(3)

    there, back = slope_over_seeds(values, DOSES, SEEDS), slope_over_seeds(values, -DOSES, SEEDS)

    assert back.estimate.difference == pytest.approx(-there.estimate.difference)
    assert back.estimate.error == pytest.approx(there.estimate.error)


@pytest.mark.parametrize("factor", [1e-6, 1e3])
def test_units_scale_the_slope(factor: float) -> None:
    values = drawn(3)

    plain, scaled = slope_over_seeds(values, DOSES, SEEDS), slope_over_seeds(values * factor, DOSES, SEEDS)

    assert scaled.estimate.difference == pytest.approx(plain.estimate.difference * factor)
    assert scaled.fit is plain.fit


def test_curvature_is_least_squares_with_an_intercept_of_each_seed() -> None:
    api = pytest.importorskip("statsmodels.api")
    values = drawn(4) - 0.2 * DOSES**2
    design = np.column_stack([DOSES**2, DOSES, SEEDS[:, None] == np.unique(SEEDS)])
    expected = api.OLS(values, design.astype(float)).fit()

    found = curvature_over_seeds(values, DOSES, SEEDS)

    assert (found.difference, found.error) == pytest.approx((expected.params[0], expected.bse[0]))
    assert found.parts[0].df == expected.df_resid == 10


def test_three_doses_have_no_curvature() -> None:
    kept = DOSES < 3

    assert math.isnan(curvature_over_seeds(drawn(4)[kept], DOSES[kept], SEEDS[kept]).difference)
    assert math.isnan(curvature_over_seeds(np.ones(15), DOSES, SEEDS).difference)


def slope_of(value: float, error: float) -> Slope:
    return Slope(Estimate(value, value, (Part(error**2, 11),), math.inf), Fit.MIXED_MODEL)


@pytest.mark.parametrize(
    ("value", "error", "order", "expected"),
    [
        (0.010, 0.002, (0.8, 0.01), Trend.RISES),
        (-0.010, 0.002, (-0.8, 0.01), Trend.FALLS),
        (0.010, 0.002, (0.3, 0.09), Trend.RISES),  # one side of the order's p is below 5 %
        (0.010, 0.002, (0.2, 0.11), Trend.NO_TREND),  # the order of values does not agree
        (0.010, 0.002, (-0.8, 0.01), Trend.NO_TREND),  # it says the opposite
        (0.010, 0.010, (0.8, 0.01), Trend.NO_TREND),  # the interval has 0
        (0.001, 0.001, (0.8, 0.01), Trend.LEVEL),  # 4 doublings of at most 0.0032
        (0.010, 0.002, (0.8, math.nan), Trend.NOT_ENOUGH_DATA),
    ],
)
def test_a_trend_needs_interval_and_order(
    value: float, error: float, order: tuple[float, float], expected: Trend
) -> None:
    assert judge_trend(slope_of(value, error), MonotoneTest(*order), DOSES, margin=0.02) is expected


def test_in_a_family_the_adjusted_p_value_counts_too() -> None:
    slope, order = slope_of(0.010, 0.002), MonotoneTest(0.8, 0.01)

    assert judge_trend(slope, order, DOSES, margin=0.02, p_adjusted=0.06) is Trend.NO_TREND
    assert judge_trend(slope, order, DOSES, margin=0.02, p_adjusted=0.05) is Trend.RISES
    with pytest.raises(ValueError, match="margin of at least 0"):
        judge_trend(slope, order, DOSES, margin=-0.1)


def test_the_detectable_slope_scales_with_the_spread_and_shrinks_with_seeds() -> None:
    wide, narrow = (
        Slope(Estimate(0.0, 0.0, (Part(sd**2 / 30, 11),), math.inf), Fit.MIXED_MODEL, sd) for sd in (1.0, 0.1)
    )
    five = Slope(Estimate(0.0, 0.0, (Part(1 / 50, 19),), math.inf), Fit.MIXED_MODEL, 1.0)

    found = detectable_slope(wide, DOSES, SEEDS)

    assert detectable_slope(narrow, DOSES, SEEDS) == pytest.approx(found / 10, rel=0.01)
    assert detectable_slope(five, np.tile(np.arange(5.0), 5), np.repeat(np.arange(5), 5)) < found
    assert detectable_slope(wide, DOSES, SEEDS, power=0.5) < found
    with pytest.raises(ValueError, match="power in"):
        detectable_slope(wide, DOSES, SEEDS, power=1.0)


def test_where_no_order_can_be_significant_nothing_is_detectable() -> None:
    slope = Slope(Estimate(0.0, 0.0, (Part(0.01, 3),), math.inf), Fit.WITHIN_SEEDS, 0.1)

    assert math.isnan(detectable_slope(slope, [0.0, 1.0, 2.0], [0, 0, 0]))  # 1 of 6 orders


def test_the_detectable_slope_is_found_with_power_of_eighty_percent() -> None:
    rng = np.random.default_rng(0)
    known = Slope(Estimate(0.0, 0.0, (Part(1 / 30, 1e6),), math.inf), Fit.MIXED_MODEL, 1.0)
    true, found = detectable_slope(known, DOSES, SEEDS), 0

    for _ in range(400):
        values = true * DOSES + rng.normal(size=3)[SEEDS] + rng.normal(size=15)
        order = monotone_trend(values, DOSES, SEEDS)
        found += judge_trend(slope_over_seeds(values, DOSES, SEEDS), order, DOSES, margin=0.0) is Trend.RISES

    assert found / 400 == pytest.approx(0.8, abs=0.06)


@pytest.mark.soak
@pytest.mark.parametrize("n_seeds", [3, 5])
@pytest.mark.parametrize("slope_sd", [0.0, 0.3])
def test_interval_covers_and_tests_hold_their_level(n_seeds: int, slope_sd: float) -> None:
    """Five doses, seeds that differ as much as checkpoints; `slope_sd` in residual standard deviations."""
    rng, repeats = np.random.default_rng(n_seeds), 1500
    doses, seeds = np.tile(np.arange(5.0), n_seeds), np.repeat(np.arange(n_seeds), 5)
    covered = ordered = claimed = 0
    for _ in range(repeats):
        own = 0.2 + slope_sd * rng.normal(size=n_seeds)
        noise = rng.normal(size=n_seeds)[seeds] + rng.normal(size=len(seeds))
        interval = slope_over_seeds(own[seeds] * doses + noise, doses, seeds).estimate.interval()
        covered += interval.low <= 0.2 <= interval.high
        null = (own[seeds] - 0.2) * doses + noise
        order = monotone_trend(null, doses, seeds)
        ordered += order.p_value <= 0.05
        claimed += judge_trend(slope_over_seeds(null, doses, seeds), order, doses, margin=0.0) in (
            Trend.RISES,
            Trend.FALLS,
        )

    assert covered / repeats > (0.94 if slope_sd == 0 else 0.91)
    assert ordered / repeats < (0.06 if slope_sd == 0 else 0.10)
    assert claimed / repeats < (0.05 if slope_sd == 0 else 0.08)
