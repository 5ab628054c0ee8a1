from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy.stats import bootstrap, skew

from robustness.stats import Interval, bca_mean_interval, bootstrap_over_seeds, paired_difference_interval
from robustness.stats.bca import _acceleration
from robustness.stats.resampling import grouped_units, single_units


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_bca_agrees_with_scipys_on_skewed_values() -> None:
    values = np.random.default_rng(5).exponential(size=60)
    expected = bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1))

    found = bca_mean_interval(values, rng=rng(), resamples=20_000)

    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval), abs=0.01)
    assert found.high - values.mean() > values.mean() - found.low  # skewed to the right


def test_bca_draws_whole_groups() -> None:
    values = np.random.default_rng(2).normal(size=40)
    doubled = np.repeat(values, 3)

    single = bca_mean_interval(values, rng=rng(), resamples=40_000)
    grouped = bca_mean_interval(doubled, np.repeat(np.arange(40), 3), rng=rng(), resamples=40_000)

    assert (grouped.low, grouped.high) == pytest.approx((single.low, single.high), abs=0.01)


def test_bca_of_nothing_or_of_what_is_not_finite_is_nan_and_of_equal_values_a_point() -> None:
    assert math.isnan(bca_mean_interval([], rng=rng()).low)
    assert math.isnan(bca_mean_interval([1.0, math.inf], rng=rng()).high)
    assert bca_mean_interval([3.0], rng=rng()) == Interval(3.0, 3.0)
    with pytest.raises(ValueError, match="level"):
        bca_mean_interval([1.0], rng=rng(), level=1.0)


def test_several_seeds_are_less_sure_than_their_examples_alone() -> None:
    source = np.random.default_rng(4)
    shifts = [0.2, -0.1, 0.05, 0.15]
    table = np.array([np.sign(source.normal(shift, 1, 400)) * (source.random(400) < 0.4) for shift in shifts])

    over_seeds = bootstrap_over_seeds(table, rng=rng())
    pooled = paired_difference_interval(table.mean(axis=0), rng=rng())

    assert over_seeds.difference == pytest.approx(table.mean())
    assert over_seeds.interval.high - over_seeds.interval.low > 1.2 * (pooled.high - pooled.low)


def test_alike_seeds_give_the_interval_of_one() -> None:
    row = np.random.default_rng(4).choice([-1, 0, 1], 300, p=[0.1, 0.7, 0.2])

    several = bootstrap_over_seeds(np.stack([row] * 4), rng=rng(), resamples=40_000).interval
    one = paired_difference_interval(row, rng=rng(), resamples=40_000)

    assert (several.low, several.high) == pytest.approx((one.low, one.high), abs=0.006)


def test_swapping_the_arms_flips_the_seeded_difference() -> None:
    table = np.random.default_rng(4).choice([-1, 0, 1], (3, 200), p=[0.1, 0.7, 0.2])

    one, two = (bootstrap_over_seeds(sign * table, rng=rng(), resamples=40_000) for sign in (1, -1))

    assert one.difference == -two.difference
    assert (one.interval.low, one.interval.high) == pytest.approx((-two.interval.high, -two.interval.low), abs=0.006)
    assert one.p_value == pytest.approx(two.p_value, abs=0.01)


def test_one_seed_is_refused_and_groups_must_fit() -> None:
    with pytest.raises(ValueError, match="two rows"):
        bootstrap_over_seeds([[1.0, 0.0]], rng=rng())
    with pytest.raises(ValueError, match="groups"):
        bootstrap_over_seeds([[1.0, 0.0], [0.0, 0.0]], ["a"], rng=rng())


def coverage(draw: object, truth: float, runs: int) -> float:
    source = np.random.default_rng(11)
    inside = 0
    for _ in range(runs):
        values, groups = draw(source)  # type: ignore[operator]
        interval = paired_difference_interval(values, groups, rng=source, resamples=1000)
        inside += interval.low <= truth <= interval.high
    return inside / runs


@pytest.mark.parametrize("n", [80, 150, 1000])
def test_the_interval_of_a_paired_difference_covers_the_truth_in_93_to_97_percent(n: int) -> None:
    """400 simulated pairs; the benchmark `statistics` holds a table of 2,000. Three standard errors: 3.3 points."""

    def draw(source: np.random.Generator) -> tuple[np.ndarray, None]:
        return source.choice([-1, 0, 1], n, p=[0.1, 0.75, 0.15]), None

    assert 0.93 - 0.033 <= coverage(draw, 0.05, 400) <= 0.97 + 0.033


def test_the_interval_covers_where_rows_of_a_group_agree() -> None:
    def draw(source: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        sizes = source.integers(1, 6, 120)
        return np.repeat(source.choice([-1, 0, 1], 120, p=[0.1, 0.75, 0.15]), sizes), np.repeat(np.arange(120), sizes)

    assert 0.93 - 0.033 <= coverage(draw, 0.05, 400) <= 0.97 + 0.033


def test_ten_thousand_resamples_of_3560_grouped_rows_take_less_than_a_second() -> None:
    values = np.random.default_rng(0).normal(size=3560)
    started = time.process_time()

    paired_difference_interval(np.sign(values), np.arange(3560) // 2, rng=rng())
    bca_mean_interval(values, rng=rng())

    assert time.process_time() - started < 2  # two of them


def test_bca_corrects_the_bias_of_few_skewed_values_as_scipy_does() -> None:
    """The correction moves the ends by .06 here, ten times the noise of the draws."""
    values = np.random.default_rng(5).exponential(size=9)
    expected = bootstrap((values,), np.mean, n_resamples=60_000, method="BCa", rng=np.random.default_rng(1))

    found = bca_mean_interval(values, rng=rng(), resamples=60_000)

    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval), abs=0.012)


def test_bca_scales_and_shifts_with_the_values() -> None:
    values = np.random.default_rng(5).exponential(size=30)

    found, small = (bca_mean_interval(scale * values, rng=rng()) for scale in (1, 1e-3))
    shifted = bca_mean_interval(values + 7, rng=rng())

    assert (small.low, small.high) == pytest.approx((1e-3 * found.low, 1e-3 * found.high), rel=1e-9)
    assert (shifted.low - 7, shifted.high - 7) == pytest.approx((found.low, found.high))


def test_bca_of_a_lower_level_is_narrower_at_both_ends() -> None:
    values = np.random.default_rng(5).exponential(size=60)
    expected = bootstrap(
        (values,), np.mean, n_resamples=60_000, method="BCa", confidence_level=0.5, rng=np.random.default_rng(1)
    )

    found = bca_mean_interval(values, rng=rng(), resamples=60_000, level=0.5)

    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval), abs=0.005)


@pytest.mark.parametrize("level", [-0.5, 0.0, 1.0, 1.5])
def test_bca_refuses_what_is_no_level(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        bca_mean_interval([1.0, 2.0], rng=rng(), level=level)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_the_acceleration_of_a_mean_is_its_skewness_over_six_roots_of_n(scale: float) -> None:
    values = scale * np.random.default_rng(5).exponential(size=25)

    assert _acceleration(single_units(values)) == pytest.approx(skew(values) / (6 * math.sqrt(25)))
    assert _acceleration(single_units(np.array([0.1]))) == _acceleration(single_units(np.array([2.0, 2.0]))) == 0.0


def test_the_acceleration_of_groups_leaves_out_one_whole_group_after_the_other() -> None:
    source = np.random.default_rng(6)
    groups = np.repeat(np.arange(12), source.integers(1, 5, 12))
    values = source.exponential(size=len(groups))
    left_out = np.array([values[groups != group].mean() for group in range(12)])
    deviations = left_out.mean() - left_out

    expected = (deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5)

    assert _acceleration(grouped_units(values, groups)) == pytest.approx(expected)


def test_bca_of_equal_values_is_a_point_whichever_way_their_mean_is_rounded() -> None:
    for value in np.linspace(0.1, 1, 19):
        for n in (3, 6, 7, 10, 49):
            found = bca_mean_interval([value] * n, rng=rng(), resamples=50)

            assert (found.low, found.high) == pytest.approx((value, value))


def test_bca_counts_half_of_the_samples_that_tie_with_the_mean() -> None:
    values = [0.0] * 8 + [1.0] * 4 + [3.0]
    expected = bootstrap((values,), np.mean, n_resamples=60_000, method="BCa", rng=np.random.default_rng(1))

    found = bca_mean_interval(values, rng=rng(), resamples=60_000)

    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval), abs=0.01)
