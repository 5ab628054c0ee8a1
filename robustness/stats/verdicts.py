"""Verdicts on which arm of a pair is more fragile."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from robustness.stats.intervals import Interval

EDGE = 0.05
"""Below it a rate is at the floor, above one less it at the ceiling: there a margin of points hides large ratios."""


class Verdict(StrEnum):
    """What a comparison of a reference and a candidate allows to say."""

    CANDIDATE_MORE_FRAGILE = "candidate-more-fragile"
    REFERENCE_MORE_FRAGILE = "reference-more-fragile"
    PEFT_MORE_FRAGILE = "peft-more-fragile"
    """The candidate, where it is PEFT and the reference is fully fine-tuned."""
    FULL_MORE_FRAGILE = "full-more-fragile"
    """The reference, there."""
    LESS_ACCURATE = "less-accurate"
    """A difference of accuracy that is no evidence of fragility; above 0 the candidate is the less accurate."""
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"


CANDIDATE_FRAGILE = frozenset({Verdict.CANDIDATE_MORE_FRAGILE, Verdict.PEFT_MORE_FRAGILE})
REFERENCE_FRAGILE = frozenset({Verdict.REFERENCE_MORE_FRAGILE, Verdict.FULL_MORE_FRAGILE})


class Reason(StrEnum):
    """Why a verdict is not what the difference alone would suggest."""

    FLOOR = "floor"
    """Both arms are nearly always broken: compare the effort."""
    CEILING = "ceiling"
    """Both arms are nearly always right."""
    GATE = "gate"
    """The worst case over the test set's attacks does not differ, so no single attack is called."""
    SUCCESS_RATE_OPPOSES = "success-rate-opposes"
    """On the examples both arms have right, the other arm breaks more often."""
    CLEAN_GAP = "clean-gap"
    """The arms differ on the clean examples, and not in the success rate on those both have right."""
    CLEAN_UNKNOWN = "clean-unknown"
    """What the arms answer to the clean texts is not known, so the difference may be a clean gap."""
    TWO_SEEDS = "two-seeds"
    """A claim about a method needs a third training seed."""
    SHARED_REFERENCE = "shared-reference"
    """One reference serves several training seeds: that compares no methods."""
    SHARED_CANDIDATE = "shared-candidate"
    """One candidate stands for several training seeds: it was trained once."""
    LEFT_OUT = "left-out"
    """Too many examples have no outcome on one arm."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a verdict on one comparison rests on; intervals are of differences above 0 where the candidate loses.

    `clean` and `success` are of the same examples: accuracy before the attack, and the success rate on those that
    both arms have right. None: not known.
    """

    reference_value: float
    candidate_value: float
    interval: Interval
    p_value: float
    """Adjusted over the family, where there is one."""
    clean: Interval | None = None
    success: Interval | None = None
    is_clean: bool = False
    """Whether the comparison itself is of clean examples."""

    @property
    def mirrored(self) -> Evidence:
        """The same with the arms swapped."""
        return replace(
            self,
            reference_value=self.candidate_value,
            candidate_value=self.reference_value,
            interval=_flip(self.interval),
            clean=None if self.clean is None else _flip(self.clean),
            success=None if self.success is None else _flip(self.success),
        )


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, and why it is not another."""

    verdict: Verdict
    reason: Reason | None = None


def judge(evidence: Evidence, *, margin: float = 0.02, alpha: float = 0.05) -> Judgement:
    """Returns the verdict on a difference of accuracies, reference minus candidate.

    In this order:

    1. inconclusive where a number is nan;
    2. where the whole interval lies inside the margin: equivalent, or inconclusive where the arms are at the floor or
       the ceiling. This comes before significance: a difference in the margin is too small to matter. At 95 % this is
       the two one-sided tests at 2.5 % each: what the printed interval shows is what decides;
    3. where p is at most alpha and the interval lies on one side of 0, on clean examples: less accurate. Under attack
       that arm is more fragile, unless the success rate on the examples that both arms have right says otherwise:
       its interval lies on the other side, or inside the margin, or the arms differ on the clean examples the same
       way and the success rate's interval does not lie on that side as well: then the difference is one of clean
       accuracy (less accurate);
    4. inconclusive otherwise.

    Swapping the arms swaps the two fragile verdicts and changes nothing else.

    Args:
        evidence: Of one comparison.
        margin: The largest difference that does not matter, a fraction.
        alpha: The significance level.

    Raises:
        ValueError: margin is negative.

    >>> both = {"success": Interval(0.02, 0.10), "clean": Interval(-0.01, 0.01)}
    >>> judge(Evidence(0.5, 0.44, Interval(0.03, 0.09), 0.001, **both)).verdict.value
    'candidate-more-fragile'
    >>> judge(Evidence(0.5, 0.51, Interval(-0.015, 0.005), 0.3, **both)).verdict.value
    'equivalent'
    >>> judge(Evidence(0.02, 0.03, Interval(-0.015, 0.005), 0.3, **both)).reason.value
    'floor'
    """
    if margin < 0:
        raise ValueError(f"expected a margin of at least 0, got {margin}")
    interval, p_value = evidence.interval, evidence.p_value
    values = evidence.reference_value, evidence.candidate_value
    if any(math.isnan(number) for number in (*values, interval.low, interval.high, p_value)):
        return Judgement(Verdict.INCONCLUSIVE)
    edge = at_edge(*values)
    if interval.within(margin):
        return Judgement(Verdict.INCONCLUSIVE, edge) if edge else Judgement(Verdict.EQUIVALENT)
    if p_value <= alpha and interval.low > 0:
        return _explain(evidence, Verdict.CANDIDATE_MORE_FRAGILE, margin)
    if p_value <= alpha and interval.high < 0:
        return _explain(evidence.mirrored, Verdict.REFERENCE_MORE_FRAGILE, margin)
    return Judgement(Verdict.INCONCLUSIVE, edge)


def _explain(evidence: Evidence, fragile: Verdict, margin: float) -> Judgement:
    """The verdict on a difference above 0 that is established."""
    if evidence.is_clean:
        return Judgement(Verdict.LESS_ACCURATE)
    clean, success = evidence.clean, evidence.success
    if clean is None or math.isnan(clean.low):
        return Judgement(Verdict.LESS_ACCURATE, Reason.CLEAN_UNKNOWN)
    is_gap = clean.low > 0
    if success is None or math.isnan(success.low):  # no example that both arms have right
        return Judgement(Verdict.LESS_ACCURATE, Reason.CLEAN_GAP) if is_gap else Judgement(Verdict.INCONCLUSIVE)
    if success.high < 0:
        found = Verdict.LESS_ACCURATE if is_gap else Verdict.INCONCLUSIVE
        return Judgement(found, Reason.SUCCESS_RATE_OPPOSES)
    if success.within(margin) or (is_gap and success.low <= 0):
        return Judgement(Verdict.LESS_ACCURATE, Reason.CLEAN_GAP)
    return Judgement(fragile)


def at_edge(reference: float, candidate: float) -> Reason | None:
    """Returns whether both arms are nearly always wrong (floor) or nearly always right (ceiling), else None.

    One of them has to lie beyond the edge, and the other within twice its distance; None where one is nan.

    >>> at_edge(0.02, 0.06).value, at_edge(0.02, 0.3)
    ('floor', None)
    """
    values = reference, candidate
    if min(values) < EDGE and all(value < 2 * EDGE for value in values):
        return Reason.FLOOR
    at_ceiling = max(values) > 1 - EDGE and all(value > 1 - 2 * EDGE for value in values)
    return Reason.CEILING if at_ceiling else None


def _flip(interval: Interval) -> Interval:
    return Interval(-interval.high, -interval.low)
