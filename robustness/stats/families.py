"""P-values of many tests, adjusted together."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control

from robustness.stats.arrays import number_column


class Correction(StrEnum):
    """How the p-values of a family are adjusted."""

    HOLM = "holm"
    BENJAMINI_HOCHBERG = "benjamini-hochberg"


def adjust(p_values: ArrayLike, correction: Correction) -> NDArray[np.float64]:
    """Returns the adjusted p-values of one family, in the order given, shape (n,); raises what `holm` does.

    >>> adjust([0.01, 0.02], Correction.HOLM)
    array([0.02, 0.02])
    """
    return holm(p_values) if correction == Correction.HOLM else benjamini_hochberg(p_values)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    r"""Returns Holm's adjusted p-values of one family of tests, in the order given, shape (n,).

    With the m p-values sorted upwards, $$\tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1) p_{(j)}).$$
    Rejecting where the adjusted value is at most alpha keeps the chance of any false rejection at or below
    alpha, however the tests depend on each other. A nan (a test that could not be made) stays nan and does
    not count in m.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979), 65-70.

    Raises:
        ValueError: A p-value is outside [0, 1].

    >>> holm([0.01, float("nan"), 0.04, 0.03])
    array([0.03,  nan, 0.06, 0.06])
    """
    return _adjusted(p_values, _step_down)


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    r"""Returns Benjamini and Hochberg's adjusted p-values of one family of tests, in the order given, shape (n,).

    With the m p-values sorted upwards, $$\tilde p_{(i)} = \min_{j \ge i} \min(1, m p_{(j)} / j).$$
    Rejecting where the adjusted value is at most q keeps the expected share of false among all rejections at or
    below q, for tests that are independent or depend on each other positively. nan as in `holm`.

    Source: Benjamini and Hochberg, Journal of the Royal Statistical Society B 57 (1995), 289-300.

    Raises:
        ValueError: A p-value is outside [0, 1].

    >>> benjamini_hochberg([0.01, float("nan"), 0.04, 0.03])
    array([0.03,  nan, 0.04, 0.04])
    """
    return _adjusted(p_values, _step_up)


def _adjusted(
    p_values: ArrayLike, method: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    adjusted = number_column(p_values).copy()
    made = ~np.isnan(adjusted)
    if ((adjusted[made] < 0) | (adjusted[made] > 1)).any():
        raise ValueError("expected p-values between 0 and 1")
    if made.any():
        adjusted[made] = method(adjusted[made])
    return adjusted


def _step_down(values: NDArray[np.float64]) -> NDArray[np.float64]:
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def _step_up(values: NDArray[np.float64]) -> NDArray[np.float64]:
    adjusted: NDArray[np.float64] = false_discovery_control(values, method="bh")
    return adjusted
