"""Confidence intervals of rates, means and macro averages."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from robustness.stats.arrays import number_column, require_equal_shapes
from robustness.stats.lattice import bootstrap_ends
from robustness.stats.resampling import grouped_units, resampled_means, single_units


@dataclass(frozen=True, slots=True)
class Interval:
    """A closed interval; both ends are nan where there is no data.

    >>> Interval(-0.01, 0.015).within(0.02)
    True
    """

    low: float
    high: float

    def within(self, margin: float) -> bool:
        """Returns whether the whole interval lies in [-margin, margin]; never true of nan."""
        return -margin <= self.low and self.high <= margin


_NO_DATA = Interval(math.nan, math.nan)


def wilson_interval(successes: int, n: int, *, level: float = 0.95) -> Interval:
    r"""Returns Wilson's score interval of a rate, as fractions.

    With rate p = successes / n and the normal quantile z of the level, the ends are
    $$\frac{p + z^2/2n \pm z \sqrt{p(1-p)/n + z^2/4n^2}}{1 + z^2/n}.$$
    It always contains p and stays inside [0, 1]; n = 0 gives nan at both ends.

    Source: Wilson, Journal of the American Statistical Association 22 (1927), 209-212.

    Raises:
        ValueError: successes is not in 0..n, or level is not in (0, 1).

    >>> interval = wilson_interval(81, 263)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.2553, 0.3662)
    >>> wilson_interval(0, 0)
    Interval(low=nan, high=nan)
    """
    low, high = wilson_bounds(np.array([successes]), n, level=level)
    return Interval(float(low[0]), float(high[0]))


def wilson_bounds(
    successes: NDArray[np.int64], n: int, *, level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the ends of `wilson_interval` for several rates over the same n, in the shape of successes."""
    _require_level(level)
    if (successes < 0).any() or (successes > n).any() or n < 0:
        raise ValueError(f"expected 0 <= successes <= n, got {successes} of {n}")
    if n == 0:
        return np.full(successes.shape, np.nan), np.full(successes.shape, np.nan)
    rate, z = successes / n, float(ndtri((1 + level) / 2))
    center = rate + z**2 / (2 * n)
    width = z * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    low, high = ((center + sign * width) / (1 + z**2 / n) for sign in (-1, 1))
    # At rates of 0 and 1 rounding can leave the point estimate outside, or an end outside [0, 1], by one ulp.
    return np.clip(low, 0.0, rate), np.clip(high, rate, 1.0)


def bootstrap_mean_interval(
    values: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    rng: np.random.Generator,
    resamples: int = 10_000,
    level: float = 0.95,
) -> Interval:
    r"""Returns the percentile bootstrap interval of the mean of per-example values.

    For paired differences (reference minus candidate of the same example) it is the interval of the difference of the
    two means. With groups, whole groups are drawn, so rows of a group may depend on each other. For drawn groups g
    with sum s_g and size m_g the statistic is $$\sum_g s_g / \sum_g m_g.$$ For whole numbers, such as differences of
    right and wrong, the samples' distribution is computed exactly, as if by infinitely many resamples
    (`robustness.stats.lattice`).

    If all units (examples, or groups by mean and size) are equal, the interval shrinks to the mean. Such an interval
    shows that the sample has no spread; the population may have some. No values, or a value that is not finite, give
    nan at both ends.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3; whole groups:
    Davison and Hinkley, Bootstrap Methods and their Application (1997), section 3.8.

    Args:
        values: One number per example, shape (n,).
        groups: The group of each example, shape (n,), of any sortable type. None: every example is its own.
        rng: Draws the samples.
        resamples: Number of bootstrap samples, if they are drawn.
        level: Coverage aimed at.

    Raises:
        ValueError: The shapes differ, a group is missing, resamples < 1, or level is not in (0, 1).

    >>> bootstrap_mean_interval([1, 1, 1], rng=np.random.default_rng(0))
    Interval(low=1.0, high=1.0)
    >>> bootstrap_mean_interval([0, 1] * 50, rng=np.random.default_rng(0))  # binomial: 0.5 +- 1.96 * 0.05
    Interval(low=0.4, high=0.6)
    """
    _require_level(level)
    column = number_column(values)
    units = single_units(column) if groups is None else grouped_units(column, np.asarray(groups))
    if resamples < 1:
        raise ValueError(f"expected at least one resample, got {resamples}")
    if len(column) == 0:
        return _NO_DATA
    ends = bootstrap_ends(units, level)
    return _percentiles(resampled_means(units, rng, resamples), level) if ends is None else Interval(*ends)


def bootstrap_f1_interval(
    labels: ArrayLike,
    predictions: ArrayLike,
    *,
    rng: np.random.Generator,
    resamples: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """Returns the percentile bootstrap interval of the F1 of label 1; no examples give nan at both ends.

    >>> bootstrap_f1_interval([1, 1, 0], [1, 1, 0], rng=np.random.default_rng(0)).high
    1.0
    """
    _, scores = resample_accuracy_and_f1(labels, predictions, rng=rng, resamples=resamples)
    return percentile_interval(scores, level=level)


def resample_accuracy_and_f1(
    labels: ArrayLike, predictions: ArrayLike, *, rng: np.random.Generator, resamples: int = 10_000
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns accuracy and F1 of label 1 of bootstrap samples, each of shape (resamples,).

    Draws the cells of the 2 x 2 table, which is the bootstrap over examples. A sample without a true positive has
    F1 = 0, as in `binary_f1`. No examples give nan.
    """
    truth, guess = number_column(labels) == 1, number_column(predictions) == 1
    require_equal_shapes(truth, guess)
    if len(truth) == 0:
        return np.full(resamples, np.nan), np.full(resamples, np.nan)
    cells = np.array([(truth & guess).sum(), (truth ^ guess).sum(), (~truth & ~guess).sum()])
    hits, misses, rejections = rng.multinomial(len(truth), cells / len(truth), size=resamples).T
    scores = np.divide(2 * hits, 2 * hits + misses, out=np.zeros(resamples), where=hits > 0)
    return (hits + rejections) / len(truth), scores


def resample_means(values: ArrayLike, *, rng: np.random.Generator, resamples: int = 10_000) -> NDArray[np.float64]:
    """Returns the means of bootstrap samples, shape (resamples,); no values give nan."""
    column = number_column(values)
    return resampled_means(single_units(column), rng, resamples) if len(column) else np.full(resamples, np.nan)


def percentile_interval(samples: ArrayLike, *, level: float = 0.95) -> Interval:
    """Returns the central interval of a statistic's bootstrap samples.

    >>> percentile_interval([0.0, 1.0, 2.0], level=0.5)
    Interval(low=0.5, high=1.5)
    """
    _require_level(level)
    return _percentiles(number_column(samples), level)


def _require_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"expected a level between 0 and 1, got {level}")


def _percentiles(statistics: NDArray[np.float64], level: float) -> Interval:
    low, high = np.quantile(statistics, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
