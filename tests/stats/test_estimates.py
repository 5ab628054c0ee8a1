from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from statsmodels.api import OLS

from robustness.stats import Estimate, mean_difference
from robustness.stats.estimates import NO_ESTIMATE, Part

differences = st.lists(st.sampled_from([-1.0, 0.0, 1.0, 0.25]), min_size=1, max_size=60)


def ends(estimate: Estimate, level: float = 0.95) -> tuple[float, float]:
    interval = estimate.interval(level=level)
    return interval.low, interval.high


def bonett_price(b: int, c: int, n: int, level: float) -> tuple[float, float]:
    """Equation 3 of the paper: the two discordant shares after one more of each."""
    p, q = (b + 1) / (n + 2), (c + 1) / (n + 2)
    width = stats.norm.ppf((1 + level) / 2) * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return max(-1.0, p - q - width), min(1.0, p - q + width)


@given(b=st.integers(0, 60), c=st.integers(0, 60), agreeing=st.integers(0, 300), level=st.floats(0.5, 0.999))
def test_the_interval_of_right_and_wrong_is_bonett_and_prices(b: int, c: int, agreeing: int, level: float) -> None:
    n = b + c + agreeing
    if n == 0:
        return

    found = mean_difference([1] * b + [-1] * c + [0] * agreeing)

    assert found.difference == pytest.approx((b - c) / n)
    assert ends(found, level) == pytest.approx(bonett_price(b, c, n, level), abs=1e-12)


@pytest.mark.parametrize(
    ("b", "c", "expected"), [(4, 0, (0.0703, 1.0)), (0, 4, (-1.0, -0.0703)), (1, 1, (-0.9800, 0.9800))]
)
def test_the_interval_of_few_examples_ends_where_differences_do(
    b: int, c: int, expected: tuple[float, float]
) -> None:
    found = mean_difference([1] * b + [-1] * c)

    assert ends(found) == pytest.approx(expected, abs=5e-5)
    assert ends(found) == pytest.approx(bonett_price(b, c, b + c, 0.95), abs=1e-12)


def test_the_interval_of_two_drops_reaches_twice_as_far() -> None:
    found = mean_difference([2.0, 2.0, 1.0], limit=2)

    padded = np.array([2.0, 2.0, 1.0, 1.0, -1.0])
    width = stats.norm.ppf(0.975) * padded.std() / math.sqrt(5)
    assert ends(found) == pytest.approx((padded.mean() - width, padded.mean() + width))
    assert ends(found)[1] > 1.5


def test_the_interval_of_scores_is_walds_of_the_values_and_a_gain_and_a_loss_of_all() -> None:
    values = np.random.default_rng(0).beta(2, 5, 90) - np.random.default_rng(1).beta(2, 4, 90)
    padded = np.append(values, [1, -1])

    found = mean_difference(values)

    width = 1.959964 * padded.std() / math.sqrt(len(padded))
    assert ends(found) == pytest.approx((padded.mean() - width, padded.mean() + width), abs=1e-6)


def with_padding_groups(
    values: NDArray[np.float64], groups: NDArray[np.int64], size: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Two further groups of `size` rows: one all +1, one all -1."""
    last = int(groups.max())
    return (
        np.concatenate([values, np.ones(size), -np.ones(size)]),
        np.concatenate([groups, np.full(size, last + 1), np.full(size, last + 2)]),
    )


@pytest.mark.parametrize("n_groups", [5, 12, 150])
def test_the_error_of_groups_is_the_cluster_robust_one_of_a_regression_on_nothing_but_the_mean(n_groups: int) -> None:
    rng = np.random.default_rng(n_groups)
    sizes = np.full(n_groups, 4)
    groups = np.repeat(np.arange(n_groups), sizes)
    values = np.repeat(rng.choice([-1.0, 0.0, 1.0], n_groups), sizes) * (rng.random(len(groups)) < 0.7)
    padded, names = with_padding_groups(values, groups, int(sizes.sum()) // n_groups)
    model = OLS(padded, np.ones(len(padded)))
    fitted = model.fit(cov_type="cluster", cov_kwds={"groups": names, "use_correction": False})
    # The usual correction for few clusters, without the factor for regressors: there is just a mean.
    error = float(fitted.bse[0]) * math.sqrt((n_groups + 2) / (n_groups + 1))

    found = mean_difference(values, groups)

    width = stats.t.ppf(0.975, n_groups - 1) * error
    assert found.difference == pytest.approx(values.mean())
    assert found.error == pytest.approx(error)
    ideal = (fitted.params[0] - width, fitted.params[0] + width)
    assert ends(found) == pytest.approx(np.clip(ideal, -1, 1))


@pytest.mark.parametrize("giant", [1, 6, 40])
def test_unequal_groups_count_as_many_as_groups_of_one_size_would(giant: int) -> None:
    """The ratio of sums over groups, written out, with two further groups of n / G for G effective groups (Kish)."""
    rng = np.random.default_rng(giant)
    sizes = np.append(rng.integers(1, 7, 20), giant).astype(float)
    groups = np.repeat(np.arange(21), sizes.astype(int))
    values = np.repeat(rng.choice([-1.0, 0.0, 1.0], 21), sizes.astype(int))
    effective = sizes.sum() ** 2 / (sizes**2).sum()
    pad = len(groups) / effective
    sums = np.append(np.bincount(groups, weights=values), [pad, -pad])
    all_sizes = np.append(sizes, [pad, pad])
    center = sums.sum() / all_sizes.sum()
    error = math.sqrt(((sums - all_sizes * center) ** 2).sum() * 23 / 22) / all_sizes.sum()
    width = stats.t.ppf(0.975, effective - 1) * error

    found = mean_difference(values, groups)

    assert ends(found) == pytest.approx((center - width, center + width))


def test_a_group_of_half_the_rows_does_not_look_sure() -> None:
    """One group of 500 and 500 single rows, no true difference: the giant's own effect moves the mean."""
    rng = np.random.default_rng(0)
    groups = np.concatenate([np.zeros(500, dtype=int), np.arange(1, 501)])
    covered = 0
    for _ in range(400):
        shift = rng.normal(0, 0.05, 501)[groups]
        values = np.where(rng.random(1000) < 0.2, np.sign(shift - rng.uniform(-0.5, 0.5, 1000) * 0.4), 0.0)
        low, high = ends(mean_difference(values, groups))
        covered += low <= 0 <= high

    assert covered >= 0.94 * 400
    assert math.isnan(mean_difference([1.0] * 999 + [0.0], [0] * 999 + [1]).error)


def test_groups_are_known_by_name_in_any_order() -> None:
    values, names = np.array([1.0, 1.0, 0.0, -1.0, 0.0, 1.0]), np.array(["b", "b", "a", "c", "a", "c"])
    order = np.array([4, 0, 3, 5, 2, 1])

    assert ends(mean_difference(values, names)) == pytest.approx(ends(mean_difference(values[order], names[order])))


@given(differences)
def test_groups_that_are_all_different_and_weights_of_one_change_nothing(values: list[float]) -> None:
    plain = mean_difference(values)

    assert mean_difference(values, np.arange(len(values))) == plain
    assert mean_difference(values, None, np.ones(len(values))) == plain


def test_copies_of_a_row_in_its_group_add_no_evidence() -> None:
    values = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 80)
    pairs = np.repeat(np.arange(80), 2)

    twice, eight_times = (
        mean_difference(np.repeat(values, 2), pairs),
        mean_difference(np.repeat(values, 8), np.repeat(pairs, 4)),
    )

    assert ends(twice) == pytest.approx(ends(eight_times))
    assert twice.error > mean_difference(np.repeat(values, 2)).error


def test_weights_that_stand_for_lost_examples_give_the_stratified_mean_and_error() -> None:
    """Cochran, section 5A.9: strata of 300 and 100 of which 100 and 80 are left."""
    rng = np.random.default_rng(3)
    first, second = rng.choice([-1.0, 0.0, 1.0], 100, p=[0.1, 0.6, 0.3]), rng.choice([-1.0, 0.0, 1.0], 80)
    weights = np.repeat([3.0, 1.25], [100, 80])

    found = mean_difference(np.concatenate([first, second]), None, weights)

    mean = 0.75 * first.mean() + 0.25 * second.mean()
    # Of a weighted mean, linearised: what both strata add around the common mean.
    squares = 9 * ((first - mean) ** 2).sum() + 1.25**2 * ((second - mean) ** 2).sum()
    assert found.difference == pytest.approx(mean)
    assert found.center == pytest.approx(mean * 400 / 402)
    assert found.error == pytest.approx(math.sqrt(squares) / 400, rel=0.01)


def test_weights_and_groups_go_together() -> None:
    values, groups = np.array([1.0, 0.0, -1.0, 1.0, 0.0, 0.0]), np.array([0, 0, 1, 1, 2, 2])

    doubled = mean_difference(np.repeat(values, 2), np.repeat(groups, 2))
    weighted = mean_difference(values, groups, np.full(6, 2.0))

    assert ends(weighted) == pytest.approx(ends(doubled))


@given(values=differences, size=st.integers(1, 4))
def test_swapping_the_arms_turns_the_estimate_over(values: list[float], size: int) -> None:
    groups = np.arange(len(values)) // size

    one, two = mean_difference(values, groups), mean_difference(-np.array(values), groups)

    assert (two.difference, two.center) == pytest.approx((-one.difference, -one.center))
    assert two.parts == one.parts
    if one.parts:
        low, high = ends(one)
        assert ends(two) == pytest.approx((-high, -low))
        assert two.p_value == pytest.approx(one.p_value)
        assert two.p_equivalence(0.1) == pytest.approx(one.p_equivalence(0.1))


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf]])
def test_without_data_nothing_is_estimated(values: list[float]) -> None:
    found = mean_difference(values)

    assert found is NO_ESTIMATE
    numbers = (found.difference, found.error, found.p_value, found.p_equivalence(0.02), *ends(found))
    assert all(math.isnan(number) for number in numbers)


def test_one_group_has_a_mean_and_nothing_more() -> None:
    found = mean_difference([1.0, 0.0, 0.0, 1.0], ["q"] * 4)

    assert found.difference == 0.5 and found.parts == ()
    assert all(math.isnan(number) for number in (found.error, found.p_value, found.p_equivalence(0.02), *ends(found)))


def test_two_groups_have_one_degree_of_freedom() -> None:
    assert mean_difference([1.0, 0.0, 0.0, 1.0], [0, 0, 1, 1]).parts[0].df == 1


def test_arms_that_never_differ_are_equivalent_only_on_many_examples() -> None:
    intervals = [mean_difference(np.zeros(n)).interval() for n in (5, 20, 150, 1000)]

    widths = [interval.high - interval.low for interval in intervals]
    assert widths == sorted(widths, reverse=True)
    assert [interval.within(0.02) for interval in intervals] == [False, False, True, True]


parts = st.builds(Part, st.floats(1e-6, 0.1), st.sampled_from([1.0, 2.0, 4.0, 99.0, math.inf]))
estimates = st.builds(
    lambda center, known: Estimate(center, center, tuple(known)),
    st.floats(-0.5, 0.5),
    st.lists(parts, min_size=1, max_size=2),
)


@given(estimate=estimates, levels=st.tuples(st.floats(0.01, 0.999), st.floats(0.01, 0.999)))
def test_a_higher_level_has_the_wider_interval(estimate: Estimate, levels: tuple[float, float]) -> None:
    inner, outer = (estimate.interval(level=level) for level in sorted(levels))

    assert outer.low <= inner.low <= estimate.center <= inner.high <= outer.high


@given(estimates)
def test_the_p_value_is_one_less_the_level_at_which_the_interval_reaches_zero(estimate: Estimate) -> None:
    p_value = estimate.p_value

    assert 0 <= p_value <= 1
    if 1e-4 < p_value < 1 - 1e-4:
        interval = estimate.interval(level=1 - p_value)
        assert min(abs(interval.low), abs(interval.high)) == pytest.approx(0, abs=1e-6)


@given(estimate=estimates)
def test_no_interval_leaves_what_differences_can_be(estimate: Estimate) -> None:
    interval = estimate.interval(level=0.999999)

    assert -1 <= interval.low <= estimate.center <= interval.high <= 1


@given(estimate=estimates, margin=st.floats(0.001, 0.6))
def test_two_one_sided_tests_at_a_fortieth_are_the_interval_inside_the_margin(
    estimate: Estimate, margin: float
) -> None:
    interval = estimate.interval()
    if min(abs(interval.high - margin), abs(interval.low + margin)) < 1e-7:
        return

    assert (estimate.p_equivalence(margin) < 0.025) == interval.within(margin)


@given(estimate=estimates, margin=st.floats(0.001, 0.6))
def test_equivalence_is_the_larger_of_two_one_sided_tests_of_a_part_of_student(
    estimate: Estimate, margin: float
) -> None:
    if len(estimate.parts) > 1:
        return
    scale, df = math.sqrt(estimate.parts[0].variance), estimate.parts[0].df
    above, below = (stats.t.sf((margin + side * estimate.center) / scale, df) for side in (1, -1))

    assert estimate.p_equivalence(margin) == pytest.approx(max(above, below), abs=1e-9)


def test_an_interval_of_two_parts_adds_the_squares_of_their_half_widths() -> None:
    found = Estimate(0.1, 0.1, (Part(0.0004, 2), Part(0.0009, math.inf)))

    width = math.sqrt((4.302653 * 0.02) ** 2 + (1.959964 * 0.03) ** 2)
    assert ends(found) == pytest.approx((0.1 - width, 0.1 + width), abs=1e-6)
    assert found.error == pytest.approx(math.sqrt(0.0013))


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_that_is_no_share_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        mean_difference([0.0, 1.0]).interval(level=level)


@pytest.mark.parametrize("margin", [0.0, -0.02, math.nan])
def test_equivalence_needs_a_margin(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        mean_difference([0.0, 1.0]).p_equivalence(margin)


@pytest.mark.parametrize(("groups", "weights"), [([1], None), (None, [1.0]), ([1, 1, 2], [1.0, 1.0])])
def test_columns_of_different_lengths_are_refused(groups: list[int] | None, weights: list[float] | None) -> None:
    with pytest.raises(ValueError, match="one shape"):
        mean_difference([0.0, 1.0], groups, weights)


def draw_groups(rng: np.random.Generator, n_groups: int, truth: float, spread: float) -> NDArray[np.float64]:
    """Groups of 50 rows of right and wrong, whose own differences spread around the truth."""
    own = np.clip(rng.normal(truth, spread, (n_groups, 1)), -0.9, 0.9)
    draws = rng.random((n_groups, 50))
    return np.where(draws < 0.05 + np.maximum(own, 0), 1, np.where(draws > 0.95 + np.minimum(own, 0), -1, 0)).ravel()


@pytest.mark.parametrize("n_groups", [5, 12, 29])
@pytest.mark.parametrize(("truth", "spread"), [(0.0, 0.1), (0.1, 0.3), (0.3, 0.3)])
def test_few_large_groups_that_agree_among_themselves_have_an_honest_interval(
    n_groups: int, truth: float, spread: float
) -> None:
    """A percentile bootstrap of five groups covers .80 here, and calls equal what is not."""
    rng, groups, found = np.random.default_rng(n_groups), np.repeat(np.arange(n_groups), 50), []

    for _ in range(400):
        found.append(mean_difference(draw_groups(rng, n_groups, truth, spread), groups).interval())

    assert np.mean([each.low <= truth <= each.high for each in found]) >= 0.94
    assert not any(each.within(0.02) for each in found)


@pytest.mark.parametrize("n_groups", [5, 12])
def test_groups_that_answer_as_one_are_covered(n_groups: int) -> None:
    rng, groups, inside = np.random.default_rng(1), np.repeat(np.arange(n_groups), 50), 0

    for _ in range(1000):
        values = np.repeat(rng.choice([-1.0, 0.0, 1.0], n_groups, p=[0.3, 0.4, 0.3]), 50)
        interval = mean_difference(values, groups).interval()
        inside += interval.low <= 0 <= interval.high

    assert inside / 1000 >= 0.94


@pytest.mark.parametrize(
    ("n", "only_reference", "only_candidate"), [(80, 0.02, 0.0), (150, 0.05, 0.05), (1000, 0.15, 0.1)]
)
def test_independent_examples_are_covered_also_where_arms_rarely_differ(
    n: int, only_reference: float, only_candidate: float
) -> None:
    rng, truth = np.random.default_rng(n), only_reference - only_candidate
    counts = rng.multinomial(n, [only_reference, only_candidate, 1 - only_reference - only_candidate], 2000)

    found = [mean_difference(np.repeat([1, -1, 0], row)).interval() for row in counts]

    assert np.mean([each.low <= truth <= each.high for each in found]) >= 0.95 - 2 * math.sqrt(0.95 * 0.05 / 2000)


@pytest.mark.parametrize("discordant", [0.05, 0.1])
def test_arms_exactly_at_the_margin_are_called_equivalent_in_at_most_three_percent(discordant: float) -> None:
    """A bootstrap's percentiles are multiples of 1/n, which made this .063 at n = 500."""
    rng = np.random.default_rng(0)
    shares = [(discordant + 0.02) / 2, (discordant - 0.02) / 2, 1 - discordant]

    found = [mean_difference(np.repeat([1, -1, 0], row)) for row in rng.multinomial(500, shares, 4000)]

    assert np.mean([each.interval().within(0.02) for each in found]) <= 0.03
    assert np.mean([each.p_equivalence(0.02) < 0.025 for each in found]) <= 0.03


def test_equal_arms_are_found_equivalent_where_the_sample_bears_it() -> None:
    rng = np.random.default_rng(0)

    found = [mean_difference(np.repeat([1, -1, 0], row)) for row in rng.multinomial(3560, [0.03, 0.03, 0.94], 500)]

    assert np.mean([each.interval().within(0.02) for each in found]) >= 0.99
