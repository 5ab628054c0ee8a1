from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from robustness.definitions.tasks import find_task
from robustness.tasks.gold import GoldSpan
from robustness.tasks.graders import grader_for
from robustness.tasks.grading import (
    Grade,
    GradedText,
    LabelGrader,
    Rows,
    SpanGrader,
    StoredGrade,
    grade_finite,
    log_probabilities,
)

GRADER = LabelGrader(("negative", "positive"))


def row(*numbers: float) -> Rows:
    return np.array(numbers, dtype=np.float32)


def test_probabilities_are_the_log_softmax_and_stay_finite() -> None:
    scores = np.array([[1000.0, 998.0, -1000.0], [0.5, 0.25, -3.0]], dtype=np.float32)

    assert log_probabilities(scores) == pytest.approx(log_softmax(scores.astype(np.float64), axis=1))


def test_the_quality_of_a_label_is_the_probability_of_the_gold_one() -> None:
    grade = GRADER.grade(row(2, 0.5), GradedText(("fine",), label=1))

    assert (grade.correct, grade.response) == (False, "negative")
    assert grade.quality == pytest.approx(softmax([2, 0.5])[1])


@pytest.mark.parametrize(("label", "gold"), [(0, "negative"), (1, "positive"), (2, "2"), (-1, "-1")])
def test_a_label_outside_the_heads_range_is_a_problem_and_named_by_its_number(label: int, gold: str) -> None:
    asked = GradedText(("fine",), label=label)

    problem = GRADER.problem(asked)

    assert GRADER.gold(asked) == gold
    assert (problem is None) == (label in (0, 1))
    assert problem is None or "it has labels 0 to 1" in problem
    assert (grade_finite(GRADER, row(0, 1), asked) is None) == (problem is not None)


def test_rows_that_are_no_numbers_are_not_graded() -> None:
    assert grade_finite(GRADER, row(np.nan, 1), GradedText(("fine",))) is None


def test_a_task_has_the_grader_of_its_kind() -> None:
    assert grader_for(find_task("sst2")) == GRADER
    assert grader_for(find_task("squad")) == SpanGrader()


STORED = StoredGrade("fine", "positive", Grade(True, 0.9, "positive"))


@pytest.mark.parametrize(
    ("logits", "stored", "found"),
    [
        ((0, np.log(9)), Grade(True, 0.9, "positive"), None),
        ((0, np.log(9)), Grade(True, 0.9005, "positive"), None),  # rounding
        (
            (0, np.log(9)),
            Grade(True, 0.8, "positive"),
            "answers positive with probability 0.9000",
        ),
        ((np.log(9), 0), Grade(True, 0.1, "positive"), "the run says positive with 0.1000"),
        ((0, 0), Grade(True, 0.5, "positive"), None),  # a tie may fall either way
        ((0, np.log(9)), Grade(False, 0.9, "positive"), "stored as wrong with answer positive for gold positive"),
        ((0, np.log(9)), Grade(False, 0.9, "neutral"), "stored with answer neutral for gold positive"),
    ],
)
def test_a_stored_label_is_held_against_a_fresh_row(
    logits: tuple[float, float], stored: Grade, found: str | None
) -> None:
    told = GRADER.contradiction(row(*logits), StoredGrade("fine", "positive", stored), 1e-3)

    assert (told is None) == (found is None)
    assert found is None or found in str(told)


@pytest.mark.parametrize(("end", "found"), [(6, None), (10, "answers 'Denver won'; the run says 'Denver'")])
def test_a_stored_span_is_held_against_a_fresh_row(end: int, found: str | None) -> None:
    stored = StoredGrade("Denver won .", "Denver Broncos", Grade(False, 2 / 3, "Denver"))

    assert SpanGrader().contradiction(row(0.1, 0, end), stored, 1e-3) == found


def test_a_span_is_graded_against_all_gold_answers_and_called_by_the_first() -> None:
    asked = GradedText(("Who?", "Denver won ."), answers=(GoldSpan("Denver Broncos", 0), GoldSpan("Denver", 0)))

    assert SpanGrader().grade(row(0.1, 0, 6), asked) == Grade(True, 1.0, "Denver")
    assert SpanGrader().gold(asked) == "Denver Broncos"
    assert SpanGrader().problem(asked) is None


def test_many_rows_are_graded_as_each_alone() -> None:
    rows = np.array([[2, 0.5], [-1, 3], [1, 1]], dtype=np.float32)
    asked = [GradedText(("fine",), label=label) for label in (1, 1, 0)]

    expected = -log_softmax(rows.astype(np.float64), axis=1)[range(3), [1, 1, 0]]
    assert GRADER.losses(rows, asked) == pytest.approx(expected)
    assert GRADER.correct(rows, asked).tolist() == [False, True, True]  # of equals the first
    assert [GRADER.grade(*each).correct for each in zip(rows, asked, strict=True)] == [False, True, True]
