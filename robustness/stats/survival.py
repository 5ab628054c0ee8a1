"""Queries to success as survival: how long an example withstands, with censoring where an attack gave up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from statsmodels.duration.api import SurvfuncRight, survdiff

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
    fitted = SurvfuncRight(spent, events.astype(int))
    times, surviving = fitted.surv_times.astype(np.float64), fitted.surv_prob.astype(np.float64)
    errors = fitted.surv_prob_se.astype(np.float64)
    low, high = _log_log_band(surviving, errors)
    return Survival(times, surviving, low, high)


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
    times = np.concatenate([number_column(full_queries), number_column(peft_queries)])
    events = np.concatenate([outcome_column(full_broken), outcome_column(peft_broken)])
    require_equal_shapes(times, events)
    arms = np.repeat([0, 1], [len(number_column(full_queries)), len(number_column(peft_queries))])
    if not events.any() or len(np.unique(arms)) < 2:
        return LogRank(math.nan, math.nan)
    try:
        statistic, p_value = survdiff(times, events.astype(int), arms)
    except np.linalg.LinAlgError:  # no variance: whenever something broke, everything left broke with it
        return LogRank(math.nan, math.nan)
    return LogRank(float(statistic), float(p_value))
