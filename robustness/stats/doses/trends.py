"""Trends over doses: the slope of a value against a dose, with training seeds as random effect."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import f as f_distribution

from robustness.stats.arrays import number_column, require_equal_shapes
from robustness.stats.doses.monotone import MonotoneTest
from robustness.stats.estimates import NO_ESTIMATE, Estimate, Part

Column = NDArray[np.float64]
MIN_SEEDS = 3
"""Two seeds leave one degree of freedom between them: a claim about a method needs a third."""
MIN_DOSES = 3
"""Two doses have a difference; a trend needs a third."""
SLOPES_DIFFER = 0.25
"""If the seeds' own slopes differ at this level, the interval is that of their mean. So high, because a test that
rarely finds a difference would leave intervals too narrow (Bozivich, Bancroft and Hartley, Annals of Mathematical
Statistics 27 (1956), 1017-1043)."""


class Fit(StrEnum):
    """How a slope and its error were found."""

    MIXED_MODEL = "mixed-model"
    """Linear mixed model by REML with a random intercept of each seed."""
    WITHIN_SEEDS = "within-seeds"
    """Least squares with a fixed intercept of each seed: the mixed model did not converge or has no seed variance."""
    SLOPES_PER_SEED = "slopes-per-seed"
    """The mean of each seed's own slope: these differ by more than the residuals explain."""
    NONE = "none"
    """Too few seeds or doses, or values that do not vary."""


@dataclass(frozen=True, slots=True)
class Slope:
    """A slope per unit of dose."""

    estimate: Estimate
    """Its difference is the slope; without parts if the data do not determine it."""
    fit: Fit
    residual_sd: float = math.nan
    """Of checkpoints of one seed around the line."""
    slope_sd: float = 0.0
    """Of the seeds' own slopes, where these differ."""


NO_SLOPE = Slope(NO_ESTIMATE, Fit.NONE)


def slope_over_seeds(values: ArrayLike, doses: ArrayLike, seeds: ArrayLike, *, examples: Part | None = None) -> Slope:
    r"""Returns the slope of $y_{sd} = \mu + a_s + \beta x_d + e_{sd}$, seeds s being random, with its error.

    REML's Wald interval uses the normal and is too narrow with few seeds. Here it is Student's t with N - S - 1
    degrees of freedom: every checkpoint is one, less an intercept of each seed and the slope. If all seeds have the
    same doses, $\hat\beta$ is the least-squares slope within seeds. Its variance is the residual mean square within
    seeds by the sum of squares of the doses, and t is exact. The same formula is used where the model does not
    converge, or estimates that seeds do not differ.

    A seed may have a slope of its own. Where these slopes differ (F test at `SLOPES_DIFFER`), the interval is that of
    their mean, with S - 1 degrees of freedom.

    Source: Laird and Ware, Biometrics 38 (1982), 963-974; Pinheiro and Bates, Mixed-Effects Models (2000), section
    2.4.2, on degrees of freedom within groups.

    Args:
        values: Of each checkpoint, shape (n,).
        doses: Of each checkpoint, such as log2 of its parameters, shape (n,).
        seeds: Training seed of each checkpoint, shape (n,).
        examples: Variance of the slope because other test examples could have been drawn, the same under all seeds.
            None: the interval is of these examples.

    Raises:
        ValueError: The shapes differ.

    >>> slope = slope_over_seeds([1, 2, 3.5, 2, 3, 4, 0, 1, 2.5], [0, 1, 2] * 3, [0, 0, 0, 1, 1, 1, 2, 2, 2])
    >>> round(slope.estimate.difference, 3)
    1.167
    """
    y, x, (names, seed) = number_column(values), number_column(doses), _coded(seeds)
    require_equal_shapes(y, x, seed)
    if len(names) < MIN_SEEDS or len(np.unique(x)) < MIN_DOSES or not np.isfinite(y).all() or not len(y):
        return NO_SLOPE
    within_x, within_y = _within(x, seed), _within(y, seed)
    spread, df = float(within_x @ within_x), len(y) - len(names) - 1
    if spread <= 0 or df < 1 or np.ptp(y) <= 1e-12 * max(1.0, float(np.abs(y).max())):
        return NO_SLOPE
    slope = float(within_x @ within_y) / spread
    residual = math.sqrt(float(((within_y - slope * within_x) ** 2).sum()) / df)
    own = _slopes_of_seeds(within_x, within_y, seed)
    if own is not None:
        variance = float(own.slopes.var(ddof=1))
        extra = math.sqrt(max(0.0, variance - own.residual_sd**2 / (spread / len(names))))
        part = Part(variance / len(names), len(names) - 1)
        return _finished(float(own.slopes.mean()), part, examples, Fit.SLOPES_PER_SEED, own.residual_sd, extra)
    fitted = _mixed_model(y, x, seed)
    if fitted is not None:
        return _finished(fitted[0], Part(fitted[1] ** 2, df), examples, Fit.MIXED_MODEL, residual)
    return _finished(slope, Part(residual**2 / spread, df), examples, Fit.WITHIN_SEEDS, residual)


def curvature_over_seeds(values: ArrayLike, doses: ArrayLike, seeds: ArrayLike) -> Estimate:
    r"""Returns $\gamma$ of $y_{sd} = a_s + \beta x_d + \gamma x_d^2 + e_{sd}$ by least squares, with Student's t.

    Below 0, a further unit of dose helps less than the one before. It has no estimate with fewer than four doses or
    three seeds, or where nothing varies.

    Raises:
        ValueError: The shapes differ.

    >>> values = [0, 3, 4, 3.1, 1, 4, 5, 4, 0, 3, 4, 3]
    >>> curve = curvature_over_seeds(values, [0, 1, 2, 3] * 3, np.repeat([0, 1, 2], 4))
    >>> round(curve.difference, 1)
    -1.0
    """
    y, x, (names, seed) = number_column(values), number_column(doses), _coded(seeds)
    require_equal_shapes(y, x, seed)
    df = len(y) - len(names) - 2
    if len(names) < MIN_SEEDS or len(np.unique(x)) < MIN_DOSES + 1 or df < 1 or not np.isfinite(y).all():
        return NO_ESTIMATE
    centred = x - x.mean()
    design = np.column_stack([_within(centred, seed), _within(centred**2, seed)])
    within = _within(y, seed)
    found, _, rank, _ = np.linalg.lstsq(design, within, rcond=None)
    rest = within - design @ found
    if rank < 2 or float(rest @ rest) <= 1e-20 * max(1.0, float(y @ y)):
        return NO_ESTIMATE
    variance = float(rest @ rest) / df * float(np.linalg.inv(design.T @ design)[1, 1])
    return Estimate(float(found[1]), float(found[1]), (Part(variance, df),), math.inf)


def _finished(
    slope: float, training: Part, examples: Part | None, fit: Fit, residual_sd: float, slope_sd: float = 0.0
) -> Slope:
    parts = (training,) if examples is None else (training, examples)
    return Slope(Estimate(slope, slope, parts, math.inf), fit, residual_sd, slope_sd)


def _coded(seeds: ArrayLike) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
    names, codes = np.unique(np.asarray(seeds), return_inverse=True)
    return names, codes.astype(np.int64)


def _within(values: Column, seed: NDArray[np.int64]) -> Column:
    """Deviations from the mean of the own seed."""
    means = np.bincount(seed, weights=values) / np.bincount(seed)
    return np.asarray(values - means[seed])


@dataclass(frozen=True, slots=True)
class _OwnSlopes:
    slopes: Column
    residual_sd: float


def _slopes_of_seeds(x: Column, y: Column, seed: NDArray[np.int64]) -> _OwnSlopes | None:
    """Each seed's own slope where these differ; None where they do not, or a seed has too few doses for its own."""
    spread, cross = np.bincount(seed, weights=x * x), np.bincount(seed, weights=x * y)
    n_seeds, df = len(spread), len(x) - 2 * len(spread)
    if (spread <= 0).any() or df < 1:
        return None
    slopes = cross / spread
    common = cross.sum() / spread.sum()
    between = float((spread * (slopes - common) ** 2).sum()) / (n_seeds - 1)
    rest = float(((y - slopes[seed] * x) ** 2).sum()) / df
    if rest <= 1e-20 * float(y @ y):
        differs = between > rest
    else:
        differs = float(f_distribution.sf(between / rest, n_seeds - 1, df)) <= SLOPES_DIFFER
    return _OwnSlopes(np.asarray(slopes), math.sqrt(rest)) if differs else None


def _mixed_model(y: Column, x: Column, seed: NDArray[np.int64]) -> tuple[float, float] | None:
    """Slope and standard error by REML; None where it is singular or does not converge."""
    from statsmodels.regression.mixed_linear_model import MixedLM  # takes a second to import

    # Standardised, because the optimiser's tolerances are absolute.
    scale, unit = float(y.std()), float(x.std())
    design = np.column_stack([np.ones(len(x)), (x - x.mean()) / unit])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # each is answered by the fallback
        try:
            found = MixedLM((y - y.mean()) / scale, design, groups=seed).fit(reml=True, method=["powell"])
        except (np.linalg.LinAlgError, ValueError):
            return None
        slope, error = float(found.fe_params[1]), float(found.bse_fe[1])
        variance = float(np.asarray(found.cov_re)[0, 0])
    is_usable = found.converged and math.isfinite(slope) and math.isfinite(error) and error > 0
    # At a seed variance of 0 the model pools seeds and residuals, whose degrees of freedom are others.
    return (slope * scale / unit, error * scale / unit) if is_usable and variance > 1e-6 else None


class Trend(StrEnum):
    """What a trend shows."""

    RISES = "rises"
    FALLS = "falls"
    LEVEL = "level"
    """Over the whole range of doses the value changes by less than the margin."""
    NO_TREND = "no-trend"
    NOT_ENOUGH_DATA = "not-enough-data"


def judge_trend(
    slope: Slope,
    order: MonotoneTest,
    doses: ArrayLike,
    *,
    margin: float,
    alpha: float = 0.05,
    p_adjusted: float | None = None,
) -> Trend:
    """Returns what slope and monotone test show together.

    In this order:

    1. Not enough data without an interval.
    2. Level if the interval, times the range of doses, lies inside the margin. A margin of 0 never finds this.
    3. Rises or falls if the interval lies on one side of 0 and the order of values agrees, at one-sided level alpha.
    4. No trend otherwise.

    Args:
        slope: Of `slope_over_seeds`.
        order: Of `monotone_trend`.
        doses: Of the checkpoints, shape (n,).
        margin: The largest change over the range of doses that does not matter.
        alpha: The level of the trend; the interval is of level 1 - alpha.
        p_adjusted: The slope's p-value adjusted over its family, which must be at most alpha too; None: no family.

    Raises:
        ValueError: margin is negative.
    """
    if margin < 0:
        raise ValueError(f"expected a margin of at least 0, got {margin}")
    if not slope.estimate.parts or math.isnan(order.p_value):
        return Trend.NOT_ENOUGH_DATA
    interval = slope.estimate.interval(level=1 - alpha)
    reach = float(np.ptp(number_column(doses)))
    if margin > 0 and max(abs(interval.low), abs(interval.high)) * reach <= margin:
        return Trend.LEVEL
    is_family = p_adjusted is None or p_adjusted <= alpha
    if not is_family or order.p_value > 2 * alpha:  # two-sided, of which one side counts
        return Trend.NO_TREND
    if interval.low > 0 and order.statistic > 0:
        return Trend.RISES
    return Trend.FALLS if interval.high < 0 and order.statistic < 0 else Trend.NO_TREND
