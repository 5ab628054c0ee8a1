from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from robustness import Example, Status
from robustness.engine.attack import ScoreRows
from robustness.engine.evaluation import CHUNK, evaluate
from robustness.tasks.gold import GoldSpan
from robustness.tasks.grading import LabelGrader, SpanGrader


class WordVictim:
    """Answers `good` where the text has that word; notes what it was asked."""

    grader = LabelGrader(("bad", "good"))

    def __init__(self) -> None:
        self.asked: list[str] = []

    def rows(self, asked: Sequence[Example]) -> ScoreRows:
        self.asked += [example.texts[0] for example in asked]
        good = np.array([float("good" in example.texts[0]) for example in asked], dtype=np.float32)
        return np.stack([-good, good - 0.5], axis=1)


def outcome_of(row: str, label: int, original: str | None) -> tuple[Status, bool | None, bool | None, int]:
    texts = None if original is None else (original,)
    outcome = next(evaluate(WordVictim(), [Example("1", (row,), label, original=texts)]))
    return outcome.status, outcome.clean_correct, outcome.correct, outcome.forwards


def test_a_row_with_its_benign_original_is_judged_like_an_attack() -> None:
    assert outcome_of("gud film", 1, "good film") == (Status.SUCCEEDED, True, False, 2)
    assert outcome_of("good movie", 1, "good film") == (Status.FAILED, True, True, 2)
    assert outcome_of("good movie", 1, "fine film") == (Status.SKIPPED, False, True, 2)


def test_a_row_without_an_original_is_judged_on_itself() -> None:
    assert outcome_of("gud film", 1, None) == (Status.SUCCEEDED, None, False, 1)
    assert outcome_of("good film", 1, None) == (Status.FAILED, None, True, 1)


def test_an_outcome_says_what_was_answered_how_right_it_is_and_what_is_gold() -> None:
    outcome = next(evaluate(WordVictim(), [Example("1", ("gud film",), 1, original=("good film",))]))

    assert (outcome.clean_response, outcome.response, outcome.gold) == ("good", "bad", "good")
    assert outcome.clean_quality == pytest.approx(1 / (1 + np.exp(-1.5)))  # logits -1 and 0.5
    assert outcome.quality == pytest.approx(1 / (1 + np.exp(0.5)))  # logits 0 and -0.5
    assert (outcome.modified_words, outcome.modified_share, outcome.similarity) == (1, 0.5, pytest.approx(7 / 9))


def test_outcomes_come_in_order_also_where_only_some_rows_have_originals() -> None:
    originals = [None if i % 3 else (f"good {i}",) for i in range(1300)]
    examples = [
        Example(
            str(i), (f"good {i}" if i % 2 else f"bad {i}",), i % 2, original=original, original_label=original and 1
        )
        for i, original in enumerate(originals)
    ]

    outcomes = list(evaluate(WordVictim(), examples))

    assert [outcome.example_id for outcome in outcomes] == [example.id for example in examples]
    assert [outcome.clean_correct for outcome in outcomes] == [None if o is None else True for o in originals]
    assert all(outcome.correct for outcome in outcomes)


def test_an_original_that_rows_share_is_asked_about_once_and_paid_for_by_the_first() -> None:
    """Three rows of one original, one of them a chunk later."""
    far = [Example(f"far {i}", (f"text {i}",), 0) for i in range(CHUNK)]
    rows = [Example(name, (f"gud {name}",), 1, original=("good film",)) for name in ("a", "b", "c")]
    victim = WordVictim()

    outcomes = {o.example_id: o for o in evaluate(victim, [*rows[:2], *far, rows[2]])}

    assert victim.asked.count("good film") == 1
    assert [outcomes[name].forwards for name in ("a", "b", "c")] == [2, 1, 1]
    assert all(outcomes[name].clean_correct for name in ("a", "b", "c"))


class NotANumber(WordVictim):
    """Breaks down on texts that hold a given word."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word = word

    def rows(self, asked: Sequence[Example]) -> ScoreRows:
        rows = super().rows(asked)
        rows[[self.word in example.texts[0] for example in asked], 1] = np.nan
        return rows


@pytest.mark.parametrize(("word", "found"), [("film", (None, False)), ("movie", (True, None)), ("o", (None, None))])
def test_scores_that_are_no_numbers_are_errored_with_no_answer(word: str, found: tuple[bool | None]) -> None:
    """On the benign original, on the row, on both."""
    example = Example("1", ("gud movie",), 1, original=("good film",))

    outcome = next(evaluate(NotANumber(word), [example]))

    assert (outcome.clean_correct, outcome.correct) == found
    assert outcome.status is Status.ERRORED and outcome.error == "the victim's scores are not finite"
    assert (outcome.clean_quality is None, outcome.quality is None) == tuple(each is None for each in found)


def test_an_original_of_another_label_is_graded_by_its_own() -> None:
    """A contrast set: "good film" (1) was changed into "bad film" (0)."""
    changed = Example("1", ("bad film",), 0, original=("good film",), original_label=1)

    outcome = next(evaluate(WordVictim(), [changed]))

    assert outcome.status is Status.FAILED  # with the row's label the original were wrong: skipped
    assert (outcome.clean_correct, outcome.correct) == (True, True)
    assert (outcome.clean_response, outcome.response) == ("good", "bad")
    assert (outcome.gold, outcome.original_gold) == ("bad", "good")
    assert outcome.clean_quality == pytest.approx(1 / (1 + np.exp(-1.5)))  # of label 1: logits -1 and 0.5


@pytest.mark.parametrize(("label", "original_label"), [(0, 7), (7, 1), (-1, None)])
def test_a_label_that_the_head_has_not_errors_its_row(label: int, original_label: int | None) -> None:
    changed = Example("1", ("bad film",), label, original=("good film",), original_label=original_label)

    outcome = next(evaluate(WordVictim(), [changed]))

    assert outcome.status is Status.ERRORED and outcome.gold == ("bad" if label == 0 else str(label))
    assert f"label {7 if label >= 0 else -1} is outside the head's range" in str(outcome.error)


class FirstWord:
    """Answers every question with the paragraph's first word."""

    grader = SpanGrader()

    def rows(self, asked: Sequence[Example]) -> ScoreRows:
        return np.array([[0.5, 0, len(e.texts[1].split()[0])] for e in asked], dtype=np.float32)


def test_questions_are_graded_by_exact_match_and_f1() -> None:
    golds = (GoldSpan("Denver Broncos", 0), GoldSpan("Denver", 0))
    original = ("who won ?", "Denver won .")
    altered = Example(
        "q", ("who won ?", "Broncos lost . Denver won ."), 1, attacked=(1,), original=original, answers=golds
    )

    outcome = next(evaluate(FirstWord(), [altered]))

    assert (outcome.status, outcome.clean_correct, outcome.correct) == (Status.SUCCEEDED, True, False)
    assert (outcome.clean_quality, outcome.quality) == (1, pytest.approx(2 / 3))  # one word of two
    assert (outcome.clean_response, outcome.response, outcome.gold) == ("Denver", "Broncos", "Denver Broncos")
