"""Questions: what a search may yield, and what it is charged for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from robustness.engine.attack import Access, Gradients, Losses, Question, Scores
from robustness.engine.referee import refuse_broken_text
from robustness.errors import AttackError
from robustness.tasks.abilities import Ability
from robustness.testsets.example import Example, Texts

EXPECTED = "expected a list of Examples, or Losses(list), Scores(list) or Gradients(list)"


def candidates_of(question: Question) -> Sequence[Example]:
    """Returns what a question is about."""
    return question.candidates if isinstance(question, (Losses, Scores, Gradients)) else question


def check_question(
    question: Question, example: Example, access: Access, needs: frozenset[Ability], can: frozenset[Ability]
) -> None:
    """Refuses what is no question, or one that cannot be answered or was not declared.

    Args:
        question: what a search has yielded.
        example: under attack.
        access: the attack's.
        needs: what the attack says it asks.
        can: what the victim may be asked.

    Raises:
        AttackError: says what to yield, what to declare, or what the victim cannot be asked.
    """
    candidates = candidates_of(question)
    if isinstance(candidates, Example):
        raise AttackError(f"yielded an Example; {EXPECTED}: answer = yield [candidate]")
    if not isinstance(candidates, Sequence) or not all(isinstance(each, Example) for each in candidates):
        raise AttackError(f"yielded {type(candidates).__name__}; {EXPECTED}")
    if not candidates:
        raise AttackError("yielded an empty list; ask about at least one candidate")
    if isinstance(question, Gradients) and access is not Access.GRADIENTS:
        raise AttackError("asked for gradients; its access is scores: set access = Access.GRADIENTS in the class")
    if isinstance(question, Scores) and Ability.SCORES not in needs:
        raise AttackError(
            "asked for scores, which not every victim has: yield the list itself and read `losses`, or set "
            "needs = frozenset({Ability.SCORES}) in the class"
        )
    if isinstance(question, Scores) and Ability.SCORES not in can:
        raise AttackError("asked for scores, which this victim lacks; yield the list itself and read `losses`")
    for candidate in candidates:
        refuse_broken_text(example, candidate)
        if candidate.label != example.label or candidate.answers != example.answers:
            raise AttackError(
                "asked about an example with another label or other answers; "
                "make candidates with example.replace_word(...) or example.with_texts(...)"
            )


@final
class QueryCount:
    """What one search has been charged for.

    Every candidate but the clean text is a query each time it is asked about, known or not. One exception: a text of
    which only the loss was asked may be asked about once more to learn whether the objective is reached.
    """

    def __init__(self, clean: Texts) -> None:
        self.queries = 0
        self._clean = clean
        self._loss_only: set[Texts] = set()

    def charge(self, question: Question, budget: int | None) -> bool:
        """Books a question where the budget can pay for the whole of it; returns whether it can."""
        asked = [candidate.texts for candidate in candidates_of(question) if candidate.texts != self._clean]
        is_due = isinstance(question, (Losses, Gradients)) or not self._loss_only
        price = len(asked) if is_due else len(asked) - len(self._loss_only.intersection(asked))
        if budget is not None and self.queries + price > budget:
            return False
        self.queries += price
        if isinstance(question, Losses):
            self._loss_only.update(asked)
        elif not is_due:
            self._loss_only.difference_update(asked)
        return True
