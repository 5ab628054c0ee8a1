"""Bias-corrected and accelerated bootstrap intervals of a mean."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from robustness.stats.arrays import number_column
from robustness.stats.intervals import Interval
from robustness.stats.resampling import Units, grouped_units, resampled_means, single_units


def bca_mean_interval(
    values: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    rng: np.random.Generator,
    resamples: int = 10_000,
    level: float = 0.95,
) -> Interval:
    r"""Returns the BCa bootstrap interval of the mean of per-example values, for skewed ones such as probe values.

    The percentile interval's ends move from $\alpha$ to
    $$\Phi\Big(z_0 + \frac{z_0 + z_\alpha}{1 - a (z_0 + z_\alpha)}\Big)$$ with the bias $z_0$ (the normal quantile of
    the share of samples below the mean) and the acceleration $a$, from the mean with each unit left out. Whole groups
    are drawn, as in `bootstrap_mean_interval`. No values, or one that is not finite, gives nan at both ends.

    Source: Efron, Journal of the American Statistical Association 82 (1987), 171-185.

    Args:
        values: One number per example, shape (n,).
        groups: The group of each example, shape (n,); None: every example is its own.
        rng: Where the draws come from.
        resamples: Number of bootstrap samples.
        level: Coverage aimed at.

    Raises:
        ValueError: The shapes differ, a group is missing, resamples < 1, or level is not in (0, 1).

    >>> bca_mean_interval([2, 2, 2], rng=np.random.default_rng(0))
    Interval(low=2.0, high=2.0)
    """
    if not 0 < level < 1:
        raise ValueError(f"expected a level between 0 and 1, got {level}")
    column = number_column(values)
    units = single_units(column) if groups is None else grouped_units(column, np.asarray(groups))
    if len(column) == 0 or not np.isfinite(column).all():
        return Interval(math.nan, math.nan)
    mean = float(column.mean())
    samples = resampled_means(units, rng, resamples)
    below = ((samples < mean).mean() + (samples <= mean).mean()) / 2
    if below in (0.0, 1.0):  # all samples alike: no width, no correction
        low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
        return Interval(float(low), float(high))
    bias, acceleration = norm.ppf(below), _acceleration(units)
    z = bias + norm.ppf([(1 - level) / 2, (1 + level) / 2])
    shares = norm.cdf(bias + z / (1 - acceleration * z))
    low, high = np.quantile(samples, shares)
    return Interval(float(low), float(high))


def _acceleration(units: Units) -> float:
    """Skewness of the jackknife: a sixth of the third moment over the second to 3/2."""
    sums, sizes, copies = units.sums, units.sizes, units.copies.astype(np.float64)
    total, size = float(sums @ copies), float(sizes @ copies)
    if copies.sum() < 2:
        return 0.0
    left_out: NDArray[np.float64] = (total - sums) / np.maximum(size - sizes, 1)
    deviations = (left_out * copies).sum() / copies.sum() - left_out
    spread = float((deviations**2) @ copies)
    return float((deviations**3) @ copies) / (6 * spread**1.5) if spread > 0 else 0.0
