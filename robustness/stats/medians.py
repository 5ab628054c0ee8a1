"""Medians of examples' values: intervals and a paired test that assume no distribution."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom, wilcoxon

from robustness.stats.arrays import number_column
from robustness.stats.intervals import Interval


def median_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    r"""Returns the interval of a distribution's median between two order statistics.

    With the values sorted, $$[x_{(k)}, x_{(n+1-k)}]$$ covers the median with probability $1 - 2 P(\mathrm{Bin}(n,
    1/2) \le k - 1)$ for any distribution; k is the largest for which this is at least `level`. Without such a k
    (fewer than 6 values at 95 %) both ends are nan.

    Source: Thompson, Annals of Mathematical Statistics 7 (1936), 122-128.

    Raises:
        ValueError: level is not between 0 and 1.

    >>> median_interval(range(1, 11))
    Interval(low=2.0, high=9.0)
    """
    if not 0 < level < 1:
        raise ValueError(f"expected a level between 0 and 1, got {level}")
    ordered = np.sort(number_column(values))
    n = len(ordered)
    tails = binom.cdf(np.arange(n // 2 + 1), n, 0.5) if n else np.array([1.0])
    rank = int((2 * tails <= 1 - level).sum())
    if rank == 0:
        return Interval(math.nan, math.nan)
    return Interval(float(ordered[rank - 1]), float(ordered[n - rank]))


def signed_rank_p(differences: ArrayLike) -> float:
    """Returns the two-sided p-value of Wilcoxon's signed-rank test that paired differences are symmetric around 0.

    Zeros are ranked and then omitted (Pratt 1959); if all differences are zero, p is 1.

    Source: Wilcoxon, Biometrics Bulletin 1 (1945), 80-83.

    >>> signed_rank_p([1.0, 2.0, 3.0, 4.0, 5.0])  # 2 / 2**5
    0.0625
    """
    column = number_column(differences)
    if not (column != 0).any():
        return 1.0
    return float(wilcoxon(column, zero_method="pratt").pvalue)
