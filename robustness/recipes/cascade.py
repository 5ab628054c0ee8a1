"""A cascade of attacks: each attacks only the examples on which the earlier ones failed."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any, NoReturn, final

import numpy as np

from robustness.engine.attack import Access, Attack, BudgetExhausted, Gradients, Losses, Question, Search
from robustness.engine.named_attack import NamedAttack
from robustness.engine.needs import needs_of
from robustness.engine.questions import QueryCount, candidates_of
from robustness.errors import AttackError
from robustness.tasks.abilities import Ability
from robustness.testsets.example import Example, Texts

Members = Sequence[NamedAttack]
Stage = Generator[Question, Any, tuple[Example, bool]]
"""Yields questions like a search; returns the proposal and whether the cascade ends with it."""


@final
class Cascade:
    """Runs attacks one after the other until one succeeds, cheap strong ones first (AutoAttack, arXiv 2003.01690).

    Every member starts from the clean text, with its own generator (drawn from the example's) and its own query
    budget. The queries of all members add up. A member's own questions show whether it succeeded; otherwise the
    cascade asks.

    Args:
        members: searches for a wrong answer, in the order of running.
        access: gradients, if any member asks for them.
    """

    def __init__(self, members: Members, access: Access = Access.SCORES) -> None:
        self._members = tuple(members)
        self.access = access
        self.needs = frozenset[Ability]().union(*(needs_of(member.attack) for member in members))

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Proposes the first member's text that reaches the objective, or the clean text."""
        for member, generator in zip(self._members, rng.spawn(len(self._members)), strict=True):
            proposal, is_over = yield from _run(member, example, generator)
            if is_over:
                return proposal
        return example


def _run(member: NamedAttack, example: Example, rng: np.random.Generator) -> Stage:
    """Returns the member's proposal and whether the cascade ends: on success or when the budget is spent."""
    assert isinstance(member.attack, Attack), "members are searches"
    search = member.attack.search(example, rng)
    reached: dict[Texts, bool] = {example.texts: False}
    count = QueryCount(example.texts)
    is_spent = False
    try:
        question = next(search)
        while True:
            if not count.charge(question, member.max_queries):
                _end(search, member)
            try:
                answer = yield question
            except BudgetExhausted:
                is_spent = True
                _end(search, member)
            reached.update(_reached(question, answer))
            question = search.send(answer)
    except StopIteration as stop:
        proposal: Example = stop.value
    except BudgetExhausted:
        proposal = example
    if proposal.texts not in reached and not is_spent:
        try:
            reached[proposal.texts] = bool((yield [proposal]).reached[0])
        except BudgetExhausted:
            is_spent = True
    return proposal, is_spent or reached[proposal.texts]


def _reached(question: Question, answer: Any) -> Iterable[tuple[Texts, bool]]:
    """Which texts reach the objective, as far as an answer shows it."""
    if isinstance(question, Losses) and answer.free_reached is None:
        return []
    known: Sequence[object]
    if isinstance(question, Gradients):
        known = [each.reached for each in answer]
    else:
        known = answer.free_reached if isinstance(question, Losses) else answer.reached
    return [(each.texts, bool(is_reached)) for each, is_reached in zip(candidates_of(question), known, strict=True)]


def _end(search: Search, member: NamedAttack) -> NoReturn:
    """Ends a search by throwing BudgetExhausted; raises StopIteration with its proposal."""
    search.throw(BudgetExhausted("the queries are spent"))
    raise AttackError(f"{member.name} asked again after its budget was exhausted; return the best candidate instead")
