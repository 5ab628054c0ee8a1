"""Input reduction on planted models, and beside TextAttack 0.3.11's own."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness import Example
from robustness.engine.attack import ScoreRows
from robustness.engine.outcome import Outcome, Status
from robustness.engine.scheduler import Scheduler
from robustness.recipes.building import find_attack
from robustness.testsets.example import Texts

STATUS = {"SuccessfulAttackResult": "succeeded", "FailedAttackResult": "failed"}


class PlantedVictim:
    """Positive where `good` is read, the surer the fewer words stand beside it; remembers the questions."""

    def __init__(self) -> None:
        self.seen: list[Texts] = []

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        self.seen += texts
        words = [text[0].split() for text in texts]
        return np.array([[0.0, ("good" in w) * 2 - 1 - 0.01 * len(w)] for w in words], dtype=np.float32)


def reduce(text: str, *, max_queries: int | None = None) -> Outcome:
    attack = replace(find_attack("input-reduction"), max_queries=max_queries)
    return next(Scheduler(attack, PlantedVictim(), seed=0).run([Example("1", (text,), label=1)]))


def test_the_one_word_that_is_read_is_left_in_the_known_number_of_queries() -> None:
    outcome = reduce("a really good film")

    assert (outcome.status, outcome.adversarial_text) == (Status.SUCCEEDED, ("good ",))
    assert (outcome.clean_correct, outcome.correct) == (True, True)
    assert outcome.queries == 4 + 3  # each word away once, then the three that may go
    assert (outcome.modified_words, outcome.modified_share) == (3, 0.75)


def test_a_reduction_that_stops_short_of_the_goal_is_a_failure() -> None:
    class Both(PlantedVictim):
        def scores(self, texts: Sequence[Texts]) -> ScoreRows:
            return np.array([[0.5, {"good", "film"} <= set(text[0].split())] for text in texts], dtype=np.float32)

    outcome = next(
        Scheduler(find_attack("input-reduction"), Both(), seed=0).run([Example("1", ("a good film",), label=1)])
    )

    assert (outcome.status, outcome.adversarial_text) == (Status.FAILED, ("good film",))


@pytest.mark.parametrize("text", ["good", "good.", "... good !"])
def test_one_word_cannot_be_reduced(text: str) -> None:
    outcome = next(
        Scheduler(find_attack("input-reduction"), AlwaysPositive(), seed=0).run([Example("1", (text,), label=1)])
    )

    assert (outcome.status, outcome.queries, outcome.adversarial_text) == (Status.FAILED, 0, (text,))


class AlwaysPositive:
    """Answers 1 whatever it reads."""

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        return np.tile(np.array([0.0, 1.0], dtype=np.float32), (len(texts), 1))


@given(text=st.text(max_size=40))
def test_a_model_that_reads_nothing_is_reduced_to_one_word_of_any_text(text: str) -> None:
    example = Example("1", (text,), label=1)
    outcome = next(Scheduler(find_attack("input-reduction"), AlwaysPositive(), seed=0).run([example]))

    assert (outcome.status is Status.SUCCEEDED) == (len(example.words) > 1)


@given(budget=st.integers(1, 12))
def test_success_never_falls_as_the_budget_grows(budget: int) -> None:
    small, large = (reduce("a really good film tonight", max_queries=each) for each in (budget, budget + 3))

    assert small.queries <= budget
    assert large.status is Status.SUCCEEDED or small.status is Status.FAILED


class LetterVictim:
    """A linear model of letter pairs: every word moves its scores."""

    def __init__(self) -> None:
        self._weights = np.random.default_rng(5).normal(size=(997, 2))

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        return np.stack([self._score(text[0]) for text in texts]).astype(np.float32)

    def _score(self, text: str) -> Any:
        pairs = [(ord(a) * 31 + ord(b)) % 997 for a, b in pairwise(f" {text} ")]
        return self._weights[pairs].sum(axis=0) / 6


@pytest.fixture(scope="module")
def sentences(shared_data: Path) -> list[str]:
    with (shared_data / "glue/SST-2/dev.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row["sentence"].strip() for row in rows[:30]]


def build_textattacks(textattack: Any, victim: Any) -> Any:
    """TextAttack's recipe; its goal is counted, not maximized, with which no result is a success."""
    from textattack.attack_recipes import InputReductionFeng2018

    class Wrapper(textattack.models.wrappers.ModelWrapper):  # type: ignore[misc, name-defined]
        model = None

        def __call__(self, texts: list[str]) -> Any:
            return victim.scores([(text,) for text in texts])

    attack = InputReductionFeng2018.build(Wrapper())
    attack.goal_function.maximizable = False
    return attack


def carry_places_over(attack: Any) -> None:
    """Lets the search delete the words that it ranked: their places in what is left, not in the clean text."""
    original = attack.get_transformations
    attack.search_method.get_transformations = lambda *args, **kwargs: original(*args, **kwargs, shifted_idxs=True)


def settle_ties(attack: Any) -> None:
    """Takes words that rank the same in reading order, which TextAttack's sort leaves open."""

    def order(text: Any) -> Any:
        indices = sorted(attack.get_indices_to_order(text)[1])
        results, is_over = attack.search_method.get_goal_results([text.delete_word_at_index(i) for i in indices])
        ranks = np.argsort([-float(result.score) for result in results], kind="stable")
        return np.array(indices)[ranks], is_over

    attack.search_method._get_index_order = order


def side_by_side(textattack: Any, sentences: list[str], *mend: Callable[[Any], None]) -> list[tuple[Outcome, Any]]:
    victim = LetterVictim()
    labels = victim.scores([(sentence,) for sentence in sentences]).argmax(axis=1)
    examples = [Example(str(i), (s,), int(y)) for i, (s, y) in enumerate(zip(sentences, labels, strict=True))]
    ours = {o.example_id: o for o in Scheduler(find_attack("input-reduction"), victim, seed=0).run(examples)}
    theirs = build_textattacks(textattack, victim)
    for change in mend:
        change(theirs)
    texts = [textattack.shared.AttackedText(example.texts[0]) for example in examples]
    return [(ours[e.id], theirs.attack(text, e.label)) for e, text in zip(examples, texts, strict=True)]


def statuses_equal(pairs: list[tuple[Outcome, Any]]) -> list[bool]:
    return [outcome.status == STATUS[type(result).__name__] for outcome, result in pairs]


def texts_equal(pairs: list[tuple[Outcome, Any]]) -> list[bool]:
    return [o.adversarial_text == (r.perturbed_result.attacked_text.text,) for o, r in pairs]


def test_statuses_are_textattacks_once_the_places_of_words_are_carried_over(
    textattack: Any, sentences: list[str]
) -> None:
    as_it_comes = side_by_side(textattack, sentences)
    carried = side_by_side(textattack, sentences, carry_places_over)
    settled = side_by_side(textattack, sentences, carry_places_over, settle_ties)

    assert np.mean(statuses_equal(carried)) >= 0.95
    assert all(statuses_equal(settled))
    assert all(texts_equal(settled))
    assert {outcome.status for outcome, _ in settled} == {Status.SUCCEEDED, Status.FAILED}
    for (ours, theirs), is_equal in zip(as_it_comes, statuses_equal(as_it_comes), strict=True):
        left = theirs.perturbed_result.attacked_text.num_words
        assert is_equal or (ours.status is Status.SUCCEEDED and left > 1)  # its places ran past the end
