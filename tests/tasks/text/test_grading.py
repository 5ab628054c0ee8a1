from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.tasks.gold import GoldSpan
from robustness.tasks.graders import grader_for
from robustness.tasks.grading import Grade, GradedText, StoredGrade, grade_finite
from robustness.tasks.task import Task, TaskKind
from robustness.tasks.text.answering import TextAnswer
from robustness.tasks.text.grading import TextGrader, TextRow
from robustness.tasks.text.metrics import TextMetric

NUMBERS = TextGrader(TextAnswer("number", TextMetric.FRACTION, max_new_tokens=8))
MEANINGS = TextGrader(TextAnswer("meaning-representation", TextMetric.SLOT_F1, max_new_tokens=8, stop=("\n",)))


def asked(*golds: str) -> GradedText:
    return GradedText(("How many?",), answers=tuple(GoldSpan(gold, 0) for gold in golds))


@given(response=st.text(max_size=61))
def test_a_row_holds_the_response_to_the_last_character(response: str) -> None:
    grader = TextGrader(TextAnswer("whole", TextMetric.EXACT, max_new_tokens=8))

    row = grader.row(0.5, response, cut=False)

    assert row.shape == (grader.width,) and np.isfinite(row).all()
    assert grader.response(row) == response
    assert (row[TextRow.LOSS], row[TextRow.CUT]) == (0.5, 0)


def test_a_response_that_does_not_fit_is_cut_and_says_so() -> None:
    row = NUMBERS.row(0, "9" * 100, cut=False)

    assert len(NUMBERS.response(row)) == NUMBERS.width - TextRow.FIRST
    assert row[TextRow.CUT] == 1
    assert grade_finite(NUMBERS, row, asked("9")).cut is True  # type: ignore[union-attr]


def test_responses_are_graded_by_parser_and_metric() -> None:
    said = [(0.25, "so 6/4"), (2, "so 2"), (3, "?")]
    rows = np.stack([NUMBERS.row(loss, text, cut=False) for loss, text in said])
    golds = [asked("#### 1.5"), asked("3", "2.0"), asked("None")]

    assert NUMBERS.losses(rows, golds).tolist() == [0.25, 2, 3]
    assert NUMBERS.correct(rows, golds).tolist() == [True, True, False]
    assert NUMBERS.points(rows, golds).tolist() == [1, 1, 0]
    assert grade_finite(NUMBERS, rows[0], golds[0]) == Grade(True, 1.0, "so 6/4", cut=False)
    assert NUMBERS.gold(golds[1]) == "3"


def test_quality_is_slot_f1() -> None:
    row = MEANINGS.row(1, "f(a[1], b[2])", cut=False)

    grade = MEANINGS.grade(row, asked("f(a[1])"))

    assert (grade.correct, grade.quality) == (False, pytest.approx(2 / 3))


@pytest.mark.parametrize(
    ("grader", "golds", "reason"),
    [
        (NUMBERS, (), "it has no gold text"),
        (NUMBERS, ("eighteen",), "the parser number finds no answer in the gold 'eighteen'"),
        (MEANINGS, ("f(a[1])\n",), r"holds the stop string '\\n'"),
        (MEANINGS, ("f(a[1]", "f(a[1])"), None),  # one of them can be given
    ],
)
def test_gold_that_cannot_be_answered_is_a_problem(
    grader: TextGrader, golds: tuple[str, ...], reason: str | None
) -> None:
    problem = grader.problem(asked(*golds))

    if reason is None:
        assert problem is None
    else:
        with pytest.raises(AssertionError, match=reason):
            raise AssertionError(problem)


def test_a_blind_answer_is_the_commonest_gold() -> None:
    blind = NUMBERS.blind_answer([asked("3"), asked("3.0"), asked("4"), asked("5", "3")])

    assert (blind.points, blind.answer) == (3 / 4, "always answering '3'")


def test_another_response_contradicts_the_stored_one() -> None:
    row = NUMBERS.row(1, "18", cut=False)

    assert NUMBERS.contradiction(row, StoredGrade("How many?", "18", Grade(True, 1, "18")), 0.01) is None
    said = NUMBERS.contradiction(row, StoredGrade("How many?", "18", Grade(False, 0, "17")), 0.01)
    assert said == "answers '18'; the run says '17'"


def test_text_tasks_have_their_grader() -> None:
    task = Task("sums", ("q",), (), ("q",), kind=TaskKind.TEXT, template="{q}", answer=NUMBERS.answer)

    assert grader_for(task) == NUMBERS


@pytest.mark.parametrize(
    ("loss", "response", "differs"),
    [(1.005, "18", False), (1.1, "18", True), (1.0, "17", True), (1.0, "1", True), (1.0, "18 ", True)],
)
def test_rows_differ_by_response_or_by_more_than_rounding_of_the_loss(
    loss: float, response: str, differs: bool
) -> None:
    known = NUMBERS.row(1.0, "18", cut=False)

    assert NUMBERS.differ(known, NUMBERS.row(loss, response, cut=False), 0.01) is differs
