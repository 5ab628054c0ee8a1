"""The estimate of a mean paired difference, with its interval, test and equivalence to zero."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from robustness.stats.arrays import number_column, require_equal_shapes
from robustness.stats.intervals import Interval


@dataclass(frozen=True, slots=True)
class Part:
    """One independent part of a mean's variance."""

    variance: float
    df: float
    """Degrees of freedom of Student's t; infinite: the normal."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean difference and the parts of its variance; nan and without parts if data do not determine it."""

    difference: float
    """The sample's mean."""
    center: float
    """The mean with two further units, of difference +1 and -1: the middle of the interval."""
    parts: tuple[Part, ...] = ()
    """Parts of the center's variance."""
    limit: float = 1.0
    """The largest absolute value of a difference: 1 of two rates, 2 of two drops, which may be of opposite sign."""

    @property
    def error(self) -> float:
        """Standard error of the center."""
        return math.sqrt(sum(part.variance for part in self.parts)) if self.parts else math.nan

    def interval(self, *, level: float = 0.95) -> Interval:
        r"""Returns the two-sided interval, the center plus and minus $\sqrt{\sum_k t_{df_k}^2 s_k^2}$.

        It ends at the limit, which no difference exceeds.

        Raises:
            ValueError: level is not in (0, 1).

        >>> mean_difference([1, 0, 0, 0]).interval().low < 0
        True
        """
        if not 0 < level < 1:
            raise ValueError(f"expected a level between 0 and 1, got {level}")
        width = self.half_width((1 - level) / 2)
        low, high = np.clip([self.center - width, self.center + width], -self.limit, self.limit)
        return Interval(float(low), float(high))

    @property
    def p_value(self) -> float:
        """Two-sided: one minus the level at which the interval reaches 0; nan without an estimate."""
        tail = self._tail(abs(self.center))
        return tail if math.isnan(tail) else min(1.0, 2 * tail)  # min would turn nan into 1

    def p_equivalence(self, margin: float) -> float:
        """Returns the larger p-value of the two one-sided tests that the true difference lies outside the margin.

        Below 0.025 exactly where the whole 95 % interval lies inside.

        Source: Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15 (1987), 657-680.

        Raises:
            ValueError: margin is not above 0.

        >>> mean_difference([0] * 1000).p_equivalence(0.02) < 0.001
        True
        """
        if not margin > 0:
            raise ValueError(f"expected a margin above 0, got {margin}")
        return max(self._tail(margin + self.center), self._tail(margin - self.center))

    def half_width(self, tail: float) -> float:
        """Returns half the width of the interval with this probability in either tail; nan without an estimate."""
        if not self.parts:
            return math.nan
        return math.sqrt(sum(part.variance * _quantile(1 - tail, part.df) ** 2 for part in self.parts))

    def _tail(self, distance: float) -> float:
        """The tail probability whose half-width is the distance; above a half for a negative distance."""
        if not self.parts or math.isnan(distance):
            return math.nan
        if distance < 0:
            return 1 - self._tail(-distance)
        if len(self.parts) == 1:
            return _cdf(-distance / self.error, self.parts[0].df)
        low, high = 0.0, 0.5
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.half_width(middle) > distance else (low, middle)
        return high


NO_ESTIMATE = Estimate(math.nan, math.nan)


def mean_difference(
    differences: ArrayLike,
    groups: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    *,
    limit: float = 1.0,
) -> Estimate:
    r"""Returns the estimate of a mean difference of two rates, or of two scores between 0 and 1.

    Bonett and Price's adjusted Wald interval adds two further examples, of difference +1 and -1, to the n given. So
    arms with the same answers on twenty examples do not count as equal. With $d$ the mean of all n + 2, $$s =
    \frac{1}{n + 2} \sqrt{\sum_i (d_i - d)^2}$$ and the normal distribution. Unlike a bootstrap's percentiles, its
    ends are no multiples of 1/n.

    Rows of a group count as one unit. The standard error is that of the ratio of sums over groups. The two further
    units are whole groups of mean size. The reference is Student's t with one degree of freedom fewer than
    `effective_groups`, because a group with most rows counts as hardly more than one. Coverage then holds from 5
    groups on, with wider intervals for few groups (docs/statistics.md).

    Source: Bonett and Price, Journal of Educational and Behavioral Statistics 37 (2012), 479-488; groups: Cochran,
    Sampling Techniques (1977), section 6.3; few of them: Cameron, Gelbach and Miller, Review of Economics and
    Statistics 90 (2008), 414-427.

    Args:
        differences: Reference minus candidate, one number per example, shape (n,).
        groups: The group of each example, shape (n,); None, or all different: every example is its own.
        weights: Number of examples that each represents, shape (n,); None: one each.
        limit: The largest absolute value that a mean can have.

    Raises:
        ValueError: The shapes differ.

    >>> estimate = mean_difference([1] * 6 + [-1] * 2 + [0] * 92)
    >>> estimate.difference, round(estimate.interval().low, 4), round(estimate.interval().high, 4)
    (0.04, -0.0211, 0.0995)
    """
    column = number_column(differences)
    names = None if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    mass = np.ones(len(column)) if weights is None else number_column(weights)
    require_equal_shapes(column, mass, *(() if names is None else (names,)))
    if len(column) == 0 or not np.isfinite(column).all():
        return NO_ESTIMATE
    total = float(mass.sum())
    mean = float(column @ mass) / total
    sums, sizes, pad, df = column * mass, mass, 1.0, math.inf
    if names is not None and int(names.max()) + 1 < len(column):
        sums, sizes = (np.bincount(names, weights=values).astype(np.float64) for values in (sums, sizes))
        effective = effective_groups(sizes)
        pad, df = total / effective, effective - 1
    center = float(sums.sum()) / (total + 2 * pad)
    if df < 1:  # one group, or one with nearly all rows, says nothing about differences of groups
        return Estimate(mean, mean, limit=limit)
    squares = float(((sums - sizes * center) ** 2).sum()) + 2 * pad**2 * (1 + center**2)
    units = len(sizes) + 2
    correction = 1.0 if math.isinf(df) else units / (units - 1)
    return Estimate(mean, center, (Part(squares * correction / (total + 2 * pad) ** 2, df),), limit)


def effective_groups(sizes: NDArray[np.float64]) -> float:
    r"""Returns the number of equal groups with the same information: $(\sum_g m_g)^2 / \sum_g m_g^2$.

    Source: Kish, Survey Sampling (1965), section 8.2; for tests over few unequal groups: Carter, Schnepel and
    Steigerwald, Review of Economics and Statistics 99 (2017), 698-709.

    >>> effective_groups(np.array([3.0, 3.0, 3.0])), round(effective_groups(np.array([97.0, 1.0, 1.0, 1.0])), 2)
    (3.0, 1.06)
    """
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def difference_over_seeds(table: ArrayLike, groups: ArrayLike | None = None, *, limit: float = 1.0) -> Estimate:
    r"""Returns the estimate of a method's mean difference, with the errors from training seeds and from examples.

    The analysis of variance of S seeds by G examples (or groups), both random. The half-width of the interval is
    $$\sqrt{t_{S-1}^2 \frac{MS_{seed}}{SG} + t_{G-1}^2 \max\Big(0, \frac{MS_{example} - MS_{rest}}{SG}\Big)}$$ since
    seeds and the rest add $E[MS_{seed}]/SG$ to the mean's variance, and examples add the second term. Each part has
    its own degrees of freedom. The two further units of `mean_difference` are added too.

    Source: in the spirit of Zou and Donner, Statistics in Medicine 27 (2008), 1693-1702; Searle, Casella and
    McCulloch, Variance Components (1992), section 4.3.

    Args:
        table: Reference minus candidate of one example under one seed, shape (seeds, n).
        groups: The group of each example, shape (n,); None: every example is its own.
        limit: The largest absolute value that a mean can have.

    Raises:
        ValueError: Not two dimensions, fewer than two seeds, or groups of another length.

    >>> estimate = difference_over_seeds([[1, 0, 0, 0] * 50, [1, 1, 0, 0] * 50, [1, 0, 0, 0] * 50])
    >>> round(estimate.difference, 3), estimate.interval().low > 0
    (0.333, False)
    """
    values = np.asarray(table, dtype=np.float64)
    if values.ndim != 2 or len(values) < 2:
        raise ValueError(f"expected at least two rows of seeds, got the shape {values.shape}")
    if values.shape[1] == 0 or not np.isfinite(values).all():
        return NO_ESTIMATE
    units, total = _padded_units(values, groups)
    seeds, count = units.shape
    by_seed, by_unit = units.mean(axis=1), units.mean(axis=0)
    center = float(units.mean())
    if total < 2:  # one group, or one with nearly all rows, says nothing about differences of groups
        return Estimate(float(values.mean()), center, limit=limit)
    ms_seed = count * float(by_seed.var(ddof=1))
    ms_unit = seeds * float(by_unit.var(ddof=1))
    rest = units - by_seed[:, None] - by_unit + center
    ms_rest = float((rest**2).sum()) / ((seeds - 1) * (count - 1))
    of_seeds, of_units = ms_seed / (seeds * count), max(0.0, (ms_unit - ms_rest) / (seeds * count))
    parts = (Part(of_seeds, seeds - 1), Part(of_units, total - 1))
    return Estimate(float(values.mean()), center, parts, limit)


def _padded_units(values: NDArray[np.float64], groups: ArrayLike | None) -> tuple[NDArray[np.float64], float]:
    """One column per group, shape (seeds, groups + 2), whose mean is the padded mean; and the number of groups."""
    n = values.shape[1]
    names = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if names.shape != (n,):
        raise ValueError(f"expected {n} groups, got the shape {names.shape}")
    sizes = np.bincount(names).astype(np.float64)
    effective = effective_groups(sizes)
    pad = n / effective
    sums = np.stack([np.bincount(names, weights=row) for row in values])
    ends = np.full((len(values), 1), pad)
    sums, sizes = np.concatenate([sums, ends, -ends], axis=1), np.concatenate([sizes, [pad, pad]])
    means = sums.sum(axis=1, keepdims=True) / sizes.sum()
    # The linearised ratio: deviations from the mean, free of the group's size.
    units: NDArray[np.float64] = means + (sums - sizes * means) * (len(sizes) / sizes.sum())
    return units, effective


def _quantile(share: float, df: float) -> float:
    return float(ndtri(share) if math.isinf(df) else stdtrit(df, share))


def _cdf(score: float, df: float) -> float:
    return float(ndtr(score) if math.isinf(df) else stdtr(df, score))
