"""Verdicts on which arm of a pair is more fragile."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from robustness.stats.intervals import Interval

EDGE = 0.05
"""A rate below it is at the floor, above 1 - it at the ceiling, where a margin in points hides large ratios."""


class Verdict(StrEnum):
    """The verdict on a comparison of a reference and a candidate."""

    CANDIDATE_MORE_FRAGILE = "candidate-more-fragile"
    REFERENCE_MORE_FRAGILE = "reference-more-fragile"
    PEFT_MORE_FRAGILE = "peft-more-fragile"
    """The candidate is more fragile, if it is PEFT and the reference is fully fine-tuned."""
    FULL_MORE_FRAGILE = "full-more-fragile"
    """The reference is more fragile, in the same contrast."""
    LESS_ACCURATE = "less-accurate"
    """A difference of accuracy that is no evidence of fragility; above 0 the candidate is the less accurate."""
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"


CANDIDATE_FRAGILE = frozenset({Verdict.CANDIDATE_MORE_FRAGILE, Verdict.PEFT_MORE_FRAGILE})
REFERENCE_FRAGILE = frozenset({Verdict.REFERENCE_MORE_FRAGILE, Verdict.FULL_MORE_FRAGILE})


class Reason(StrEnum):
    """Why a verdict differs from what the difference alone suggests."""

    FLOOR = "floor"
    """Both arms are nearly always broken: compare the effort."""
    CEILING = "ceiling"
    """Both arms are nearly always right."""
    GATE = "gate"
    """The worst case over the test set's attacks does not differ, so no single attack gets a verdict."""
    SUCCESS_RATE_OPPOSES = "success-rate-opposes"
    """On the examples both arms have right, the other arm breaks more often."""
    CLEAN_GAP = "clean-gap"
    """The arms differ on the clean examples, and not in the success rate on those both have right."""
    CLEAN_UNKNOWN = "clean-unknown"
    """The arms' answers to the clean texts are not known, so the difference may be a clean gap."""
    TWO_SEEDS = "two-seeds"
    """A claim about a method needs a third training seed."""
    SHARED_REFERENCE = "shared-reference"
    """One reference is used for several training seeds, which does not compare methods."""
    SHARED_CANDIDATE = "shared-candidate"
    """One candidate is used for several training seeds: it was trained once."""
    LEFT_OUT = "left-out"
    """Too many examples have no outcome on one arm."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence for a verdict on one comparison; intervals are of differences, above 0 if the candidate loses.

    `clean` and `success` are from the examples with known clean answers. They are accuracy before the attack, and the
    success rate on examples that both arms have right. None: not known.
    """

    reference_value: float
    candidate_value: float
    interval: Interval
    p_value: float
    """Adjusted over the family, if there is one."""
    clean: Interval | None = None
    success: Interval | None = None
    known: Interval | None = None
    """Of the compared rates themselves on the examples that `clean` is from; None: on all."""
    is_clean: bool = False
    """Whether the comparison itself is of clean examples."""

    @property
    def mirrored(self) -> Evidence:
        """Returns the evidence with swapped arms."""
        return replace(
            self,
            reference_value=self.candidate_value,
            candidate_value=self.reference_value,
            interval=_flip(self.interval),
            clean=None if self.clean is None else _flip(self.clean),
            success=None if self.success is None else _flip(self.success),
            known=None if self.known is None else _flip(self.known),
        )


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and its reason."""

    verdict: Verdict
    reason: Reason | None = None


def judge(evidence: Evidence, *, margin: float = 0.02, alpha: float = 0.05) -> Judgement:
    """Returns the verdict on a difference of accuracies, reference minus candidate.

    In this order:

    1. Inconclusive if a number is nan.
    2. If the whole interval lies inside the margin: equivalent, or inconclusive with arms at the floor or ceiling.
       This comes before significance, because a difference inside the margin is too small to matter. At 95 % this
       equals two one-sided tests at 2.5 % each, so the printed interval decides.
    3. If p is at most alpha and the interval lies on one side of 0: less accurate on clean examples, more fragile
       under attack. The success rate on examples that both arms have right can overrule "more fragile". It does so
       if its interval lies on the other side or inside the margin. If the arms differ on the clean examples in the
       same direction, the success rate's interval must lie on that side too. Otherwise the difference is one of clean
       accuracy (less accurate). So it may be where the examples with known clean answers do not show the difference
       by themselves: it may lie in the others.
    4. Inconclusive otherwise.

    Swapping the arms swaps the two fragile verdicts and changes nothing else.

    Args:
        evidence: The evidence of one comparison.
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
    """The verdict on an established difference above 0."""
    if evidence.is_clean:
        return Judgement(Verdict.LESS_ACCURATE)
    clean, success = evidence.clean, evidence.success
    known = evidence.interval if evidence.known is None else evidence.known
    if clean is None or math.isnan(clean.low) or not known.low > 0:
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

    One rate must lie beyond the edge, the other within twice its distance; None if one is nan.

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
