from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from robustness import Example, Status
from robustness.engine.attack import ScoreRows
from robustness.engine.evaluation import evaluate_examples
from robustness.testsets.example import Texts


class WordVictim:
    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        good = np.array([float("good" in text[0]) for text in texts], dtype=np.float32)
        return np.stack([-good, good - 0.5], axis=1)


def outcome_of(row: str, label: int, original: str | None) -> tuple[Status, int | None, int | None, int]:
    texts = None if original is None else (original,)
    outcome = next(evaluate_examples(WordVictim(), [Example("1", (row,), label, original=texts)]))
    return outcome.status, outcome.clean_prediction, outcome.adversarial_prediction, outcome.forwards


def test_a_row_with_its_benign_original_is_judged_like_an_attack() -> None:
    assert outcome_of("gud film", 1, "good film") == (Status.SUCCEEDED, 1, 0, 2)
    assert outcome_of("good movie", 1, "good film") == (Status.FAILED, 1, 1, 2)
    assert outcome_of("good movie", 1, "fine film") == (Status.SKIPPED, 0, 1, 2)


def test_a_row_without_an_original_is_judged_on_itself() -> None:
    assert outcome_of("gud film", 1, None) == (Status.SUCCEEDED, None, 0, 1)
    assert outcome_of("good film", 1, None) == (Status.FAILED, None, 1, 1)


def test_outcomes_come_in_order_also_where_only_some_rows_have_originals() -> None:
    originals = [None if i % 3 else (f"good {i}",) for i in range(1300)]
    examples = [
        Example(str(i), (f"good {i}" if i % 2 else f"bad {i}",), i % 2, original=original)
        for i, original in enumerate(originals)
    ]

    outcomes = list(evaluate_examples(WordVictim(), examples))

    assert [outcome.example_id for outcome in outcomes] == [example.id for example in examples]
    assert [outcome.clean_prediction for outcome in outcomes] == [None if o is None else 1 for o in originals]
    assert all(outcome.adversarial_prediction == outcome.label for outcome in outcomes)


class NotANumber(WordVictim):
    """Breaks down on texts that hold a given word."""

    def __init__(self, word: str) -> None:
        self.word = word

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        rows = super().scores(texts)
        rows[[self.word in text[0] for text in texts], 1] = np.nan
        return rows


@pytest.mark.parametrize(("word", "predictions"), [("film", (None, 0)), ("movie", (1, None)), ("o", (None, None))])
def test_scores_that_are_no_numbers_are_errored_with_no_prediction(word: str, predictions: tuple[int | None]) -> None:
    """On the benign original, on the row, on both."""
    example = Example("1", ("gud movie",), 1, original=("good film",))

    outcome = next(evaluate_examples(NotANumber(word), [example]))

    assert (outcome.clean_prediction, outcome.adversarial_prediction) == predictions
    assert outcome.status is Status.ERRORED and outcome.error == "the victim's scores are not finite"
    assert outcome.clean_score is None and outcome.score is None


def test_an_original_of_another_label_is_graded_by_its_own() -> None:
    """A contrast set: "good film" (1) was changed into "bad film" (0)."""
    changed = Example("1", ("bad film",), 0, original=("good film",), original_label=1)

    outcome = next(evaluate_examples(WordVictim(), [changed]))

    assert outcome.status is Status.FAILED  # with the row's label the original were wrong: skipped
    assert (outcome.clean_prediction, outcome.adversarial_prediction) == (1, 0)
    assert (outcome.label, outcome.original_label) == (0, 1)
    assert outcome.clean_score == pytest.approx(1 / (1 + np.exp(-1.5)))  # of label 1: logits -1 and 0.5


def test_an_original_label_that_the_head_has_not_errors_its_row() -> None:
    changed = Example("1", ("bad film",), 0, original=("good film",), original_label=7)

    outcome = next(evaluate_examples(WordVictim(), [changed]))

    assert outcome.status is Status.ERRORED and "label 7 is outside the head's range" in str(outcome.error)
