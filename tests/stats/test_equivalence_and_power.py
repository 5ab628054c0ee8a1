from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm, t, ttest_1samp

from robustness.stats import design_effect, detectable_difference, mcnemar_power, tost


def test_a_few_answers_of_nearly_equal_f1_are_not_equivalent() -> None:
    differences = [0.0] * 15 + [-0.1]

    assert tost(differences, margin=0.02) < 0.05
    assert tost(differences, margin=0.02, bounded=True) == pytest.approx(tost([0.0] * 16, margin=0.02), abs=0.05)


def test_two_one_sided_tests_are_students_for_continuous_values() -> None:
    values = np.random.default_rng(0).normal(0.1, 1, 80)

    found = tost(values, margin=0.5)

    above = ttest_1samp(values, -0.5, alternative="greater").pvalue
    below = ttest_1samp(values, 0.5, alternative="less").pvalue
    assert found == pytest.approx(max(above, below))
    assert tost(-values, margin=0.5) == pytest.approx(found)


def test_copies_of_a_row_in_its_group_add_no_evidence() -> None:
    values = np.random.default_rng(0).normal(0.1, 1, 80)

    assert tost(np.repeat(values, 4), np.repeat(np.arange(80), 4), margin=0.5) == pytest.approx(
        tost(values, margin=0.5)
    )


def test_arms_at_the_margin_are_rarely_called_equivalent() -> None:
    source = np.random.default_rng(0)
    found = [tost(source.choice([-1, 0, 1], 400, p=[0.05, 0.88, 0.07]), margin=0.02) <= 0.05 for _ in range(400)]

    assert np.mean(found) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_the_margin_must_be_positive_and_one_example_shows_nothing() -> None:
    with pytest.raises(ValueError, match="margin"):
        tost([0.0], margin=0)
    assert math.isnan(tost([0.3], margin=0.5))
    assert math.isnan(tost([], margin=0.5))


def brute_force_power(n: int, difference: float, share: float) -> float:
    total = 0.0
    for m in range(n + 1):
        for k in range(m + 1):
            if m and binomtest(k, m).pvalue <= 0.05:
                total += binom.pmf(m, n, share) * binom.pmf(k, m, (1 + difference / share) / 2)
    return total


@pytest.mark.parametrize(("difference", "share"), [(0.0, 0.3), (0.2, 0.3), (-0.2, 0.3), (0.3, 0.3), (0.5, 0.9)])
def test_power_is_the_sum_over_all_outcomes(difference: float, share: float) -> None:
    assert mcnemar_power(30, difference, share) == pytest.approx(brute_force_power(30, difference, share), abs=1e-9)


def test_the_detectable_difference_is_found_with_the_power_asked_for() -> None:
    found = detectable_difference(150, 0.2)

    assert mcnemar_power(150, found, 0.2) == pytest.approx(0.8, abs=0.01)
    assert detectable_difference(1500, 0.2) < found < detectable_difference(150, 0.2, alpha=0.005)


def test_groups_make_small_samples_of_large_ones() -> None:
    grouped = design_effect(np.repeat([1, -1, 0, 0, 1], 4), np.repeat(np.arange(5), 4))

    assert grouped == pytest.approx(4)
    assert design_effect([1, -1, 0], [0, 1, 2]) == 1.0
    assert detectable_difference(600, 0.2, design_effect=4) == detectable_difference(150, 0.2)


def test_too_few_examples_detect_nothing() -> None:
    assert math.isnan(detectable_difference(5, 0.5))
    assert math.isnan(detectable_difference(0, 0.5))
    with pytest.raises(ValueError, match="expected"):
        mcnemar_power(10, 0.5, 0.2)


@pytest.mark.parametrize(("b", "c", "n"), [(12, 5, 400), (3, 9, 150), (0, 0, 90)])
def test_two_one_sided_tests_of_right_and_wrong_are_bonett_and_prices(b: int, c: int, n: int) -> None:
    """One example more on each side; the standard error has n + 1 in place of their n + 2, as a sample's does."""
    differences = [1] * b + [-1] * c + [0] * (n - b - c)
    mean, share = (b - c) / (n + 2), (b + c + 2) / (n + 2)
    error = math.sqrt((share - mean**2) / (n + 1))

    found = tost(differences, margin=0.03)

    assert found == pytest.approx(max(norm.cdf(-(mean + 0.03) / error), norm.cdf((mean - 0.03) / error)))


def test_two_one_sided_tests_of_bounded_scores_have_both_further_examples_and_students_t() -> None:
    values = np.random.default_rng(1).uniform(-0.3, 0.3, 40)
    padded = [*values, 1.0, -1.0]

    found = tost(values, margin=0.1, bounded=True)

    above = ttest_1samp(padded, -0.1, alternative="greater").pvalue
    assert found == pytest.approx(max(above, ttest_1samp(padded, 0.1, alternative="less").pvalue))


def test_two_one_sided_tests_over_groups_have_the_error_of_a_ratio() -> None:
    source = np.random.default_rng(3)
    groups = np.repeat(np.arange(20), source.integers(1, 5, 20))
    values = source.normal(0.02, 0.2, len(groups)) + source.normal(0, 0.2, 20)[groups]
    totals = np.array([(values[groups == group] - values.mean()).sum() for group in range(20)])
    error = math.sqrt((totals**2).sum() * 20 / 19) / len(values)

    found = tost(values, groups, margin=0.15)

    scores = (values.mean() + 0.15) / error, (0.15 - values.mean()) / error
    assert found == pytest.approx(max(t.sf(score, 19) for score in scores))


def test_equal_scores_are_equivalent_within_the_margin_and_not_at_it() -> None:
    assert tost([0.25, 0.25], margin=0.5) == 0.0
    assert tost([0.5, 0.5], margin=0.5) == 1.0
    assert tost([-0.75, -0.75], margin=0.5) == 1.0
    with pytest.raises(ValueError, match="margin"):
        tost([0.1], margin=-0.02)
    with pytest.raises(ValueError, match="one shape"):
        tost([0.1, 0.2], [1], margin=0.02)


def test_differences_beyond_one_are_no_right_and_wrong() -> None:
    values = [2.0, 0.0, -2.0, 0.0, 2.0, 0.0]

    found = tost(values, margin=3.0)

    assert found == pytest.approx(ttest_1samp(values, 3.0, alternative="less").pvalue)
