"""The slope that a study of given doses and seeds would have found."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaincinv, stdtrit
from scipy.stats import f as f_distribution

from robustness.stats.arrays import number_column
from robustness.stats.doses.monotone import critical_score
from robustness.stats.doses.trends import SLOPES_DIFFER, Slope

Column = NDArray[np.float64]
REPEATS = 600
"""Simulated studies: power of 80 % is known to 2 points."""
STEPS = 12
"""Halvings of the slope's bracket."""


def detectable_slope(
    slope: Slope, doses: ArrayLike, seeds: ArrayLike, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Returns the smallest true slope that `judge_trend` would call a trend with the given power.

    The whole rule is simulated with the estimated spread: interval, test of the seeds' own slopes, and order.
    Variances are divided by the median of their chi-square distribution, so that half of the results are too small.
    Draws are seeded; nan without an estimate.

    Args:
        slope: Of `slope_over_seeds`.
        doses: Of each checkpoint, shape (n,).
        seeds: Training seed of each checkpoint, shape (n,).
        alpha: The level of the trend.
        power: The chance wanted, in (0, 1).

    Raises:
        ValueError: power is not in (0, 1).
    """
    if not 0 < power < 1:
        raise ValueError(f"expected a power in (0, 1), got {power}")
    if not slope.estimate.parts or not slope.residual_sd > 0:
        return math.nan
    simulated = _Simulated.draw(slope, number_column(doses), np.unique(np.asarray(seeds), return_inverse=True)[1])
    centers, widths = simulated.intervals(alpha)
    critical = critical_score(doses, seeds, alpha=alpha)

    def reaches(true: float) -> bool:
        return float(((centers + true > widths) & (simulated.scores(true) >= critical)).mean()) >= power

    low, high = 0.0, 4 * float(np.median(widths)) + 1e-12
    while not reaches(high):
        low, high = high, 2 * high
        if high > 1e6 * float(np.median(widths)):
            return math.nan  # the order can never be significant
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


class _Simulated:
    """Studies without a trend, with the spread of the observed one."""

    def __init__(self, noise: Column, doses: Column, seed: NDArray[np.int64], slope: Slope) -> None:
        self._noise, self._doses, self._slope = noise, doses, slope
        self._member = (seed[:, None] == np.arange(seed.max() + 1)).astype(np.float64)
        first, second = np.nonzero((doses[:, None] < doses[None, :]) & (seed[:, None] == seed[None, :]))
        self._steps, self._rises = doses[second] - doses[first], noise[:, second] - noise[:, first]

    @classmethod
    def draw(cls, slope: Slope, doses: Column, seed: NDArray[np.int64]) -> _Simulated:
        rng, n_seeds = np.random.default_rng(0), int(seed.max()) + 1
        training = slope.estimate.parts[0]
        unbiased = math.sqrt(training.df / (2 * float(gammaincinv(training.df / 2, 0.5))))
        noise = slope.residual_sd * rng.normal(size=(REPEATS, len(doses)))
        noise += slope.slope_sd * rng.normal(size=(REPEATS, n_seeds))[:, seed] * doses
        noise *= unbiased
        if len(slope.estimate.parts) > 1:  # other examples shift the slope of all seeds alike
            noise += math.sqrt(slope.estimate.parts[1].variance) * rng.normal(size=(REPEATS, 1)) * doses
        return cls(noise, doses, seed, slope)

    def scores(self, true: float) -> Column:
        """Kendall's score within seeds of every study at a true slope, shape (repeats,)."""
        return np.asarray(np.sign(self._rises + true * self._steps).sum(axis=1))

    def intervals(self, alpha: float) -> tuple[Column, Column]:
        """The middle and half the width of every study's interval, shape (repeats,) each; a true slope moves them."""
        member = self._member
        project = np.eye(len(member)) - member @ np.linalg.inv(member.T @ member) @ member.T
        x, y = project @ self._doses, self._noise @ project
        n_seeds, df = member.shape[1], len(x) - member.shape[1] - 1
        common = y @ x / (x @ x)
        rest = ((y - common[:, None] * x) ** 2).sum(axis=1)
        centers, squares = common, _square(alpha, df) * rest / df / (x @ x)
        spread, own_df = member.T @ x**2, len(x) - 2 * n_seeds
        if n_seeds > 1 and (spread > 0).all() and own_df > 0:
            own = y @ (member * x[:, None]) / spread
            between = (spread * (own - common[:, None]) ** 2).sum(axis=1)
            ratio = between / (n_seeds - 1) / ((rest - between) / own_df)
            differ = f_distribution.sf(ratio, n_seeds - 1, own_df) <= SLOPES_DIFFER
            centers = np.where(differ, own.mean(axis=1), centers)
            squares = np.where(differ, _square(alpha, n_seeds - 1) * own.var(axis=1, ddof=1) / n_seeds, squares)
        if len(self._slope.estimate.parts) > 1:
            examples = self._slope.estimate.parts[1]
            squares = squares + _square(alpha, examples.df) * examples.variance
        return np.asarray(centers), np.sqrt(squares)


def _square(alpha: float, df: float) -> float:
    return float(stdtrit(df, 1 - alpha / 2)) ** 2
