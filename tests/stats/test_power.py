from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from robustness.stats import (
    Estimate,
    detectable_by_estimate,
    detectable_difference,
    difference_over_seeds,
    mean_difference,
)
from robustness.stats import rarer_share as smoothed_share
from robustness.stats.estimates import NO_ESTIMATE, Part
from robustness.stats.power import RESOLUTION, mcnemar_power

Values = NDArray[np.float64]


def brute_force_power(n: int, difference: float, share: float) -> float:
    total = 0.0
    for m in range(n + 1):
        for k in range(m + 1):
            if m and stats.binomtest(k, m).pvalue <= 0.05:
                total += stats.binom.pmf(m, n, share) * stats.binom.pmf(k, m, (1 + difference / share) / 2)
    return total


@pytest.mark.parametrize(("difference", "share"), [(0.0, 0.3), (0.2, 0.3), (-0.2, 0.3), (0.3, 0.3), (0.5, 0.9)])
def test_power_is_the_sum_over_all_outcomes(difference: float, share: float) -> None:
    assert mcnemar_power(25, difference, share) == pytest.approx(brute_force_power(25, difference, share), abs=1e-9)


@pytest.mark.parametrize("n", [78, 148, 1000, 3560])
@pytest.mark.parametrize("rarer", [0.0, 0.02, 0.1, 0.25])
@pytest.mark.parametrize("alpha", [0.05, 0.005])
def test_the_detectable_difference_is_the_first_with_the_power_where_the_rarer_share_stays(
    n: int, rarer: float, alpha: float
) -> None:
    """At an observed discordant share that is held fixed the power was .34 to .63."""
    found = detectable_difference(n, rarer, alpha=alpha)

    below = found - RESOLUTION
    assert mcnemar_power(n, found, found + 2 * rarer, alpha=alpha) >= 0.8
    assert mcnemar_power(n, below, below + 2 * rarer, alpha=alpha) < 0.8


@pytest.mark.parametrize(("n", "rarer"), [(150, 0.05), (1000, 0.03), (1000, 0.15)])
def test_the_detectable_difference_is_found_four_times_out_of_five(n: int, rarer: float) -> None:
    difference = detectable_difference(n, rarer)
    counts = np.random.default_rng(0).multinomial(n, [rarer + difference, rarer, 1 - difference - 2 * rarer], 4000)

    discordant = counts[:, 0] + counts[:, 1]
    p_values = 2 * stats.binom.cdf(np.minimum(counts[:, 0], counts[:, 1]), discordant, 0.5)

    assert 0.78 <= np.mean(p_values <= 0.05) <= 0.83


@given(n=st.integers(50, 2000), rarer=st.floats(0, 0.2))
def test_more_examples_and_fewer_discordant_ones_detect_smaller_differences(n: int, rarer: float) -> None:
    found = detectable_difference(n, rarer)

    assert detectable_difference(4 * n, rarer) < found <= 1 - 2 * rarer
    assert detectable_difference(n, rarer / 2) <= found + RESOLUTION  # of which bisection is sure
    assert detectable_difference(n, rarer, power=0.6) < found <= detectable_difference(n, rarer, power=0.9)


def test_too_few_examples_detect_nothing() -> None:
    assert math.isnan(detectable_difference(5, 0.0))
    assert math.isnan(detectable_difference(0, 0.1))
    assert math.isnan(detectable_difference(1000, 0.5))
    # Six of six are significant: six examples need a sixth root of .8.
    assert detectable_difference(6, 0.0) == pytest.approx(0.8 ** (1 / 6), abs=RESOLUTION)


@pytest.mark.parametrize(
    ("n", "share", "power"), [(-1, 0.1, 0.8), (10, -0.1, 0.8), (10, 0.6, 0.8), (10, 0.1, 0.0), (10, 0.1, 1.0)]
)
def test_impossible_sizes_are_refused(n: int, share: float, power: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        detectable_difference(n, share, power=power)


def test_impossible_differences_have_no_power() -> None:
    for n, difference, share in [(10, 0.5, 0.2), (-1, 0.1, 0.2), (10, 0.1, 1.2)]:
        with pytest.raises(ValueError, match="expected"):
            mcnemar_power(n, difference, share)
    assert mcnemar_power(10, 0.0, 0.0) == 0.0  # arms that never differ


def rarer_share(values: Values) -> float:
    return float(min((values == 1).mean(), (values == -1).mean()))


def power_at_the_typical_answer(
    draw: Callable[[float], Values],
    estimate: Callable[[Values], Estimate],
    n: int,
    *,
    binary: bool = True,
    observed: float = 0.0,
) -> float:
    """The share of tests that find the median of what is called detectable, in the right direction."""
    answers = []
    for _ in range(200):
        values = draw(observed)
        share = rarer_share(values) if binary else None
        answers.append(detectable_by_estimate(estimate(values), n=n, rarer_share=share))
    truth = float(np.median(answers))
    found = [estimate(draw(truth)).interval().low > 0 for _ in range(1000)]
    return float(np.mean(found))


@pytest.mark.parametrize(
    ("n_groups", "size", "alike"), [(150, 2, 0.5), (100, 3, 0.9), (300, 4, 0.5), (40, 10, 0.4), (15, 40, 0.3)]
)
@pytest.mark.parametrize("observed", [0.0, 0.05])
def test_the_difference_that_groups_detect_is_found_four_times_out_of_five(
    n_groups: int, size: int, alike: float, observed: float
) -> None:
    rng, groups = np.random.default_rng(n_groups), np.repeat(np.arange(n_groups), size)

    def draw(truth: float) -> Values:
        shares = [0.08, 0.84 - truth, 0.08 + truth]
        common = rng.choice([-1.0, 0.0, 1.0], (n_groups, 1), p=shares)
        own = rng.choice([-1.0, 0.0, 1.0], (n_groups, size), p=shares)
        return np.where(rng.random(own.shape) < alike, common, own).ravel()

    found = power_at_the_typical_answer(
        draw, lambda values: mean_difference(values, groups), n_groups * size, observed=observed
    )

    assert 0.75 <= found <= 0.88


@pytest.mark.parametrize(("n_groups", "size"), [(100, 1), (1000, 1), (60, 4), (400, 3)])
def test_the_difference_of_f1_that_is_called_detectable_is_found_four_times_out_of_five(
    n_groups: int, size: int
) -> None:
    """Differences of scores of which many are 0, and of which rows of a question share a part."""
    rng, groups = np.random.default_rng(size), np.repeat(np.arange(n_groups), size)

    def scores(shape: tuple[int, int]) -> Values:
        return np.where(rng.random(shape) < 0.5, 0.0, rng.beta(2, 3, shape) - rng.beta(2, 3, shape))

    def draw(truth: float) -> Values:
        return (truth + 0.5 * scores((n_groups, 1)) + 0.5 * scores((n_groups, size))).ravel()

    found = power_at_the_typical_answer(
        draw, lambda values: mean_difference(values, groups), n_groups * size, binary=False
    )

    assert 0.75 <= found <= 0.88


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("seed_sd", [0.0, 0.01, 0.03])
@pytest.mark.parametrize("n", [200, 1000])
def test_the_difference_that_seeds_detect_is_found_four_times_out_of_five(seeds: int, seed_sd: float, n: int) -> None:
    rng = np.random.default_rng(seeds)

    def draw(truth: float) -> Values:
        shift = truth + rng.normal(0, seed_sd, (seeds, 1))
        draws = np.where(rng.random((1, n)) < 0.5, rng.random((1, n)), rng.random((seeds, n)))
        gains, losses = 0.08 + np.clip(shift, 0, 0.5), 0.08 + np.clip(-shift, 0, 0.3)
        return np.where(draws < gains, 1.0, np.where(draws > 1 - losses, -1.0, 0.0))

    assert 0.75 <= power_at_the_typical_answer(draw, difference_over_seeds, n) <= 0.88


@pytest.mark.parametrize("df", [2, 4, 30])
def test_one_part_has_the_power_of_students_t(df: int) -> None:
    """Far more units than degrees of freedom would have it, so that the two further ones add next to nothing."""
    estimate = Estimate(0.0, 0.0, (Part(0.0001, df), Part(0.0, math.inf)))

    found = detectable_by_estimate(estimate, n=10**6)

    error = 0.01 * math.sqrt(df / stats.chi2.median(df))
    power = stats.nct.sf(stats.t.ppf(0.975, df), df, found / error)
    assert power == pytest.approx(0.8, abs=0.01)


def test_independent_examples_of_right_and_wrong_detect_as_much_as_mcnemars_test() -> None:
    for n, rarer in ((300, 0.05), (1000, 0.1), (3560, 0.02)):
        share = round(n * rarer)
        values = np.repeat([1.0, -1.0, 0.0], [share, share, n - 2 * share])

        found = detectable_by_estimate(mean_difference(values), n=n, rarer_share=share / n)

        assert found == pytest.approx(detectable_difference(n, share / n), rel=0.1)


def test_arms_that_never_differed_detect_what_a_few_discordant_examples_show() -> None:
    grouped = mean_difference(np.zeros(400), np.arange(400) // 2)

    found = detectable_by_estimate(grouped, n=400, rarer_share=0.0)
    assert detectable_difference(400, 0.0) < found < 2 * detectable_difference(200, 0.0)


def test_a_stricter_level_and_a_higher_power_ask_for_larger_differences() -> None:
    estimate = mean_difference(np.repeat([1.0, -1.0, 0.0], [10, 10, 180]), np.arange(200) // 2)

    def detect(**kwargs: float) -> float:
        return detectable_by_estimate(estimate, n=200, rarer_share=0.05, **kwargs)

    assert detect(power=0.6) < detect() < detect(power=0.9)
    assert detect() < detect(alpha=0.005)


def test_what_cannot_be_detected_is_nan() -> None:
    assert math.isnan(detectable_by_estimate(NO_ESTIMATE, n=100))
    assert math.isnan(detectable_by_estimate(mean_difference([1.0, 0.0], ["q", "q"]), n=2))
    assert math.isnan(detectable_by_estimate(mean_difference([1.0, -1.0, 1.0, 1.0], [0, 0, 1, 1]), n=4))
    assert math.isnan(detectable_by_estimate(mean_difference([1.0, -1.0] * 50), n=100, rarer_share=0.5))


@pytest.mark.parametrize("power", [0.5, 1.0, 0.0])
def test_a_power_that_is_no_better_than_a_coin_is_refused(power: float) -> None:
    with pytest.raises(ValueError, match="power"):
        detectable_by_estimate(mean_difference([0.0, 1.0]), n=2, power=power)


def test_how_much_seeds_differ_does_not_grow_with_the_difference() -> None:
    """Seeds' spread of 3 points against next to no discordance: only the chance of examples grows with d."""
    estimate = Estimate(0.0, 0.0, (Part(0.03**2 / 3, 2), Part(4e-6, 999)))

    of_answers = detectable_by_estimate(estimate, n=1000, rarer_share=0.002)

    assert of_answers == pytest.approx(detectable_by_estimate(estimate, n=1000), rel=0.1)


def test_the_rarer_share_has_one_more_example_on_either_side_and_heeds_weights() -> None:
    assert smoothed_share([1.0, 1.0, -1.0, 0.0, 0.0, 0.0]) == (1 + 1) / (6 + 2)
    assert smoothed_share([[1.0, -1.0], [-1.0, -1.0]]) == (1 + 1) / (4 + 2)
    assert smoothed_share([0.0, 0.0, 0.0]) == 1 / 5
    assert smoothed_share([1.0, 1.0, -1.0, 0.0], [2.0, 3.0, 4.0, 7.0]) == (4 + 1) / (16 + 2)
    with pytest.raises(ValueError, match="at least one"):
        smoothed_share([])


def simulated_power(
    variances: tuple[float, ...], dfs: tuple[float, ...], units: int, difference: float, alpha: float
) -> float:
    """How often the interval of independent parts lies above 0, by the model in words: 200,000 draws of each part."""
    rng = np.random.default_rng(0)
    center = difference * units / (units + 2)
    of_pads = 2 * (1 + center**2) / ((units + 1) * (units + 2))  # two units of +1 and -1 in a mean of units + 2
    drawn, squares = np.full(200_000, center), np.zeros(200_000)
    for place, (variance, df) in enumerate(zip(variances, dfs, strict=True)):
        drawn += rng.normal(0, math.sqrt(variance), len(drawn))
        found = variance * (rng.chisquare(df, len(drawn)) / df if math.isfinite(df) else 1)
        pads = of_pads if place == len(dfs) - 1 else 0.0
        squares += (stats.t.ppf(1 - alpha / 2, df) if math.isfinite(df) else stats.norm.ppf(1 - alpha / 2)) ** 2 * (
            found + pads
        )
    return float((drawn > np.sqrt(squares)).mean())


def as_median(variance: float, df: float) -> float:
    """What a variance is whose estimate, typically, is this."""
    return variance * df / float(stats.chi2.median(df))


@pytest.mark.parametrize("alpha", [0.05, 0.03])
def test_few_groups_detect_what_a_simulation_of_them_does(alpha: float) -> None:
    """Ten groups: what the two further units add to the variance, and draw the center by, is no small thing."""
    center, units = 0.1, 10
    pads = 2 * (1 + center**2) / (11 * 12)
    estimate = Estimate(0.12, center, (Part(pads + 0.006, 9),))

    found = detectable_by_estimate(estimate, n=400, alpha=alpha)

    assert simulated_power((as_median(0.006, 9),), (9,), units, found, alpha) == pytest.approx(0.8, abs=0.01)


def test_of_right_and_wrong_a_groups_variance_grows_with_the_discordant_share() -> None:
    """Observed: 10 points, of 30 % discordant; at the difference found the share is that and twice the rarer side."""
    units, rarer, observed = 40, 0.1, 0.1 + 2 * 0.1 - 0.1**2
    pads = 2 * (1 + 0.1**2) / (41 * 42)
    estimate = Estimate(0.1, 0.1, (Part(pads + 0.004, 39),))

    found = detectable_by_estimate(estimate, n=400, rarer_share=rarer)

    variance = as_median(0.004, 39) * (found + 2 * rarer - found**2) / observed
    assert simulated_power((variance,), (39,), units, found, 0.05) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(("seeds_part", "rest"), [(0.001, 0.002), (0.0002, 0.002), (0.001, 0.006)])
def test_of_the_seeds_part_the_chance_of_examples_alone_grows(seeds_part: float, rest: float) -> None:
    """Three seeds on 50 examples: their part has what examples add by chance, a third of what the rest leaves.

    That is some of it, all of it, or nothing.
    """
    units, rarer, difference = 50, 0.08, 0.1
    observed = difference + 2 * rarer - difference**2
    pads = 2 * (1 + difference**2) / (51 * 52)
    estimate = Estimate(difference, difference, (Part(seeds_part, 2), Part(pads + rest, 49)))

    found = detectable_by_estimate(estimate, n=units, rarer_share=rarer)

    of_seeds, of_examples = as_median(seeds_part, 2), as_median(rest, 49)
    chance = min(of_seeds, max(0.0, (observed / units - of_examples) / 3))
    grown = (found + 2 * rarer - found**2) / observed
    variances = (of_seeds - chance + chance * grown, of_examples * grown)
    assert simulated_power(variances, (2, 49), units, found, 0.05) == pytest.approx(0.8, abs=0.01)


def test_groups_that_nowhere_differ_are_taken_as_independent() -> None:
    """Then a difference d has the variance d - d^2 of one example, over 30 groups."""
    estimate = Estimate(0.0, 0.0, (Part(2 / (31 * 32), 29),))

    found = detectable_by_estimate(estimate, n=60, rarer_share=0.0)

    assert simulated_power(((found - found**2) / 30,), (29,), 30, found, 0.05) == pytest.approx(0.8, abs=0.015)


def test_ungrouped_examples_detect_by_the_normal_distribution() -> None:
    estimate = Estimate(0.0, 0.0, (Part(0.004, math.inf),))

    found = detectable_by_estimate(estimate, n=40, alpha=0.03)

    variance = 0.004 - 2 / (41 * 42)
    assert simulated_power((variance,), (math.inf,), 40, found, 0.03) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("power", [0.5, 1.0, 1.5])
def test_a_power_of_an_estimate_is_a_chance_above_a_half(power: float) -> None:
    with pytest.raises(ValueError, match="power"):
        detectable_by_estimate(mean_difference([1, 0, -1, 0]), n=4, power=power)
