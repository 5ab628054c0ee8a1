"""Checks the arrays of the statistics once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def number_column(values: ArrayLike) -> NDArray[np.float64]:
    """Returns the values as float64, shape (n,).

    Raises:
        ValueError: The values have more or fewer than one dimension.

    >>> number_column([1, 0, -1])
    array([ 1.,  0., -1.])
    """
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise ValueError(f"expected one dimension, got the shape {column.shape}")
    return column


def outcome_column(values: ArrayLike) -> NDArray[np.bool_]:
    """Returns outcomes (right or wrong) as booleans, shape (n,).

    Raises:
        ValueError: A value is neither 0 nor 1 (nan included), or there is more than one dimension.

    >>> outcome_column([1, 0, True])
    array([ True, False,  True])
    """
    given = np.asarray(values)
    if given.dtype == np.bool_ and given.ndim == 1:
        return given
    column = number_column(values)
    if not np.isin(column, (0.0, 1.0)).all():
        raise ValueError("expected outcomes that are 0 or 1; leave errored examples out first")
    return column.astype(np.bool_)


def require_equal_shapes(*columns: NDArray[np.generic]) -> None:
    """Refuses columns that cannot be paired row by row.

    Raises:
        ValueError: The shapes differ.

    >>> require_equal_shapes(np.zeros(2), np.ones(3))
    Traceback (most recent call last):
        ...
    ValueError: expected columns of one shape, got (2,) and (3,)
    """
    shapes = [column.shape for column in columns]
    if len(set(shapes)) > 1:
        raise ValueError(f"expected columns of one shape, got {' and '.join(map(str, shapes))}")
