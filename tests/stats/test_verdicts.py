from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.stats import Evidence, Interval, Judgement, Reason, Verdict, judge
from robustness.stats.verdicts import at_edge

SWAPPED = {
    Verdict.CANDIDATE_MORE_FRAGILE: Verdict.REFERENCE_MORE_FRAGILE,
    Verdict.REFERENCE_MORE_FRAGILE: Verdict.CANDIDATE_MORE_FRAGILE,
}
NO_GAP, GAP, GAP_OF_THE_OTHER = Interval(-0.01, 0.01), Interval(0.01, 0.05), Interval(-0.05, -0.01)
BREAKS_MORE, UNSURE, BREAKS_LESS = Interval(0.02, 0.1), Interval(-0.01, 0.09), Interval(-0.1, -0.02)
NAN = Interval(math.nan, math.nan)

LOSS = Evidence(0.5, 0.44, Interval(0.03, 0.09), 0.001, clean=NO_GAP, success=BREAKS_MORE)
"""The candidate loses six points more under attack, from the same clean accuracy."""
ALIKE = Evidence(0.5, 0.505, Interval(-0.015, 0.005), 0.3, clean=NO_GAP, success=UNSURE)

FRAGILE = Judgement(Verdict.CANDIDATE_MORE_FRAGILE)
EQUIVALENT = Judgement(Verdict.EQUIVALENT)
UNDECIDED = Judgement(Verdict.INCONCLUSIVE)


def less_accurate(reason: Reason | None = None) -> Judgement:
    return Judgement(Verdict.LESS_ACCURATE, reason)


@pytest.mark.parametrize(
    ("case", "evidence", "expected"),
    [
        ("a loss under attack alone", LOSS, FRAGILE),
        ("the level itself is significant", replace(LOSS, p_value=0.05), FRAGILE),
        ("just beyond the level", replace(LOSS, p_value=0.0501), UNDECIDED),
        ("an interval that touches 0", replace(LOSS, interval=Interval(0.0, 0.09)), UNDECIDED),
        ("an interval on both sides of 0", replace(LOSS, interval=Interval(-0.01, 0.09)), UNDECIDED),
        # The clean gap.
        ("a clean gap and nothing else", replace(LOSS, clean=GAP, success=UNSURE), less_accurate(Reason.CLEAN_GAP)),
        (
            "a clean gap and no difference of success from 0 on",
            replace(LOSS, clean=GAP, success=Interval(0.0, 0.1)),
            less_accurate(Reason.CLEAN_GAP),
        ),
        (
            "a clean gap and the other arm breaks more often",
            replace(LOSS, clean=GAP, success=BREAKS_LESS),
            less_accurate(Reason.SUCCESS_RATE_OPPOSES),
        ),
        ("a clean gap, and it breaks more often as well", replace(LOSS, clean=GAP), FRAGILE),
        ("a clean gap that touches 0", replace(LOSS, clean=Interval(0.0, 0.05), success=UNSURE), FRAGILE),
        ("a clean gap of the other arm", replace(LOSS, clean=GAP_OF_THE_OTHER, success=UNSURE), FRAGILE),
        # The success rate on what both have right.
        ("an unsure success rate", replace(LOSS, success=UNSURE), FRAGILE),
        (
            "the other arm breaks more often",
            replace(LOSS, success=BREAKS_LESS),
            Judgement(Verdict.INCONCLUSIVE, Reason.SUCCESS_RATE_OPPOSES),
        ),
        ("a success rate up to 0", replace(LOSS, success=Interval(-0.1, 0.0)), FRAGILE),
        ("no clean answers", replace(LOSS, clean=None), less_accurate(Reason.CLEAN_UNKNOWN)),
        ("no example that both have right", replace(LOSS, success=None), Judgement(Verdict.INCONCLUSIVE)),
        ("none, and a clean gap", replace(LOSS, clean=GAP, success=None), less_accurate(Reason.CLEAN_GAP)),
        (
            "a success rate that is the same within the margin",
            replace(LOSS, success=Interval(-0.01, 0.015)),
            less_accurate(Reason.CLEAN_GAP),
        ),
        ("too few clean answers", replace(LOSS, clean=NAN), less_accurate(Reason.CLEAN_UNKNOWN)),
        ("too few that both have right", replace(LOSS, success=NAN), Judgement(Verdict.INCONCLUSIVE)),
        ("the loss of a clean test set", replace(LOSS, is_clean=True), less_accurate()),
        (
            "the loss of a clean test set with its own gap",
            replace(LOSS, is_clean=True, clean=LOSS.interval, success=None),
            less_accurate(),
        ),
        # Equivalence.
        ("an interval inside the margin", ALIKE, EQUIVALENT),
        ("an interval that is the margin", replace(ALIKE, interval=Interval(-0.02, 0.02)), EQUIVALENT),
        ("an interval just beyond the margin", replace(ALIKE, interval=Interval(-0.02, 0.0201)), UNDECIDED),
        ("an interval just below the margin", replace(ALIKE, interval=Interval(-0.0201, 0.02)), UNDECIDED),
        ("a small difference that is significant", replace(LOSS, interval=Interval(0.004, 0.016)), EQUIVALENT),
        ("equal clean arms", replace(ALIKE, is_clean=True, clean=None, success=None), EQUIVALENT),
        # The floor and the ceiling.
        (
            "equal at the floor",
            replace(ALIKE, reference_value=0.02, candidate_value=0.03),
            Judgement(Verdict.INCONCLUSIVE, Reason.FLOOR),
        ),
        (
            "equal at the ceiling",
            replace(ALIKE, reference_value=0.97, candidate_value=0.96),
            Judgement(Verdict.INCONCLUSIVE, Reason.CEILING),
        ),
        (
            "unsure at the floor",
            replace(ALIKE, reference_value=0.02, candidate_value=0.08, interval=Interval(-0.01, 0.05)),
            Judgement(Verdict.INCONCLUSIVE, Reason.FLOOR),
        ),
        ("a loss at the floor", replace(LOSS, reference_value=0.09, candidate_value=0.01), FRAGILE),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_the_verdict_and_its_reason_follow_from_the_evidence(
    case: str, evidence: Evidence, expected: Judgement
) -> None:
    assert judge(evidence) == expected
    assert judge(evidence.mirrored) == replace(expected, verdict=SWAPPED.get(expected.verdict, expected.verdict))


@pytest.mark.parametrize("evidence", [LOSS, ALIKE, replace(ALIKE, reference_value=0.01, candidate_value=0.01)])
@pytest.mark.parametrize("field", ["reference_value", "candidate_value", "p_value", "low", "high"])
def test_an_unknown_number_is_inconclusive_for_no_other_reason(evidence: Evidence, field: str) -> None:
    if field in ("low", "high"):
        spoiled = replace(evidence, interval=replace(evidence.interval, **{field: math.nan}))
    else:
        spoiled = replace(evidence, **{field: math.nan})

    assert judge(spoiled) == UNDECIDED


def test_margin_and_level_are_the_callers() -> None:
    assert judge(LOSS, margin=0.1) == EQUIVALENT
    assert judge(LOSS, margin=0.09) == EQUIVALENT
    assert judge(replace(LOSS, p_value=0.02), alpha=0.01) == UNDECIDED
    assert judge(replace(LOSS, p_value=0.08), alpha=0.1) == FRAGILE
    assert judge(ALIKE, margin=0.0) == UNDECIDED


def test_a_negative_margin_is_refused() -> None:
    with pytest.raises(ValueError, match="margin"):
        judge(ALIKE, margin=-0.01)


shares = st.sampled_from([0.0, 0.01, 0.05, 0.06, 0.1, 0.5, 0.91, 0.96, 1.0]) | st.floats(0, 1)
numbers = st.sampled_from([-0.05, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05]) | st.floats(-1, 1)
intervals = st.tuples(numbers, numbers).map(lambda ends: Interval(*sorted(ends))) | st.just(NAN)
evidences = st.builds(
    Evidence,
    reference_value=shares | st.just(math.nan),
    candidate_value=shares,
    interval=intervals,
    p_value=st.sampled_from([0.0, 0.001, 0.05, 0.06, 1.0, math.nan]),
    clean=st.none() | intervals,
    success=st.none() | intervals,
    known=st.none() | intervals,
    is_clean=st.booleans(),
)


@given(evidence=evidences, margin=st.sampled_from([0.0, 0.02, 0.1]), alpha=st.sampled_from([0.01, 0.05]))
def test_swapping_the_arms_swaps_the_fragile_verdicts_and_changes_nothing_else(
    evidence: Evidence, margin: float, alpha: float
) -> None:
    found = judge(evidence, margin=margin, alpha=alpha)

    swapped = judge(evidence.mirrored, margin=margin, alpha=alpha)

    assert swapped == replace(found, verdict=SWAPPED.get(found.verdict, found.verdict))


@given(evidence=evidences, margin=st.sampled_from([0.0, 0.02, 0.1]))
def test_a_fragile_verdict_needs_the_difference_and_no_other_explanation(evidence: Evidence, margin: float) -> None:
    found = judge(evidence, margin=margin)

    if found.verdict is Verdict.CANDIDATE_MORE_FRAGILE:
        assert evidence.interval.low > 0 and evidence.p_value <= 0.05 and not evidence.interval.within(margin)
        assert not evidence.is_clean and evidence.success is not None and evidence.clean is not None
        assert evidence.success.high >= 0
        assert evidence.success.low > 0 or not evidence.clean.low > 0
        assert found.reason is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.0, 0.0), Reason.FLOOR),
        ((0.049, 0.099), Reason.FLOOR),
        ((0.05, 0.05), None),
        ((0.049, 0.1), None),
        ((0.5, 0.5), None),
        ((0.02, 0.98), None),
        ((0.951, 0.901), Reason.CEILING),
        ((0.95, 0.95), None),
        ((0.951, 0.9), None),
        ((1.0, 1.0), Reason.CEILING),
        ((math.nan, 0.01), None),
    ],
)
def test_an_edge_is_where_one_arm_is_within_five_points_and_the_other_within_ten(
    values: tuple[float, float], expected: Reason | None
) -> None:
    assert at_edge(*values) is expected
    assert at_edge(*values[::-1]) is expected
