"""A cascade of attacks: each works on what the ones before it left standing."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn, cast, final

import numpy as np
from numpy.typing import NDArray

from robustness.engine.attack import (
    Access,
    AskGradients,
    Attack,
    BudgetExhausted,
    NamedAttack,
    Question,
    ScoreRows,
    Search,
)
from robustness.errors import AttackError
from robustness.testsets.example import Example, Texts

if TYPE_CHECKING:
    from robustness.victims.heads.text_gradients import TextGradient

Stage = Generator[Question, ScoreRows, tuple[Example, bool]]
"""Asks as a search does; returns the proposal and whether it flips the label."""


@final
class Cascade:
    """Runs attacks one after the other until one succeeds, cheap strong ones first (AutoAttack, arXiv 2003.01690).

    Every member gets the clean text, a generator of its own drawn from the example's, and its own query budget; the
    queries of all members add up. Whether a member succeeded is known from its own questions, or asked.

    Args:
        members: searches that are after a wrong answer, in the order in which they run.
        access: gradients, if any member asks for them.
    """

    def __init__(self, members: Sequence[NamedAttack], access: Access = Access.SCORES) -> None:
        self._members = tuple(members)
        self.access = access

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Proposes the first member's text that flips the label, else the clean text."""
        for member, generator in zip(self._members, rng.spawn(len(self._members)), strict=True):
            proposal, is_over = yield from _run(member, example, generator)
            if is_over:
                return proposal
        return example


def _run(member: NamedAttack, example: Example, rng: np.random.Generator) -> Stage:
    """Returns the member's proposal, and whether the cascade ends with it: it flips, or the budget is spent."""
    assert isinstance(member.attack, Attack), "members are searches"
    search = member.attack.search(example, rng)
    flips: dict[Texts, bool] = {example.texts: False}
    queries = 0
    is_spent = False
    try:
        question = next(search)
        while True:
            asked = question.candidates if isinstance(question, AskGradients) else question
            queries += sum(candidate.texts != example.texts for candidate in asked)
            if member.max_queries is not None and queries > member.max_queries:
                _end(search, member)
            try:
                rows = yield question
            except BudgetExhausted:
                is_spent = True
                _end(search, member)
            predictions = (np.argmax(row) for row in _scores(question, rows))
            flips.update((each.texts, bool(p != example.label)) for each, p in zip(asked, predictions, strict=True))
            question = search.send(rows)
    except StopIteration as stop:
        proposal: Example = stop.value
    except BudgetExhausted:
        proposal = example
    if proposal.texts not in flips and not is_spent:
        try:
            flips[proposal.texts] = bool((yield [proposal])[0].argmax() != example.label)
        except BudgetExhausted:
            is_spent = True
    return proposal, is_spent or flips[proposal.texts]


def _scores(question: Question, answer: ScoreRows) -> Iterable[NDArray[np.float32]]:
    """The rows of logits in an answer, that to a question for gradients too."""
    if not isinstance(question, AskGradients):
        return answer
    return [gradient.scores for gradient in cast("Sequence[TextGradient]", answer)]


def _end(search: Search, member: NamedAttack) -> NoReturn:
    """Throws BudgetExhausted into a search, which ends it: raises StopIteration with its proposal."""
    search.throw(BudgetExhausted("the queries are spent"))
    raise AttackError(f"{member.name} asked again after its budget was exhausted; return the best candidate instead")
