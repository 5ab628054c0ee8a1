"""Compares the effort that breaks an example between two arms."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr
from scipy.stats import rankdata

from robustness.stats.arrays import number_column, require_equal_shapes
from robustness.stats.signed import paired_permutation

EXACT_UNITS = 60
"""Up to this many differing units the distribution of signs is exact."""


def less_effort(reference: ArrayLike, candidate: ArrayLike) -> NDArray[np.float64]:
    r"""Returns for each example which arm breaks with less effort: 1 the candidate, -1 the reference, 0 a tie.

    Their mean is $P(C < R) - P(R < C)$, the probabilistic index of two paired efforts, with ties half on either side.
    An example that never breaks has infinite effort; two of these are a tie.

    Source: Vargha and Delaney, Journal of Educational and Behavioral Statistics 25 (2000), 101-132, for unpaired

    Args:
        reference: Effort that breaks each example on the reference, shape (n,); infinite where nothing does.
        candidate: The same on the candidate.

    Raises:
        ValueError: The shapes differ, or an effort is nan.

    >>> less_effort([5, 2, 3, float("inf")], [2, 5, 3, 9])
    array([ 1., -1.,  0.,  1.])
    """
    first, second = _efforts(reference, candidate)
    return (second < first).astype(np.float64) - (first < second)


def signed_effort_ranks(reference: ArrayLike, candidate: ArrayLike) -> NDArray[np.float64]:
    """Returns the signed ranks of Wilcoxon's test on paired efforts, shape (n,); above 0 the candidate takes less.

    Efforts of both arms are ranked together first, so that the result depends on no unit and `never` needs no number.
    The differences of these ranks are ranked by size; ties share their mean rank, and zeros have no rank. The sum of
    the returned ranks is the test's statistic; its paired permutation is the exact test.

    Source: Wilcoxon, Biometrics Bulletin 1 (1945), 80-83, on rank-transformed data (Conover and Iman, The American
    Statistician 35 (1981), 124-129).

    Raises:
        ValueError: The shapes differ, or an effort is nan.

    >>> signed_effort_ranks([5, 2, 3, float("inf")], [2, 4, 3, 9])
    array([ 3., -2.,  0.,  1.])
    """
    first, second = _efforts(reference, candidate)
    joint = rankdata(np.concatenate([first, second]))
    differences = joint[: len(first)] - joint[len(first) :]
    ranks, moved = np.zeros(len(first)), differences != 0
    ranks[moved] = rankdata(np.abs(differences[moved])) * np.sign(differences[moved])
    return ranks


def effort_p_value(signed_ranks: ArrayLike, groups: ArrayLike | None = None, *, rng: np.random.Generator) -> float:
    """Returns the two-sided p-value of the signed-rank test that both arms take equal effort.

    Uses the permutation distribution of signs: counted for up to 14 differing units, computed if the ranks are few
    and whole. Beyond 60 units its normal approximation is used. Groups flip as one. No examples give nan.

    Args:
        signed_ranks: The result of `signed_effort_ranks`, shape (n,).
        groups: The group of each example, shape (n,); None: every example is its own.
        rng: Draws signs, if they are drawn.

    >>> effort_p_value(signed_effort_ranks([5, 6, 7, 8], [1, 2, 3, 4]), rng=np.random.default_rng(0))
    0.125
    """
    ranks = number_column(signed_ranks)
    if len(ranks) == 0:
        return math.nan
    names = np.arange(len(ranks)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    require_equal_shapes(ranks, names)
    sums = np.bincount(names, weights=ranks)
    if np.count_nonzero(sums) <= EXACT_UNITS:
        return paired_permutation(2 * sums, rng=rng)  # doubled, because tied ranks can be halves
    return min(1.0, 2 * float(ndtr(-abs(sums.sum()) / math.sqrt(float((sums**2).sum())))))


def median_effort(efforts: ArrayLike) -> float:
    """Returns the effort that breaks half of the examples; nan if fewer than half ever break.

    >>> median_effort([3, 1, float("inf"), 2]), median_effort([3, float("inf"), float("inf")])
    (2.0, nan)
    """
    ordered = np.sort(number_column(efforts))
    if len(ordered) == 0:
        return math.nan
    middle = float(ordered[(len(ordered) - 1) // 2])
    return middle if math.isfinite(middle) else math.nan


def _efforts(reference: ArrayLike, candidate: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = number_column(reference), number_column(candidate)
    require_equal_shapes(first, second)
    if np.isnan(first).any() or np.isnan(second).any():
        raise ValueError("expected efforts that are numbers or infinite; leave unknown ones out first")
    return first, second
