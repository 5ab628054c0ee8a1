from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from robustness import Access, Example
from robustness.engine.attack import ScoreRows, Search
from robustness.engine.named_attack import NamedAttack
from robustness.engine.outcome import Status
from robustness.engine.scheduler import Scheduler
from robustness.tasks.objective import Objective, ObjectiveKind
from robustness.testsets.example import Texts

KEEP = Objective(ObjectiveKind.KEEP_PREDICTION, max_words=2)
CLEAN = Example("1", ("a really good film", "untouched words here"), label=1)


class GoodVictim:
    """Answers 1 where the first segment has the word `good`."""

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        return np.array([[0.5, "good" in text[0].split()] for text in texts], dtype=np.float32)


class Propose:
    """Returns one text without asking."""

    access = Access.SCORES

    def __init__(self, text: str) -> None:
        self._text = text

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        return example.with_texts([self._text, *example.texts[1:]])
        yield []


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("good", Status.SUCCEEDED),
        ("really good", Status.SUCCEEDED),
        ("a really good", Status.FAILED),  # too long
        ("a really good film", Status.FAILED),  # nothing went
        ("really", Status.FAILED),  # another answer
        ("good really", Status.FAILED),  # another order
        ("good movie", Status.FAILED),  # another word
        ("good good", Status.FAILED),  # a word twice
    ],
)
def test_a_kept_prediction_counts_only_on_few_words_of_the_clean_text(text: str, status: Status) -> None:
    attack = NamedAttack("reduce", "digest", Propose(text), objective=KEEP)

    outcome = next(Scheduler(attack, GoodVictim(), seed=0).run([CLEAN]))

    assert outcome.status is status


def test_words_emptied_in_place_are_no_words() -> None:
    emptied = CLEAN.replace_word(0, "").replace_word(1, "")

    assert len(emptied.words) == 4
    assert KEEP.allows(CLEAN, emptied)


def test_by_default_a_success_is_a_wrong_answer() -> None:
    assert Objective().reached(np.array([True, False])).tolist() == [False, True]
    assert Objective().allows(CLEAN, CLEAN.replace_word(2, "bad"))
    assert not Objective().allows(CLEAN, CLEAN)
