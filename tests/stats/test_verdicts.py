from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.stats import Interval, Verdict, mcnemar_exact, smallest_detectable_difference, verdict

SWAPPED = {
    Verdict.PEFT_MORE_FRAGILE: Verdict.FULL_MORE_FRAGILE,
    Verdict.FULL_MORE_FRAGILE: Verdict.PEFT_MORE_FRAGILE,
    Verdict.EQUIVALENT: Verdict.EQUIVALENT,
    Verdict.INCONCLUSIVE: Verdict.INCONCLUSIVE,
}


def test_a_significant_loss_of_peft_makes_peft_more_fragile() -> None:
    assert verdict(0.06, Interval(0.03, 0.09), 0.001) is Verdict.PEFT_MORE_FRAGILE


def test_a_significant_loss_of_full_makes_full_more_fragile() -> None:
    assert verdict(-0.06, Interval(-0.09, -0.03), 0.001) is Verdict.FULL_MORE_FRAGILE


def test_an_interval_within_the_margin_is_equivalent_even_when_significant() -> None:
    assert verdict(0.01, Interval(0.004, 0.016), 0.0001) is Verdict.EQUIVALENT
    assert verdict(0.0, Interval(-0.02, 0.02), 1.0) is Verdict.EQUIVALENT


def test_a_wider_margin_turns_a_fragile_verdict_into_equivalent() -> None:
    assert verdict(0.06, Interval(0.03, 0.09), 0.001, margin=0.1) is Verdict.EQUIVALENT


@pytest.mark.parametrize(
    ("interval", "p_adjusted"),
    [(Interval(-0.01, 0.13), 0.001), (Interval(0.0, 0.13), 0.001), (Interval(0.03, 0.09), 0.051)],
)
def test_interval_and_test_must_agree_for_a_fragile_verdict(interval: Interval, p_adjusted: float) -> None:
    assert verdict(0.06, interval, p_adjusted) is Verdict.INCONCLUSIVE


def test_alpha_itself_is_significant() -> None:
    assert verdict(0.06, Interval(0.03, 0.09), 0.05) is Verdict.PEFT_MORE_FRAGILE
    assert verdict(0.06, Interval(0.03, 0.09), 0.05, alpha=0.01) is Verdict.INCONCLUSIVE


def test_a_difference_on_the_other_side_of_zero_than_its_interval_is_inconclusive() -> None:
    assert verdict(-0.06, Interval(0.03, 0.09), 0.001) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("place", range(4))
def test_a_nan_anywhere_is_inconclusive(place: int) -> None:
    difference, low, high, p_adjusted = (
        math.nan if i == place else number for i, number in enumerate([0.01, 0.005, 0.015, 0.01])
    )

    assert verdict(difference, Interval(low, high), p_adjusted) is Verdict.INCONCLUSIVE


@given(
    ends=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    share=st.floats(0, 1),
    p_adjusted=st.floats(0, 1) | st.just(math.nan),
    margin=st.floats(0, 0.2),
)
def test_swapping_the_arms_swaps_the_verdict(
    ends: tuple[float, float], share: float, p_adjusted: float, margin: float
) -> None:
    low, high = sorted(ends)
    difference = low + share * (high - low)

    found = verdict(difference, Interval(low, high), p_adjusted, margin=margin)
    swapped = verdict(-difference, Interval(-high, -low), p_adjusted, margin=margin)

    assert swapped is SWAPPED[found]


def test_a_negative_margin_is_refused() -> None:
    with pytest.raises(ValueError, match="margin"):
        verdict(0.0, Interval(0.0, 0.0), 1.0, margin=-0.01)


@pytest.mark.parametrize("alpha", [0.05, 0.013, 2 / 64])
def test_the_smallest_detectable_difference_is_the_first_that_mcnemar_calls_significant(alpha: float) -> None:
    n = 60
    for discordant in range(n + 1):
        significant = []
        for only_full in range((discordant + 1) // 2, discordant + 1):
            only_peft = discordant - only_full
            agreeing = n - discordant
            full = [1] * only_full + [0] * only_peft + [1] * agreeing
            peft = [0] * only_full + [1] * only_peft + [1] * agreeing
            if mcnemar_exact(full, peft).p_value <= alpha:
                significant.append((only_full - only_peft) / n)

        found = smallest_detectable_difference(n, discordant / n, alpha=alpha)

        assert found == pytest.approx(min(significant, default=math.nan), nan_ok=True)


def test_five_discordant_examples_can_show_nothing_and_six_only_when_all_agree() -> None:
    assert math.isnan(smallest_detectable_difference(1000, 0.005))
    assert smallest_detectable_difference(1000, 0.006) == 0.006


@pytest.mark.parametrize(("n", "share"), [(0, 0.5), (100, 0.0)])
def test_without_discordant_examples_nothing_is_detectable(n: int, share: float) -> None:
    assert math.isnan(smallest_detectable_difference(n, share))


@given(n=st.integers(10, 3000), share=st.floats(0.1, 1))
def test_more_examples_detect_smaller_differences(n: int, share: float) -> None:
    few, many = smallest_detectable_difference(n, share), smallest_detectable_difference(16 * n, share)

    assert math.isnan(few) or many < few <= 1


@pytest.mark.parametrize(("n", "share"), [(-1, 0.5), (10, -0.1), (10, 1.1)])
def test_impossible_sizes_are_refused(n: int, share: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        smallest_detectable_difference(n, share)
