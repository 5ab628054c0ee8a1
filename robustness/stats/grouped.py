"""Scores of rows that come in groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustness.stats.arrays import number_column, outcome_column, require_equal_shapes


def worst_altered_rows(f1: ArrayLike, groups: ArrayLike, altered: ArrayLike) -> NDArray[np.intp]:
    """Returns, for each group in sorted order, the place of the row in adversarial SQuAD's official score.

    This is the altered row with the lowest F1, the first among equals. A group without altered rows gives its first
    unaltered row. The script of Jia and Liang computes the same (arXiv 1707.07328), although section 2.3 suggests
    that the original is always a candidate. Exact match is that row's own, not the lowest of the group.

    Args:
        f1: F1 of each row, shape (n,), in the order of the file.
        groups: The original question of each, shape (n,).
        altered: Whether the row is an altered form of its question, shape (n,).

    Raises:
        ValueError: The lengths differ, or a value of `altered` is neither true nor false.

    >>> worst_altered_rows([0.0, 0.5, 0.25, 1.0], ["a", "a", "a", "b"], [False, True, True, False])
    array([2, 3])
    """
    column, names, is_altered = number_column(f1), np.asarray(groups), outcome_column(altered)
    require_equal_shapes(column, names, is_altered)
    index = np.unique(names, return_inverse=True)[1]
    among_unaltered = np.where(is_altered, column, 0.0)  # an original's F1 does not decide which of two rows to take
    order = np.lexsort((among_unaltered, ~is_altered, index))  # stable: equals stay in the order of the file
    return order[np.flatnonzero(np.diff(index[order], prepend=-1))]
