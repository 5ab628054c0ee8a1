"""Questions: what a search may yield, and how queries are charged."""

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
    """Returns the candidates of a question."""
    return question.candidates if isinstance(question, (Losses, Scores, Gradients)) else question


def check_question(
    question: Question, example: Example, access: Access, needs: frozenset[Ability], can: frozenset[Ability]
) -> None:
    """Refuses anything but a question that the attack has declared and the victim can answer.

    Args:
        question: what a search has yielded.
        example: under attack.
        access: the attack's.
        needs: what the attack declares.
        can: what the victim may be asked.

    Raises:
        AttackError: the message says what to yield or declare, or what the victim cannot answer.
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
    """Counts the queries that one search is charged for.

    Every candidate except the clean text counts as a query each time it is asked about, even if its answer is known.
    One exception: after asking only for a text's loss, a search may ask once more whether it reaches the objective.
    """

    def __init__(self, clean: Texts) -> None:
        self.queries = 0
        self._clean = clean
        self._loss_only: set[Texts] = set()

    def charge(self, question: Question, budget: int | None) -> bool:
        """Charges a question if the budget covers all of it; returns whether it does."""
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
