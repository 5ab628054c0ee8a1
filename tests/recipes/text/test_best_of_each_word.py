"""CLARE's search on planted models, whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from robustness import Example
from robustness.engine.attack import ScoreRows
from robustness.engine.named_attack import NamedAttack
from robustness.engine.outcome import Outcome, Status
from robustness.engine.scheduler import Scheduler
from robustness.recipes.text.constraints import Constraints
from robustness.recipes.text.edits import WordEdits
from robustness.recipes.text.searches import BestOfEachWord, Greedy
from robustness.testsets.example import Texts

CLEAN = Example("1", ("a good film with a warm plot",), label=1)


@dataclass
class WordVictim:
    """Positive while the planted words weigh more than 0."""

    weights: dict[str, float]
    questions: list[list[str]] = field(default_factory=list)

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        self.questions.append([text[0] for text in texts])
        sums = [sum(self.weights.get(word, 0.0) for word in text[0].split()) for text in texts]
        return np.array([[-value, value] for value in sums], dtype=np.float32)


@dataclass
class Planted:
    """Replacements, insertions and merges by the word they start at."""

    replaced: dict[str, tuple[str, ...]] = field(default_factory=dict)
    inserted: dict[str, tuple[str, ...]] = field(default_factory=dict)
    merged: dict[str, tuple[str, ...]] = field(default_factory=dict)
    keeps_words = False

    def candidates(self, clean: Example, current: Example, index: int, changeable: Sequence[int]) -> list[Example]:
        word = current.words[index]
        found = [current.replace_word(index, form) for form in self.replaced.get(word, ())]
        found += [current.replace_word(index, f"{form} {word}") for form in self.inserted.get(word, ())]
        return found + [current.merge_words(index, form) for form in self.merged.get(word, ())]


def attack(source: Planted, victim: WordVictim, *, share: float | None = None, budget: int | None = None) -> Outcome:
    edits = WordEdits([], Constraints(max_changed_share=share), [source])
    named = NamedAttack("planted", "digest", BestOfEachWord(edits), max_queries=budget)
    return next(Scheduler(named, victim, seed=0).run([CLEAN]))


TWO = WordVictim({"good": 1.0, "okay": 0.5, "bad": 0.2, "warm": 1.0, "cold": -0.5, "cool": 0.5})


def test_the_most_harmful_edit_is_made_first_and_then_the_next() -> None:
    source = Planted(replaced={"good": ("okay", "bad"), "warm": ("cool", "cold"), "plot": ("tale",)})

    outcome = attack(source, TWO)

    assert outcome.status is Status.SUCCEEDED
    assert outcome.adversarial_text == ("a bad film with a cold plot",)
    assert outcome.queries == 2 + 2 + 1 + 1  # all edits of the clean text, then the two best together


def test_an_edit_that_flips_the_label_by_itself_needs_no_other() -> None:
    source = Planted(replaced={"good": ("bad",), "warm": ("cold",)})

    outcome = attack(source, WordVictim({"good": 1.0, "bad": -2.0, "warm": 0.5}))

    assert (outcome.status, outcome.queries) == (Status.SUCCEEDED, 1 + 1)
    assert outcome.adversarial_text == ("a bad film with a warm plot",)


def test_insertions_and_merges_are_made_beside_each_other() -> None:
    source = Planted(inserted={"good": ("hardly",)}, merged={"warm": ("drama",)})

    outcome = attack(source, WordVictim({"good": 1.0, "hardly": -1.5, "warm": 1.0, "drama": -0.2}))

    assert outcome.status is Status.SUCCEEDED
    assert outcome.adversarial_text == ("a hardly good film with a drama",)


def test_of_two_edits_that_touch_one_word_the_more_harmful_is_made() -> None:
    source = Planted(replaced={"film": ("flop",), "warm": ("cold",)}, merged={"good": ("thing",)})
    victim = WordVictim({"good": 1.0, "film": 0.5, "flop": 0.1, "warm": 2.0, "cold": 1.0})

    outcome = attack(source, victim)

    assert outcome.adversarial_text == ("a thing with a cold plot",)  # not "flop" inside what was merged


def test_an_edit_beyond_the_limit_is_left_out() -> None:
    source = Planted(replaced={"good": ("bad",), "warm": ("cold",)})

    outcome = attack(source, TWO, share=1 / 7)

    assert outcome.status is Status.FAILED
    assert outcome.modified_words == 1


@pytest.mark.parametrize(("budget", "words"), [(1, 0), (2, 1), (4, 1), (5, 1), (6, 2)])
def test_a_budget_ends_the_trying_and_what_was_found_is_used(budget: int, words: int) -> None:
    source = Planted(replaced={"good": ("okay", "bad"), "warm": ("cool", "cold"), "plot": ("tale",)})

    outcome = attack(source, TWO, budget=budget)

    assert outcome.queries <= budget
    assert outcome.modified_words == words


def test_greedy_goes_on_from_a_merge_without_touching_it_again() -> None:
    source = Planted(replaced={"film": ("flop",), "warm": ("cold",)}, merged={"good": ("thing",)})
    victim = WordVictim({"good": 1.0, "film": 0.5, "flop": 0.1, "warm": 2.0, "cold": 0.5})
    named = NamedAttack("planted", "digest", Greedy(WordEdits([], Constraints(), [source])))

    outcome = next(Scheduler(named, victim, seed=0).run([CLEAN]))

    assert outcome.adversarial_text == ("a thing with a cold plot",)
