"""Power: what a sample of a given size could have shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, gammaincinv, gammaln, ndtr, ndtri, stdtrit, xlog1py, xlogy

from robustness.stats.estimates import Estimate, Part

RESOLUTION = 1e-3
"""Resolution of detectable differences: a tenth of a point."""
MIDPOINTS: NDArray[np.float64] = (np.arange(64) + 0.5) / 64
"""Shares whose quantiles represent a distribution."""


def mcnemar_power(n: int, difference: float, discordant_share: float, *, alpha: float = 0.05) -> float:
    r"""Returns the chance that McNemar's exact test finds a true difference of two accuracies.

    The number of discordant examples is M ~ Binomial(n, $\pi$). Of these, the reference alone is right in
    K | M ~ Binomial(M, $(1 + d/\pi)/2$). The power is the probability that K falls into the two-sided rejection
    region of M. The only approximation omits tails of M beyond eight standard deviations.

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
    """For 0 to n discordant examples, the largest significant count of the rarer side; -1 if there is none."""
    discordant = np.arange(n + 1)
    # The normal quantile is off by far less than three; the exact tail decides.
    start = np.floor(discordant / 2 - ndtri(1 - alpha / 2) * np.sqrt(discordant) / 2).astype(np.int64)
    critical: NDArray[np.int64] = np.full(n + 1, -1)
    for step in range(-3, 4):
        count = np.clip(start + step, 0, discordant)
        significant = 2 * bdtr(count, discordant, 0.5) <= alpha
        critical = np.where(significant, np.maximum(critical, count), critical)
    return critical


def rarer_share(differences: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Returns the share of examples that only one arm has right, for the arm with fewer, for `detectable`.

    One further example is added on either side, as in `mean_difference`. The smaller of two equal counts is too small
    on average, which would promise too much power.

    Args:
        differences: 1, -1 or 0 of each example, of any shape.
        weights: Number of examples that each represents; None: one each.

    Raises:
        ValueError: There are no differences.

    >>> rarer_share([1, 1, 1, -1, 0, 0, 0, 0])
    0.2
    """
    column = np.asarray(differences, dtype=np.float64).ravel()
    if not len(column):
        raise ValueError("expected at least one difference")
    mass = np.ones(len(column)) if weights is None else np.asarray(weights, dtype=np.float64).ravel()
    rarer = min(float(mass[column == side].sum()) for side in (1, -1))
    return (rarer + 1) / (float(mass.sum()) + 2)


def detectable_difference(n: int, rarer_share: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    r"""Returns the smallest true difference that McNemar's exact test finds with the given power.

    Report it with an inconclusive verdict: smaller differences had little chance to be found, so their absence shows
    nothing. A larger difference d comes with more discordant examples. Their share is assumed to be $\pi(d) = d + 2
    q$, with the rarer side's share q constant. nan if even the largest possible difference, 1 - 2q, would be missed.

    Source: Lachin, Statistics in Medicine 11 (1992), 1239-1251, on what to hold fixed.

    Args:
        n: Number of examples.
        rarer_share: Share q of examples that only one arm has right, for the arm with fewer; at most 1/2.
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

    The center is normal around the true difference d, shrunk to 0 by the two further units. Its variance is the sum
    of the parts' variances without those units' share. The interval's half-width varies as the parts' $\chi^2$ do.
    With one part of few degrees of freedom this is the power of Student's t. A variance with df degrees of freedom is
    multiplied by $df / \chi^2_{df, 1/2}$, because with three seeds the estimate is usually too small. So half of the
    returned differences are too small. For differences of right and wrong, variances grow with d like the discordant
    share (`rarer_share`, as in `detectable_difference`).

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
    if not estimate.parts:
        return math.nan
    units = n if math.isinf(estimate.parts[-1].df) else estimate.parts[-1].df + 1
    low, high, share = 0.0, 1.0, 0.0
    fixed, growing = _sampling_variances(estimate, units), np.zeros(len(estimate.parts))
    if rarer_share is not None:
        share, high = 2 * rarer_share, 1 - 2 * rarer_share
        fixed, growing = _split(fixed, abs(estimate.difference) + share - estimate.difference**2, estimate, units)

    def reaches(difference: float) -> bool:
        variances = fixed + growing * (difference + share - difference**2)
        parts = [Part(float(each), part.df) for each, part in zip(variances, estimate.parts, strict=True)]
        return _power_of_parts(parts, difference, units, alpha) >= power

    if not reaches(high):
        return math.nan
    while high - low > RESOLUTION / 10:
        middle = (low + high) / 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def _sampling_variances(estimate: Estimate, units: float) -> NDArray[np.float64]:
    """Variances of the parts without the two further units' share of the last, unbiased in the median."""
    variances = np.array([part.variance for part in estimate.parts])
    variances[-1] = max(0.0, variances[-1] - _pad_variance(estimate.center, units))
    unbiased = [1.0 if math.isinf(p.df) else p.df / (2 * gammaincinv(p.df / 2, 0.5)) for p in estimate.parts]
    unbiased_variances: NDArray[np.float64] = variances * np.array(unbiased)
    return unbiased_variances


def _split(
    variances: NDArray[np.float64], observed: float, estimate: Estimate, units: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The variance that is constant in the difference, and the variance per unit of discordance."""
    fixed, growing = np.zeros_like(variances), variances.copy()
    if len(variances) > 1:  # only the examples' share of the seeds' part grows; the units' common part stays
        seeds = estimate.parts[0].df + 1
        growing[0] = min(variances[0], max(0.0, observed / units - variances[1]) / seeds)
        fixed[0] = variances[0] - growing[0]
    if observed == 0:  # arms without any difference show no variance: units are assumed independent
        growing[-1], observed = 1 / units, 1.0
    return fixed, growing / observed


def _pad_variance(center: float, units: float) -> float:
    return 2 * (1 + center**2) / ((units + 1) * (units + 2))


@lru_cache(maxsize=1024)
def _reference(df: float, alpha: float) -> tuple[float, NDArray[np.float64]]:
    r"""Student's two-sided quantile, and evenly spaced quantiles of $\chi^2_{df} / df$."""
    if math.isinf(df):
        return float(ndtri(1 - alpha / 2)), np.ones(1)
    return float(stdtrit(df, 1 - alpha / 2)), 2 * gammaincinv(df / 2, MIDPOINTS) / df


def _power_of_parts(parts: Sequence[Part], difference: float, units: float, alpha: float) -> float:
    """The chance that the interval at level 1 - alpha lies above 0."""
    center = difference * units / (units + 2)
    squares = np.zeros(1)
    for place, part in enumerate(parts, start=1):
        quantile, spread = _reference(part.df, alpha)
        pad = _pad_variance(center, units) if place == len(parts) else 0.0
        # All combinations of the parts' quantiles.
        squares = np.add.outer(squares, quantile**2 * (pad + part.variance * spread)).ravel()
    error = math.sqrt(sum(part.variance for part in parts))
    distances = center - np.sqrt(squares)
    return float((ndtr(distances / error) if error else distances > 0).mean())
