"""Equivalence of two arms, by two one-sided tests."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, stdtr

from robustness.stats.arrays import number_column, require_equal_shapes


def tost(
    differences: ArrayLike, groups: ArrayLike | None = None, *, margin: float = 0.02, bounded: bool = False
) -> float:
    r"""Returns the p-value of the two one-sided tests that a mean difference lies outside [-margin, margin].

    The larger of the p-values of $(\bar d + \delta)/s$ against larger and $(\bar d - \delta)/s$ against smaller
    values. For differences of right and wrong (all in {-1, 0, 1}) mean and standard error are Bonett and Price's,
    with one example more on each side, and the reference is the normal; otherwise Student's t. Differences of other
    scores between 0 and 1 (`bounded`), such as F1, get the same two examples: a few that hardly differ would
    otherwise pass for equivalent. With groups, s is the standard error over groups. Fewer than two units give nan.

    Source: Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15 (1987), 657-680; Bonett and Price,
    Journal of Educational and Behavioral Statistics 37 (2012), 479-488.

    Args:
        differences: Full minus PEFT, one number per example, shape (n,).
        groups: The group of each example, shape (n,); None: every example is its own.
        margin: The largest difference that does not matter, in the differences' unit.
        bounded: Whether the differences are of scores between 0 and 1.

    Raises:
        ValueError: margin is not above 0, or the shapes differ.

    >>> tost([0] * 1000) < 0.001
    True
    >>> tost([0] * 20) > 0.3
    True
    """
    if not margin > 0:
        raise ValueError(f"expected a margin above 0, got {margin}")
    column = number_column(differences)
    names = np.arange(len(column)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    require_equal_shapes(column, names)
    binary = bool(((column == 0) | (np.abs(column) == 1)).all())
    if len(column) and (binary or bounded):
        column = np.concatenate([column, [1.0, -1.0]])
        names = np.concatenate([names, [names.max() + 1, names.max() + 2]])
    n_units = int(names.max()) + 1 if len(names) else 0
    if n_units < 2:
        return math.nan
    mean = float(column.mean())
    residuals = np.bincount(names, weights=column - mean)
    error = math.sqrt(float((residuals**2).sum()) * n_units / (n_units - 1)) / len(column)
    if error == 0:
        return 0.0 if abs(mean) < margin else 1.0
    scores = -(mean + margin) / error, (mean - margin) / error
    return float(max(ndtr(score) if binary else stdtr(n_units - 1, score) for score in scores))
