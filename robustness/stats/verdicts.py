"""Verdicts on which arm of a pair is more fragile."""

from __future__ import annotations

import math
from enum import StrEnum

import numpy as np
from scipy.special import bdtr

from robustness.stats.intervals import Interval


class Verdict(StrEnum):
    """What a comparison of a full and a PEFT checkpoint allows to say."""

    PEFT_MORE_FRAGILE = "peft-more-fragile"
    FULL_MORE_FRAGILE = "full-more-fragile"
    LESS_ACCURATE = "less-accurate"
    """A difference that the clean gap explains, or one on clean data; its sign says of which arm."""
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"


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
    LEFT_OUT = "left-out"
    """Too many examples have no outcome on one arm."""


def verdict(
    difference: float,
    interval: Interval,
    p_adjusted: float,
    *,
    margin: float = 0.02,
    alpha: float = 0.05,
) -> Verdict:
    """Returns the verdict on a difference of robust accuracy, full minus PEFT.

    In this order:

    1. inconclusive where a number is nan;
    2. equivalent where the whole interval lies in [-margin, margin]. This comes before significance: an
       interval in the margin with p <= alpha is a real difference too small to matter. At a level of 95 %
       this is the two one-sided tests at 2.5 % each, stricter than the usual 5 %;
    3. the sign's verdict where p_adjusted <= alpha and the interval lies on that side of 0;
    4. inconclusive otherwise.

    Swapping the arms swaps the two fragile verdicts and changes nothing else. The interval is taken at its
    word: a plain bootstrap over equal values has no width and would read as equivalent, so use
    `paired_difference_interval`.

    Source: Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15 (1987), 657-680.

    Args:
        difference: Full minus PEFT, a fraction: positive means that PEFT is more fragile.
        interval: The difference's interval.
        p_adjusted: The paired test's p-value, adjusted over the family.
        margin: The largest difference that does not matter, a fraction.
        alpha: The significance level.

    Raises:
        ValueError: margin is negative.

    >>> verdict(0.06, Interval(0.03, 0.09), 0.001).value
    'peft-more-fragile'
    >>> verdict(-0.06, Interval(-0.09, -0.03), 0.001).value
    'full-more-fragile'
    >>> verdict(0.01, Interval(0.004, 0.016), 0.001).value
    'equivalent'
    >>> verdict(0.06, Interval(-0.01, 0.13), 0.2).value
    'inconclusive'
    """
    if margin < 0:
        raise ValueError(f"expected a margin of at least 0, got {margin}")
    if any(math.isnan(number) for number in (difference, interval.low, interval.high, p_adjusted)):
        return Verdict.INCONCLUSIVE
    if interval.within(margin):
        return Verdict.EQUIVALENT
    if p_adjusted <= alpha and difference > 0 and interval.low > 0:
        return Verdict.PEFT_MORE_FRAGILE
    if p_adjusted <= alpha and difference < 0 and interval.high < 0:
        return Verdict.FULL_MORE_FRAGILE
    return Verdict.INCONCLUSIVE


def smallest_detectable_difference(n: int, discordant_share: float, *, alpha: float = 0.05) -> float:
    r"""Returns the smallest absolute difference of accuracies that McNemar's exact test can call significant.

    With m = round(n * discordant_share) discordant examples and k of them on the rarer side, the difference
    is (m - 2k) / n; k is the largest with $$2 \sum_{j=0}^{k} \binom{m}{j} 2^{-m} \le \alpha.$$
    It is nan when even m against 0 is not significant. It is a floor, not a power analysis: a true
    difference of this size is found only about every second time.

    Source: the rejection region of the exact test of McNemar, Psychometrika 12 (1947), 153-157.

    Args:
        n: Number of examples.
        discordant_share: Share of examples on which just one arm is right, a fraction.
        alpha: The significance level of the single test; divide it by the family's size for Holm's worst
            case.

    Raises:
        ValueError: n is negative or discordant_share is not in [0, 1].

    >>> smallest_detectable_difference(100, 0.06)  # 6 against 0: p = 2 / 64
    0.06
    >>> smallest_detectable_difference(100, 0.05)  # 5 against 0: p = 2 / 32
    nan
    """
    if n < 0 or not 0 <= discordant_share <= 1:
        raise ValueError(f"expected n >= 0 and a share in [0, 1], got {n} and {discordant_share}")
    discordant = round(n * discordant_share)
    rarer_side = np.arange((discordant + 1) // 2)
    significant = int((2 * bdtr(rarer_side, discordant, 0.5) <= alpha).sum())
    if significant == 0:
        return math.nan
    return (discordant - 2 * (significant - 1)) / n
