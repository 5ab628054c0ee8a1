"""Scores of rows that come in groups: the worst of a group, and a paired test that draws whole groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import permutation_test

from robustness.stats.arrays import number_column, require_equal_shapes

RESAMPLES = 9_999
"""The smallest p-value of a test that is not exact is 2 / (RESAMPLES + 1)."""


@dataclass(frozen=True, slots=True)
class SignFlipTest:
    """What a sign-flip test found; swapping the arms changes nothing."""

    name: str
    p_value: float
    # Two-sided, not adjusted for other tests.


def worst_per_group(values: ArrayLike, groups: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.generic]]:
    r"""Returns the smallest value of each group, and the groups in the same (sorted) order.

    $$w_g = \min_{i \in g} v_i$$ is Jia and Liang's score of a question: the worst over the original and its altered
    forms (arXiv 1707.07328, section 2.3).

    Args:
        values: Scores, shape (n,).
        groups: The group of each, shape (n,).

    Raises:
        ValueError: The lengths differ.

    >>> worst_per_group([1.0, 0.25, 0.5], ["a", "a", "b"])[0]
    array([0.25, 0.5 ])
    """
    column, names = number_column(values), np.asarray(groups)
    require_equal_shapes(column, names)
    known, index = np.unique(names, return_inverse=True)
    worst = np.full(len(known), np.inf)
    np.minimum.at(worst, index, column)
    return worst, known


def sign_flip_test(
    differences: ArrayLike, groups: ArrayLike | None = None, *, rng: np.random.Generator
) -> SignFlipTest:
    r"""Tests paired differences of any scale, such as of F1: were the arms alike, each sign would be a coin's.

    Under the null hypothesis the sum of a group's differences is as likely s as -s. The p-value is the share of all
    assignments of signs (of 9,999 random ones where there are many) whose total is at least as far from 0. Whole
    groups flip together, so rows of one source question are not counted as independent.

    Source: Fisher, The Design of Experiments (1935), section 21; as implemented in SciPy.

    Args:
        differences: Full minus PEFT, shape (n,).
        groups: The group of each, shape (n,); None where every row is its own.
        rng: Draws the signs.

    Raises:
        ValueError: The lengths differ.

    >>> sign_flip_test([0.5, 0.5, 1.0], rng=np.random.default_rng(0)).p_value  # 2 of 8 assignments
    0.25
    """
    column = number_column(differences)
    if groups is not None:
        names = np.asarray(groups)
        require_equal_shapes(column, names)
        _, index = np.unique(names, return_inverse=True)
        column = np.bincount(index, weights=column).astype(np.float64)
    column = column[column != 0]  # a zero has no sign to flip
    if len(column) < 2:  # one sign, flipped or not, is as far from 0
        return SignFlipTest("sign-flip", 1.0)
    found = permutation_test(
        (column,), np.sum, permutation_type="samples", n_resamples=RESAMPLES, batch=500, vectorized=True, rng=rng
    )
    return SignFlipTest("sign-flip", min(1.0, float(found.pvalue)))
