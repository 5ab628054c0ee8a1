from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

from robustness import Access, Answer, BudgetExhausted, Example, Losses, Scores
from robustness.engine.attack import Search
from robustness.engine.named_attack import NamedAttack
from robustness.engine.outcome import Outcome, Status
from robustness.engine.scheduler import Scheduler
from robustness.tasks.abilities import Ability
from robustness.tasks.grading import LabelGrader, Rows
from robustness.tasks.objective import Objective, ObjectiveKind

CLEAN = Example("1", ("a really good film",), label=1)


class Reads:
    """Answers 1 the surer, the more often it reads `good`."""

    grader = LabelGrader(("bad", "good"))

    def __init__(self, can: frozenset[Ability] = frozenset({Ability.LOSSES, Ability.SCORES})) -> None:
        self.can = can
        self.asked: list[Example] = []

    def rows(self, asked: Sequence[Example]) -> Rows:
        self.asked += asked
        return np.array([[0.5, example.texts[0].split().count("good")] for example in asked], dtype=np.float32)


class Asks:
    """Runs a function as its search."""

    access = Access.SCORES

    def __init__(self, search: Callable[[Example], Iterator[Any]], needs: frozenset[Ability]) -> None:
        self._search = search
        self.needs = needs

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        proposal = yield from self._search(example)  # type: ignore[misc]
        return proposal or example


SCORES = frozenset({Ability.SCORES})


def run(
    search: Callable[[Example], Any],
    victim: Reads | None = None,
    *,
    needs: frozenset[Ability] = SCORES,
    **named: Any,
) -> Outcome:
    attack = NamedAttack("asks", "digest", Asks(search, needs), **named)
    return next(Scheduler(attack, victim or Reads(), seed=0).run([CLEAN]))


def test_an_answer_has_the_losses_of_the_gold_label_and_whether_the_answer_is_wrong() -> None:
    found: list[Answer] = []

    def search(example: Example) -> Iterator[Any]:
        texts = ["a good good film", "a film"]
        found.append((yield [example.with_texts([text]) for text in texts]))

    outcome = run(search)

    expected = [-log_softmax([0.5, count])[1] for count in (2, 0)]
    np.testing.assert_allclose(found[0].losses, expected, rtol=1e-12)
    assert found[0].losses.dtype == np.float64
    assert found[0].reached.tolist() == [False, True]
    assert (outcome.status, outcome.queries) == (Status.FAILED, 2)


def test_where_an_answer_is_to_be_kept_it_is_reached_while_the_answer_is_right() -> None:
    found: list[Answer] = []

    def search(example: Example) -> Iterator[Any]:
        found.append((yield [example, example.with_texts(["good"]), example.with_texts(["film"])]))
        return example.with_texts(["good"])

    outcome = run(search, objective=Objective(ObjectiveKind.KEEP_PREDICTION, max_words=1))

    assert found[0].reached.tolist() == [True, True, False]
    assert outcome.status is Status.SUCCEEDED


def test_whether_a_text_of_known_loss_is_a_success_is_asked_without_a_query_or_a_forward_pass() -> None:
    def search(example: Example) -> Iterator[Any]:
        candidates = [example.replace_word(i, "x") for i in range(4)]
        losses = (yield Losses(candidates)).losses
        worst = candidates[int(losses.argmax())]
        answer = yield [worst]
        assert answer.reached[0] and answer.losses[0] == losses.max()
        return worst

    victim = Reads()
    outcome = run(search, victim, max_queries=4)

    assert outcome.status is Status.SUCCEEDED
    assert (outcome.queries, outcome.forwards) == (4, 1 + 4 + 1)
    assert len(victim.asked) == 6


@pytest.mark.parametrize(
    ("questions", "queries"),
    [
        ("a", 1),
        ("aa", 2),  # a known text is a query all the same
        ("La a", 1),
        ("La Sa", 1),
        ("La a a", 2),  # free once
        ("La aa", 2),
        ("La ab", 2),
        ("La La", 2),
        ("a La", 2),
        ("La Lb ab", 2),
        ("Lo o", 0),  # the clean text never is one
    ],
)
def test_every_candidate_is_charged_but_once_what_only_its_loss_is_known_of(questions: str, queries: int) -> None:
    texts = {"a": "good a", "b": "good b", "o": CLEAN.texts[0]}
    kinds = {"L": Losses, "S": Scores}

    def search(example: Example) -> Iterator[Any]:
        for word in questions.split():
            kind = kinds.get(word[0], list)
            yield kind([example.with_texts([texts[letter]]) for letter in word if letter in texts])

    assert run(search).queries == queries
    assert run(search, max_queries=queries).error is None


def test_a_refused_question_books_nothing() -> None:
    def search(example: Example) -> Iterator[Any]:
        first, second = example.replace_word(0, "x"), example.replace_word(1, "x")
        yield Losses([first])
        try:
            yield [first, second]
        except BudgetExhausted:
            return first

    assert run(search, max_queries=1).queries == 1


def _reached_of_losses(example: Example) -> Iterator[Any]:
    answer = yield Losses([example])
    answer.reached  # noqa: B018


def _unasked_scores(example: Example) -> Iterator[Any]:
    answer = yield [example]
    answer.scores  # noqa: B018


def _bare_example(example: Example) -> Iterator[Any]:
    yield example


def _generator(example: Example) -> Iterator[Any]:
    yield (example for _ in range(2))


def _empty_losses(example: Example) -> Iterator[Any]:
    yield Losses([])


def _other_label(example: Example) -> Iterator[Any]:
    yield [replace(example, label=0)]


@pytest.mark.parametrize(
    ("search", "advice"),
    [
        (_reached_of_losses, "yield the list itself: yield candidates"),
        (_unasked_scores, "yield Scores(candidates)"),
        (_bare_example, "answer = yield [candidate]"),
        (_generator, "expected a list of Examples, or Losses(list), Scores(list) or Gradients(list)"),
        (_empty_losses, "ask about at least one candidate"),
        (_other_label, "with another label or other answers; make candidates with"),
    ],
)
def test_a_wrong_question_is_refused_with_what_to_yield(search: Callable[[Example], Any], advice: str) -> None:
    outcome = run(search)

    assert outcome.status is Status.ERRORED
    assert advice in str(outcome.error)


def test_scores_of_a_victim_without_them_are_refused_with_what_to_yield() -> None:
    def search(example: Example) -> Iterator[Any]:
        yield Scores([example])

    outcome = run(search, Reads(frozenset({Ability.LOSSES})))

    assert "this victim lacks; yield the list itself" in str(outcome.error)


def test_scores_that_an_attack_has_not_declared_are_refused_whatever_the_victim() -> None:
    def search(example: Example) -> Iterator[Any]:
        yield Scores([example])

    outcome = run(search, needs=frozenset())

    assert "set needs = frozenset({Ability.SCORES}) in the class" in str(outcome.error)
