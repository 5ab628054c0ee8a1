"""A monotone test of trends over doses, exact within training seeds."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustness.stats.arrays import number_column, require_equal_shapes

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MonotoneTest:
    """Whether values rise or fall with the dose within seeds."""

    statistic: float
    """Mean of Kendall's tau-a over pairs of checkpoints of one seed, in [-1, 1]; above 0 values rise."""
    p_value: float
    """Two-sided, exact; nan without a pair of doses."""


def monotone_trend(values: ArrayLike, doses: ArrayLike, seeds: ArrayLike) -> MonotoneTest:
    r"""Returns the exact test that the values of each seed are in random order of their doses.

    The statistic is the number of pairs of one seed that rise with the dose less the number that fall, over all
    seeds. Within a seed of n values, of which $t_1, t_2, \dots$ are equal, the falling pairs of a random order are
    distributed as the coefficients of $$\frac{[n]_q!}{\prod_i [t_i]_q!}, \quad [n]_q! = \prod_{k \le n} (1 + q +
    \dots + q^{k-1}).$$ Seeds are independent, so their distributions are convolved. Values of one seed and dose are
    averaged first. Swapping the order of doses changes the sign and not the p-value.

    Source: Jonckheere, Biometrika 41 (1954), 133-145, with seeds as strata; Kendall, Biometrika 30 (1938), 81-93;
    MacMahon, Combinatory Analysis (1915), on inversions of words with equal letters.

    Args:
        values: Of each checkpoint, shape (n,).
        doses: Of each checkpoint, shape (n,).
        seeds: Training seed of each checkpoint, shape (n,).

    Raises:
        ValueError: The shapes differ.

    >>> monotone_trend([1, 2, 3, 4], [1, 2, 3, 4], [0, 0, 0, 0])  # 2 of 24 orders
    MonotoneTest(statistic=1.0, p_value=0.0833...)
    """
    y, x = number_column(values), number_column(doses)
    seed = np.unique(np.asarray(seeds), return_inverse=True)[1]
    require_equal_shapes(y, x, seed)
    score, pairs, distribution = 0, 0, np.ones(1)
    reach = 0  # scores are -reach, -reach + 1, ..., reach
    for each in range(int(seed.max(initial=-1)) + 1):
        ordered = _mean_by_dose(y[seed == each], x[seed == each])
        rises = np.sign(ordered[None, :] - ordered[:, None])[np.triu_indices(len(ordered), 1)]
        score, pairs = score + int(rises.sum()), pairs + len(rises)
        own = _score_distribution(ordered)
        distribution, reach = np.convolve(distribution, own), reach + (len(own) - 1) // 2
    if not pairs:
        return MonotoneTest(math.nan, math.nan)
    sizes = np.abs(np.arange(-reach, reach + 1))
    return MonotoneTest(score / pairs, min(1.0, float(distribution[sizes >= abs(score)].sum())))


def _mean_by_dose(values: Column, doses: Column) -> Column:
    """In order of the dose, rounded so that equal values stay equal."""
    _, place = np.unique(doses, return_inverse=True)
    return np.asarray((np.bincount(place, weights=values) / np.bincount(place)).round(12))


def _score_distribution(values: Column) -> Column:
    """Probabilities of the scores -m to m, m being the pairs of unequal values."""
    counts = np.ones(1)
    for k in range(2, len(values) + 1):
        counts = np.convolve(counts, np.ones(k))
    for size in Counter(values.tolist()).values():
        for k in range(2, size + 1):
            counts = _divided(counts, k)
    probabilities = np.zeros(2 * len(counts) - 1)
    probabilities[::2] = counts / counts.sum()  # a further falling pair lowers the score by two
    return probabilities


def _divided(counts: Column, k: int) -> Column:
    """The polynomial divided by 1 + q + ... + q^(k-1), which leaves no rest."""
    result = np.zeros(len(counts) - k + 1)
    for place in range(len(result)):
        result[place] = counts[place] - result[max(0, place - k + 1) : place].sum()
    return result


def critical_score(doses: ArrayLike, seeds: ArrayLike, *, alpha: float = 0.05) -> int:
    """Returns the least score that unequal values reach by chance with a probability of at most alpha, one-sided.

    The score counts pairs of one seed that rise with the dose, less the ones that fall.

    >>> critical_score([1, 2, 3] * 3, [0, 0, 0, 1, 1, 1, 2, 2, 2])  # odd scores: 7 has 7 of 216
    6
    """
    distribution = np.ones(1)
    column, names = number_column(doses), np.asarray(seeds)
    for each in np.unique(names):
        distribution = np.convolve(distribution, _score_distribution(np.unique(column[names == each])))
    reach = (len(distribution) - 1) // 2
    tails = distribution[::-1].cumsum()[::-1]
    return int(np.arange(-reach, reach + 2)[np.append(tails, 0.0) <= alpha][0])
