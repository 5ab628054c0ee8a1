"""Queries to success as survival: how long an example withstands, with censoring where an attack gave up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc

from robustness.stats.arrays import number_column, outcome_column, require_equal_shapes


@dataclass(frozen=True, slots=True)
class Survival:
    """A Kaplan-Meier curve: a step function that starts at 1 and falls at each time, all of shape (steps,)."""

    times: NDArray[np.float64]
    surviving: NDArray[np.float64]
    """Share that withstands longer than the time."""
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @property
    def median(self) -> float:
        """The first time at which at most half are left; nan where more than half withstand all that was tried."""
        reached = np.flatnonzero(self.surviving <= 0.5)
        return float(self.times[reached[0]]) if len(reached) else math.nan


@dataclass(frozen=True, slots=True)
class LogRank:
    """What the log-rank test found."""

    statistic: float
    """Chi-squared with one degree of freedom."""
    p_value: float


def kaplan_meier(queries: ArrayLike, broken: ArrayLike) -> Survival:
    r"""Returns the share of examples that withstand more than so many queries.

    $$S(q) = \prod_{q_i \le q} \Big(1 - \frac{d_i}{n_i}\Big)$$ with $d_i$ examples broken at $q_i$ and $n_i$ still
    under attack. An attack that failed censors its example at what it spent: the mean queries of successes alone
    would flatter a weak attack. The 95 % band is the log-log transform of Greenwood's variance, clipped to [0, 1].

    Source: Kaplan and Meier, Journal of the American Statistical Association 53 (1958), 457-481.

    Args:
        queries: Spent on each example, shape (n,).
        broken: Whether the attack succeeded, shape (n,).

    Raises:
        ValueError: The shapes differ, a value of broken is neither 0 nor 1, or there are no examples.

    >>> kaplan_meier([1, 2, 2, 3], [1, 1, 0, 0]).surviving
    array([0.75, 0.5 ])
    """
    spent, events = number_column(queries), outcome_column(broken)
    require_equal_shapes(spent, events)
    if len(spent) == 0:
        raise ValueError("expected at least one example")
    if not events.any():
        nothing = np.zeros(0)
        return Survival(nothing, nothing, nothing, nothing)
    times, left, fallen = _life_table(spent, events)
    surviving: NDArray[np.float64] = np.cumprod(1 - fallen / left, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # where nobody is left: the band is a point there
        errors: NDArray[np.float64] = surviving * np.sqrt(np.cumsum(fallen / (left * (left - fallen))))
    low, high = _log_log_band(surviving, errors)
    return Survival(times, surviving, low, high)


def _life_table(
    spent: NDArray[np.float64], events: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The times at which something broke, how many were under attack until then and how many broke, (steps,) each."""
    times = np.unique(spent[events])
    left = len(spent) - np.searchsorted(np.sort(spent), times)
    broken = np.sort(spent[events])
    fallen = np.searchsorted(broken, times, side="right") - np.searchsorted(broken, times)
    return times, left.astype(np.float64), fallen.astype(np.float64)


def _log_log_band(
    surviving: NDArray[np.float64], errors: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    inside = (surviving > 0) & (surviving < 1)
    safe = np.where(inside, surviving, 0.5)
    width = 1.959963984540054 * np.where(inside, errors, 0.0) / np.abs(safe * np.log(safe))
    low, high = safe ** np.exp(width), safe ** np.exp(-width)
    return np.where(inside, low, surviving), np.where(inside, high, surviving)


def log_rank(
    full_queries: ArrayLike, full_broken: ArrayLike, peft_queries: ArrayLike, peft_broken: ArrayLike
) -> LogRank:
    """Returns the log-rank test that both arms withstand equally long.

    The arms are taken as independent samples. On the same examples outcomes agree more often than that, which makes
    the test conservative; McNemar's and the paired permutation test use the pairing. nan where nothing broke, or
    everything at one count.

    Source: Mantel, Cancer Chemotherapy Reports 50 (1966), 163-170.

    Args:
        full_queries: Spent on each example of the full checkpoint, shape (n,).
        full_broken: Whether the attack succeeded, shape (n,).
        peft_queries: As the first, of the PEFT checkpoint, shape (m,).
        peft_broken: As the second.

    Raises:
        ValueError: Shapes of an arm differ, or a value of broken is neither 0 nor 1.

    >>> log_rank([3, 4, 5], [1, 1, 1], [3, 4, 5], [1, 1, 1]).p_value
    1.0
    """
    full = number_column(full_queries), outcome_column(full_broken)
    peft = number_column(peft_queries), outcome_column(peft_broken)
    for arm in (full, peft):
        require_equal_shapes(*arm)
    times, left, fallen = _life_table(*(np.concatenate(columns) for columns in zip(full, peft, strict=True)))
    if not len(times) or not len(full[0]) or not len(peft[0]):
        return LogRank(math.nan, math.nan)
    at_risk = len(full[0]) - np.searchsorted(np.sort(full[0]), times)
    expected = fallen * at_risk / left
    variance = expected * (1 - at_risk / left) * (left - fallen) / np.maximum(left - 1, 1)
    if variance.sum() <= 0:  # whenever something broke, everything left broke with it
        return LogRank(math.nan, math.nan)
    statistic = float((full[1].sum() - expected.sum()) ** 2 / variance.sum())
    return LogRank(statistic, float(chdtrc(1, statistic)))
