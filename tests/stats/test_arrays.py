from __future__ import annotations

import numpy as np
import pytest

from robustness.stats.arrays import number_column, outcome_column, require_equal_shapes


def test_a_number_column_has_one_dimension() -> None:
    for values in (3.0, [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="one dimension"):
            number_column(values)


def test_outcomes_may_be_bools_or_zeros_and_ones() -> None:
    for values in ([True, False], [1, 0], [1.0, 0.0], np.array([True, False], dtype=object)):
        column = outcome_column(values)

        assert column.dtype == np.bool_
        assert column.tolist() == [True, False]


def test_no_outcomes_are_outcomes_too() -> None:
    assert outcome_column([]).shape == (0,)


@pytest.mark.parametrize("stranger", [2, -1, 0.5, np.nan])
def test_an_outcome_that_is_neither_zero_nor_one_is_refused(stranger: float) -> None:
    with pytest.raises(ValueError, match="0 or 1"):
        outcome_column([1, stranger])


def test_columns_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        require_equal_shapes(np.zeros(3), np.zeros((3, 1)))


def test_outcomes_have_one_dimension_be_they_bools_or_numbers() -> None:
    for values in (True, np.True_, np.ones((2, 2), dtype=bool), 1, [[1, 0]]):
        with pytest.raises(ValueError, match="one dimension"):
            outcome_column(values)
