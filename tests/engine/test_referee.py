from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robustness import Example
from robustness.engine.outcome import Outcome, Problem, Spent, Status
from robustness.engine.referee import check_proposal, judge
from robustness.errors import AttackError
from robustness.tasks.gold import GoldSpan
from robustness.tasks.grading import Grade, SpanGrader
from robustness.tasks.objective import Objective, ObjectiveKind


def example(text: str, label: int = 1) -> Example:
    return Example("1", (text,), label=label)


RIGHT, WRONG = Grade(True, 0.9, "positive"), Grade(False, 0.2, "negative")


@pytest.mark.parametrize(
    ("text", "fresh", "status"),
    [
        ("a bad film", WRONG, Status.SUCCEEDED),
        ("a bad film", RIGHT, Status.FAILED),
        ("a good film", WRONG, Status.FAILED),
    ],
)
def test_a_success_is_a_changed_text_with_a_wrong_fresh_answer(text: str, fresh: Grade, status: Status) -> None:
    spent = Spent(queries=3, forwards=5, seconds=0.5, backwards=2, zero_gradients=1)

    grades = (RIGHT, fresh)

    found = judge(example("a good film"), example(text), grades, gold="positive", objective=Objective(), spent=spent)

    assert (found.status, found.gold) == (status, "positive")
    assert (found.clean_correct, found.correct) == (True, fresh.correct)
    assert (found.clean_quality, found.quality) == (0.9, fresh.quality)
    assert (found.clean_response, found.response) == ("positive", fresh.response)
    assert Spent(found.queries, found.forwards, found.seconds, found.backwards, found.zero_gradients) == spent
    changed = text != "a good film"
    assert (found.modified_words, found.modified_share) == (int(changed), pytest.approx(changed / 3))
    assert (found.original_text, found.adversarial_text) == (("a good film",), (text,))


def test_a_text_without_words_has_no_share_of_modified_ones() -> None:
    spent = Spent()

    found = judge(example("?!"), example("??"), (RIGHT, RIGHT), gold="positive", objective=Objective(), spent=spent)

    assert found.modified_share is None


def test_a_problem_is_an_errored_outcome_whatever_its_reason_holds() -> None:
    found = Outcome.of(example("a"), "positive", Problem("half a pair: \ud800"))

    assert (found.status, found.error) == (Status.ERRORED, "half a pair: \\ud800")
    assert (found.correct, found.clean_correct, found.original_text, found.adversarial_text) == (None,) * 4


@pytest.mark.parametrize("label", [0, 2])
def test_a_proposal_keeps_its_examples_label(label: int) -> None:
    with pytest.raises(AttackError, match="label"):
        check_proposal(example("a good film"), example("a bad film", label=label))


def test_a_proposal_keeps_its_examples_id_and_segments() -> None:
    clean = example("a good film")

    assert check_proposal(clean, example("a bad film")) == example("a bad film")
    for other in (
        *(Example(name, ("a bad film",), label=1) for name in ("0", "2")),
        Example("1", ("a bad", "film"), label=1),
        "a bad film",
    ):
        with pytest.raises(AttackError):
            check_proposal(clean, other)


QUESTION = Example(
    "1",
    ("Who won?", "Rome won. Ann won."),
    label=1,
    attacked=(0,),
    answers=(GoldSpan("Rome", 0), GoldSpan("Ann", 10)),
)
ASKED = QUESTION.with_texts(["Who wins?", "Rome won. Ann won."])


@pytest.mark.parametrize(
    "proposal",
    [
        replace(ASKED, answers=QUESTION.answers[:1]),
        replace(ASKED, answers=()),
        replace(ASKED, attacked=()),  # without words, any prediction would count as kept
    ],
)
def test_a_proposal_keeps_its_examples_answers_and_attacked_segments(proposal: Example) -> None:
    assert check_proposal(QUESTION, ASKED) == ASKED

    with pytest.raises(AttackError, match="other answers or attacked segments"):
        check_proposal(QUESTION, proposal)


@pytest.mark.parametrize(
    ("start", "end", "status"), [(0, 4, Status.FAILED), (10, 13, Status.FAILED), (0, 8, Status.SUCCEEDED)]
)
def test_no_gold_answer_is_a_success_in_place_of_another(start: int, end: int, status: Status) -> None:
    rows = np.array([[0.1, 0, 4], [0.1, start, end]], dtype=np.float32)
    grades = (SpanGrader().grade(rows[0], QUESTION), SpanGrader().grade(rows[1], ASKED))

    found = judge(QUESTION, ASKED, grades, gold="Rome", objective=Objective(), spent=Spent())

    assert found.status is status


def test_a_kept_prediction_counts_words_that_only_the_proposal_protects() -> None:
    clean = example("a really good film")
    proposal = replace(example("really good film"), protected=((0, 0, 11),))

    assert proposal.words == ("film",)
    assert not Objective(ObjectiveKind.KEEP_PREDICTION, max_words=2).allows(clean, proposal)
