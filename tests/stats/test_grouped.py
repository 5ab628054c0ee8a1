from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.stats.grouped import worst_altered_rows

Row = tuple[float, str, bool]
"""F1, question, and whether the row is altered."""


def test_the_official_score_takes_the_worst_altered_row_and_not_a_worse_original() -> None:
    taken = worst_altered_rows([0.0, 0.75, 0.5], ["a", "a", "a"], [False, True, True])

    assert taken.tolist() == [2]


def test_of_equally_bad_altered_rows_the_official_score_takes_the_first() -> None:
    taken = worst_altered_rows([1.0, 0.5, 0.25, 0.25], ["a", "a", "a", "a"], [False, True, True, True])

    assert taken.tolist() == [2]


def test_the_official_score_takes_the_original_only_where_no_row_of_the_question_is_altered() -> None:
    taken = worst_altered_rows([1.0, 0.5, 0.9], ["b", "a", "b"], [False, False, True])

    assert taken.tolist() == [1, 2]


def test_no_rows_have_no_worst_row() -> None:
    assert worst_altered_rows([], np.empty(0, dtype=object), np.empty(0, dtype=bool)).tolist() == []


def test_columns_of_other_lengths_have_no_worst_row() -> None:
    with pytest.raises(ValueError, match="expected columns of one shape"):
        worst_altered_rows([0.5], ["a", "b"], [True, False])


def read_like_the_script(rows: list[Row]) -> dict[str, int]:
    """Row by row with dicts: an altered row replaces the original, and any altered row that is better than it."""
    taken: dict[str, int] = {}
    for place, (f1, question, altered) in enumerate(rows):
        if not altered:
            taken.setdefault(question, place)
        elif question not in taken or not rows[taken[question]][2] or f1 < rows[taken[question]][0]:
            taken[question] = place
    return taken


ROWS = st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.sampled_from("abcde"), st.booleans())


@given(st.lists(ROWS, min_size=1))
def test_the_official_rows_are_those_of_a_loop_over_the_file(rows: list[Row]) -> None:
    f1, questions, altered = zip(*rows, strict=True)

    taken = worst_altered_rows(f1, np.array(questions, dtype=object), altered)

    expected = read_like_the_script(rows)
    assert taken.tolist() == [expected[question] for question in sorted(expected)]
