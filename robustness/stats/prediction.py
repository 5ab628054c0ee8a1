"""How well a number measured on each example predicts which examples break."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata, spearmanr

from robustness.stats.arrays import number_column, outcome_column, require_equal_shapes
from robustness.stats.intervals import Interval


@dataclass(frozen=True, slots=True)
class Prediction:
    """The area under the ROC curve, and its interval."""

    auc: float
    """0.5: no better than chance; above, larger values break more often."""
    interval: Interval


def auc(values: ArrayLike, broken: ArrayLike, *, level: float = 0.95) -> Prediction:
    r"""Returns the chance that a broken example has a larger value than one that withstands, ties counting half.

    The interval is DeLong's, on the logit scale so that it stays in [0, 1]; nan where all or none broke, and for a
    value that is nan.

    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), 837-845.

    Args:
        values: One number per example, shape (n,).
        broken: Whether the example breaks, shape (n,).
        level: Coverage aimed at.

    Raises:
        ValueError: The shapes differ, or a value of broken is neither 0 nor 1.

    >>> auc([1, 2, 3, 4], [0, 1, 0, 1]).auc
    0.75
    """
    column, events = number_column(values), outcome_column(broken)
    require_equal_shapes(column, events)
    positive, negative = column[events], column[~events]
    n_positive, n_negative = len(positive), len(negative)
    if n_positive == 0 or n_negative == 0 or np.isnan(column).any():
        return Prediction(math.nan, Interval(math.nan, math.nan))
    ranks: NDArray[np.float64] = rankdata(column)
    above = (ranks[events] - rankdata(positive)) / n_negative
    below = 1 - (ranks[~events] - rankdata(negative)) / n_positive
    area = float(above.mean())
    variance = _variance(above) / n_positive + _variance(below) / n_negative
    if not 0 < area < 1 or variance == 0:
        return Prediction(area, Interval(area, area) if n_positive * n_negative > 1 else Interval(math.nan, math.nan))
    width = float(norm.ppf((1 + level) / 2)) * math.sqrt(variance) / (area * (1 - area))
    logit = math.log(area / (1 - area))
    return Prediction(area, Interval(_expit(logit - width), _expit(logit + width)))


def rank_correlation(values: ArrayLike, others: ArrayLike) -> float:
    """Returns Spearman's rank correlation, nan where a column is constant or has fewer than two values.

    Source: Spearman, American Journal of Psychology 15 (1904), 72-101.

    >>> round(rank_correlation([1, 2, 3], [1, 4, 9]), 6)
    1.0
    """
    first, second = number_column(values), number_column(others)
    require_equal_shapes(first, second)
    if len(first) < 2 or len(np.unique(first)) < 2 or len(np.unique(second)) < 2:
        return math.nan
    return float(spearmanr(first, second).statistic)


def _variance(column: NDArray[np.float64]) -> float:
    return float(column.var(ddof=1)) if len(column) > 1 else 0.0


def _expit(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
