"""Variance components: the parts of a difference's uncertainty from training seeds and from examples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2, f

from robustness.stats.intervals import Interval


@dataclass(frozen=True, slots=True)
class VarianceComponents:
    """Standard deviations of a paired difference's parts; all nan without data."""

    seed: float
    """Between training seeds: of each pair's difference on all examples."""
    seed_interval: Interval
    example: float
    """Between examples, the same under every seed."""
    interaction: float
    """The rest: examples that only some seeds treat differently."""
    seed_share: float
    """The share of the mean difference's variance that more seeds alone would reduce; nan if nothing varies."""


_NO_DATA = VarianceComponents(math.nan, Interval(math.nan, math.nan), math.nan, math.nan, math.nan)


def separate_seeds(
    differences: ArrayLike, groups: ArrayLike | None = None, *, level: float = 0.95
) -> VarianceComponents:
    r"""Returns the components of $d_{sg} = \mu + a_s + b_g + e_{sg}$: the method effect, seeds, examples, the rest.

    The analysis of variance of S seeds by G examples, both random, one value each. From the mean squares
    $$\hat\sigma_a^2 = (MS_a - MS_e) / G, \quad \hat\sigma_b^2 = (MS_b - MS_e) / S, \quad \hat\sigma_e^2 = MS_e,$$
    negative estimates being 0. If none is negative, this is the REML estimate of the mixed model. Seeds account for
    $\sigma_a^2 / S$ of the mean's variance $\sigma_a^2 / S + \sigma_b^2 / G + \sigma_e^2 / SG$. Rows of a group are
    one example: its sum, corrected for the group's size as in the linearised ratio estimator.

    The interval of the seeds' part is that of Williams. Two seeds leave one degree of freedom: the upper end is then
    some thirty times the estimate. If seeds differ less than by chance, the upper end is that of a chance difference.
    If all seeds agree on every example, it is nan.

    Source: Searle, Casella and McCulloch, Variance Components (1992), section 4.3 and 3.6; Williams, Biometrika 49
    (1962), 278-281.

    Args:
        differences: Reference minus candidate of one example under one seed, shape (seeds, n).
        groups: The group of each example, shape (n,); None: every example is its own.
        level: Coverage aimed at.

    Raises:
        ValueError: Not two dimensions, fewer than two seeds, or groups of another length.

    >>> parts = separate_seeds([[0.5, 0.0, 1.0], [0.0, 1.0, -1.0]])
    >>> parts.seed, round(parts.interaction, 2)
    (0.0, 1.06)
    """
    table = np.asarray(differences, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2:
        raise ValueError(f"expected at least two rows of seeds, got the shape {table.shape}")
    units = _units(table, groups)
    seeds, n = units.shape
    if n < 2 or not np.isfinite(units).all():
        return _NO_DATA
    squares = _mean_squares(units)
    seed, example = squares.excess(squares.seed, n), squares.excess(squares.unit, seeds)
    total = seed / seeds + example / n + squares.rest / (seeds * n)
    return VarianceComponents(
        seed=math.sqrt(seed),
        seed_interval=_seed_interval(squares.seed, squares.rest, seeds, n, level),
        example=math.sqrt(example),
        interaction=math.sqrt(squares.rest),
        seed_share=seed / seeds / total if total else math.nan,
    )


@dataclass(frozen=True, slots=True)
class _MeanSquares:
    seed: float
    unit: float
    rest: float
    rounding: float
    """Below this there is no spread: rounding separates the means of equal rows."""

    def excess(self, square: float, count: int) -> float:
        """The component of one of `count` values beyond the rest."""
        return (square - self.rest) / count if square - self.rest > self.rounding else 0.0


def _mean_squares(units: NDArray[np.float64]) -> _MeanSquares:
    seeds, n = units.shape
    by_seed, by_unit = units.mean(axis=1), units.mean(axis=0)
    residuals = units - by_seed[:, None] - by_unit + units.mean()
    rounding = 1e-14 * float((units**2).sum())
    seed, unit, rest = (
        0.0 if square <= rounding else float(square)
        for square in (
            n * by_seed.var(ddof=1),
            seeds * by_unit.var(ddof=1),
            (residuals**2).sum() / ((seeds - 1) * (n - 1)),
        )
    )
    return _MeanSquares(seed, unit, rest, rounding)


def _units(table: NDArray[np.float64], groups: ArrayLike | None) -> NDArray[np.float64]:
    """One column per group, shape (seeds, groups), with the mean of the whole table."""
    if groups is None:
        return table
    n = table.shape[1]
    names = np.unique(np.asarray(groups), return_inverse=True)[1]
    if names.shape != (n,):
        raise ValueError(f"expected {n} groups, got the shape {names.shape}")
    sizes = np.bincount(names).astype(np.float64)
    means = table.mean(axis=1)
    sums = np.stack([np.bincount(names, weights=row) for row in table])
    units: NDArray[np.float64] = means[:, None] + (sums - sizes * means[:, None]) * (len(sizes) / n)
    return units


def _seed_interval(ms_seed: float, ms_rest: float, seeds: int, n: int, level: float) -> Interval:
    if not ms_rest and not ms_seed:
        return Interval(math.nan, math.nan)
    df, tails = seeds - 1, ((1 + level) / 2, (1 - level) / 2)
    rest = [ms_rest * float(f.ppf(tail, df, df * (n - 1))) for tail in tails]
    low, high = (
        math.sqrt(max(0.0, df * (ms - less) / (n * float(chi2.ppf(tail, df)))))
        for ms, less, tail in zip((ms_seed, max(ms_seed, ms_rest)), rest, tails, strict=True)
    )
    return Interval(low, high)
