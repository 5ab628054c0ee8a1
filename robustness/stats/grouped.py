"""Scores of rows that come in groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustness.stats.arrays import number_column, require_equal_shapes


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
