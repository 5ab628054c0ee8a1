"""What a sample of a given size could have shown."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, gammaln, ndtri, xlog1py, xlogy

from robustness.stats.estimates import Estimate

RESOLUTION = 1e-3
"""Of detectable differences: a tenth of a point."""


def mcnemar_power(n: int, difference: float, discordant_share: float, *, alpha: float = 0.05) -> float:
    r"""Returns the chance that McNemar's exact test finds a true difference of two accuracies.

    The number of discordant examples is M ~ Binomial(n, $\pi$) and those of them in which the full arm alone is right
    are K | M ~ Binomial(M, $(1 + d/\pi)/2$); the power is the probability that K falls into the two-sided rejection
    region of M. Nothing is approximated but for tails of M beyond eight standard deviations.

    Source: Duffy, Biometrics 40 (1984), 1005-1015.

    Args:
        n: Number of examples.
        difference: True difference d, a fraction.
        discordant_share: True share $\pi$ of examples on which just one arm is right; at least |d|.
        alpha: The significance level of the single test.

    Raises:
        ValueError: n is negative, or not |difference| <= discordant_share <= 1.

    >>> round(mcnemar_power(6, 1.0, 1.0), 6)  # six of six against none: always significant
    1.0
    >>> mcnemar_power(5, 1.0, 1.0)  # five of five never are
    0.0
    """
    if n < 0 or not abs(difference) <= discordant_share <= 1:
        raise ValueError(
            f"expected n >= 0 and |difference| <= share <= 1, got {n}, {difference} and {discordant_share}"
        )
    if discordant_share == 0:
        return 0.0
    reach = 8 * math.sqrt(n * discordant_share * (1 - discordant_share)) + 8
    middle = n * discordant_share
    discordant = np.arange(max(0, math.floor(middle - reach)), min(n, math.ceil(middle + reach)) + 1)
    weights = np.exp(
        gammaln(n + 1)
        - gammaln(discordant + 1)
        - gammaln(n - discordant + 1)
        + xlogy(discordant, discordant_share)
        + xlog1py(n - discordant, -discordant_share)
    )
    side = _critical_counts(n, alpha)[discordant]
    q = (1 + abs(difference) / discordant_share) / 2
    # Binomial tails below: at most `side` on the rarer side, either of the two.
    known = np.maximum(side, 0)
    found = bdtr(known, discordant, q) + bdtr(known, discordant, 1 - q)
    return float((weights * np.where(side >= 0, found, 0.0)).sum())


@lru_cache(maxsize=32)
def _critical_counts(n: int, alpha: float) -> NDArray[np.int64]:
    """For 0 to n discordant examples the largest count of the rarer side that is significant, -1 where none is."""
    discordant = np.arange(n + 1)
    # The normal quantile is off by far less than three; the exact tail decides.
    start = np.floor(discordant / 2 - ndtri(1 - alpha / 2) * np.sqrt(discordant) / 2).astype(np.int64)
    critical: NDArray[np.int64] = np.full(n + 1, -1)
    for step in range(-3, 4):
        count = np.clip(start + step, 0, discordant)
        significant = 2 * bdtr(count, discordant, 0.5) <= alpha
        critical = np.where(significant, np.maximum(critical, count), critical)
    return critical


def detectable_difference(n: int, rarer_share: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    r"""Returns the smallest true difference that McNemar's exact test finds with the given power.

    It belongs beside an inconclusive verdict: differences below it had little chance to be seen, so their absence
    shows nothing. A larger difference d comes with more discordant examples: their share is taken as
    $\pi(d) = d + 2 q$, the rarer side keeping its share q, which is an assumption. nan where even the largest
    difference possible, 1 - 2q, would be missed.

    Source: Lachin, Statistics in Medicine 11 (1992), 1239-1251, on what to hold fixed.

    Args:
        n: Number of examples.
        rarer_share: Share q of examples on which just the one arm is right that is so more rarely, at most 1/2.
        alpha: The significance level of the single test; divide it by the family's size for its strictest test.
        power: The chance wanted, in (0, 1).

    Raises:
        ValueError: n is negative, power is not in (0, 1), or rarer_share is not in [0, 0.5].

    >>> 0.10 < detectable_difference(150, 0.05) < 0.12
    True
    """
    if n < 0 or not 0 < power < 1 or not 0 <= rarer_share <= 0.5:
        raise ValueError(
            f"expected n >= 0, a power in (0, 1) and a share in [0, 0.5], got {n}, {power} and {rarer_share}"
        )
    return _detectable(n, rarer_share, alpha, power)


@lru_cache(maxsize=2**14)
def _detectable(n: int, rarer_share: float, alpha: float, power: float) -> float:
    def reaches(difference: float) -> bool:
        share = min(1.0, difference + 2 * rarer_share)
        return mcnemar_power(n, min(difference, share), share, alpha=alpha) >= power

    low, high = 0.0, 1.0 - 2 * rarer_share
    if n < 1 or not reaches(high):
        return math.nan
    while high - low > RESOLUTION:
        middle = (low + high) / 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def detectable_by_estimate(
    estimate: Estimate, *, n: int, rarer_share: float | None = None, alpha: float = 0.05, power: float = 0.8
) -> float:
    r"""Returns the smallest true difference that an estimate's own test would find with the given power.

    With the standard error s of the estimate, $d = (w_{\alpha/2} + w_{1 - p})$ where $w_a$ is the half-width of the
    interval with the share a in either tail: exact for a normal estimate, and an approximation where Student's t is
    the reference. For differences of right and wrong s grows with d as the discordant share does (`rarer_share`,
    as in `detectable_difference`); for other scores it is taken as it is.

    Args:
        estimate: Of the comparison as observed.
        n: Number of examples.
        rarer_share: As in `detectable_difference`; None: the differences are not of right and wrong.
        alpha: The significance level of the single test.
        power: The chance wanted, in (0.5, 1).

    Raises:
        ValueError: power is not in (0.5, 1).

    >>> from robustness.stats.estimates import mean_difference
    >>> estimate = mean_difference([1] * 5 + [-1] * 5 + [0] * 90)
    >>> 0.08 < detectable_by_estimate(estimate, n=100) < 0.11
    True
    """
    if not 0.5 < power < 1:
        raise ValueError(f"expected a power in (0.5, 1), got {power}")
    width = estimate.half_width(alpha / 2) + estimate.half_width(1 - power)
    if rarer_share is None or math.isnan(width):
        return width
    observed = abs(estimate.difference) + 2 * rarer_share - estimate.difference**2 + 2 / max(n, 1)
    found = width
    for _ in range(50):  # a contraction: the error grows with the root of the difference
        variance = found + 2 * rarer_share - found**2 + 2 / max(n, 1)
        found = min(1.0, width * math.sqrt(max(variance, 0.0) / observed))
    return found if found < 1 - 2 * rarer_share else math.nan
