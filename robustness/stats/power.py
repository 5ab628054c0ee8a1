"""What a sample of a given size could have shown."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, gammaln, ndtri, xlog1py, xlogy

from robustness.stats.arrays import number_column
from robustness.stats.resampling import grouped_units

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


def detectable_difference(
    n: int, discordant_share: float, *, alpha: float = 0.05, power: float = 0.8, design_effect: float = 1.0
) -> float:
    """Returns the smallest true difference that McNemar's exact test finds with the given power.

    It belongs beside an inconclusive verdict: differences below it had little chance to be seen, so their absence
    shows nothing. The share of discordant examples is taken as observed, and at least as large as the difference.
    nan where even a difference of 1 would be missed.

    Args:
        n: Number of examples.
        discordant_share: Share of examples on which just one arm is right, a fraction.
        alpha: The significance level of the single test; divide it by the family's size for Holm's worst case.
        power: The chance wanted, in (0, 1).
        design_effect: By how much grouping inflates the variance: n counts as n / design_effect.

    Raises:
        ValueError: n is negative, a share is outside [0, 1], power is not in (0, 1), or design_effect <= 0.

    >>> 0.10 < detectable_difference(150, 0.2) < 0.11
    True
    """
    if not 0 < power < 1 or not design_effect > 0 or not 0 <= discordant_share <= 1:
        raise ValueError(f"expected power in (0, 1), got {power}, and design_effect > 0, got {design_effect}")
    return _detectable(math.floor(n / design_effect), discordant_share, alpha, power)


@lru_cache(maxsize=2**14)
def _detectable(n: int, discordant_share: float, alpha: float, power: float) -> float:
    def reaches(difference: float) -> bool:
        return mcnemar_power(n, difference, max(discordant_share, difference), alpha=alpha) >= power

    if n < 1 or not reaches(1.0):
        return math.nan
    low, high = 0.0, 1.0
    while high - low > RESOLUTION:
        middle = (low + high) / 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def design_effect(differences: ArrayLike, groups: ArrayLike) -> float:
    r"""Returns by how much drawing whole groups inflates the variance of a mean, at least 1.

    $$\frac{\sum_g (s_g - m_g \bar d)^2}{\sum_i (d_i - \bar d)^2}$$ with sums s and sizes m of the groups.

    Source: Kish, Survey Sampling (1965), section 5.4.

    >>> design_effect([1, 1, 0, 0], ["a", "a", "b", "b"])
    2.0
    """
    column = number_column(differences)
    if len(column) == 0:
        return 1.0
    units = grouped_units(column, np.asarray(groups))
    single = float(((column - column.mean()) ** 2).sum())
    grouped = float(((units.sums - units.sizes * column.mean()) ** 2) @ units.copies)
    return max(1.0, grouped / single) if single > 0 else 1.0
