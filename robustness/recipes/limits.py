"""Limits that fail an attack early when it seems endless."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast, final

import numpy as np
import torch

from robustness.engine.attack import Access, Attack, BudgetExhausted, Question, Search
from robustness.engine.failures.watchdog import SearchTimeout, Watchdog
from robustness.engine.named_attack import NamedAttack
from robustness.engine.needs import needs_of
from robustness.engine.questions import candidates_of
from robustness.errors import AttackError, UsageError
from robustness.recipes.embedding.attack import EmbeddingAttack
from robustness.recipes.embedding.recipe import EmbeddingRecipe
from robustness.recipes.embedding.trial import EmbeddingResult
from robustness.tasks.abilities import Ability
from robustness.testsets.example import Example, Texts
from robustness.victims.heads.head import Head

MOST_REPEATS = 1_000
"""Consecutive questions without any new text."""
_END = "a search must end without a budget too; return the best candidate once none is better"


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits beyond which an attack counts as endless."""

    candidates: int
    """Candidates that a search may ask about for one example; larger than any budget."""
    seconds: float
    """Time limit for a batch of embeddings."""


def limit_attack(named: NamedAttack, limits: Limits) -> NamedAttack:
    """Returns the attack with these limits; its digest, and so its seeds, are unchanged."""
    attack = named.attack
    if isinstance(attack, EmbeddingRecipe):
        return replace(named, attack=replace(attack, method=_TimedAttack(attack.method, limits.seconds)))
    return replace(named, attack=_CountedAttack(attack, limits)) if isinstance(attack, Attack) else named


@final
@dataclass(frozen=True, slots=True)
class _CountedAttack:
    attack: Attack
    limits: Limits

    @property
    def access(self) -> Access:
        return self.attack.access

    @property
    def needs(self) -> frozenset[Ability]:
        return needs_of(self.attack)

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        search = self.attack.search(example, rng)
        account = _Account(self.limits)
        try:
            question = next(search)
            while True:
                account.book(question)
                try:
                    answer = yield question
                except BudgetExhausted as spent:
                    question = search.throw(spent)
                else:
                    question = search.send(answer)
        except StopIteration as stop:
            return cast("Example", stop.value)


@final
@dataclass(slots=True)
class _Account:
    """Counts the questions of one search."""

    limits: Limits
    asked: set[Texts] = field(default_factory=set)
    total: int = 0
    repeats: int = 0

    def book(self, question: Question) -> None:
        candidates = candidates_of(question)
        if not isinstance(candidates, Sequence) or not all(isinstance(each, Example) for each in candidates):
            return  # the engine refuses it
        new = {candidate.texts for candidate in candidates} - self.asked
        self.asked |= new
        self.total += len(candidates)
        self.repeats = 0 if new else self.repeats + 1
        if self.repeats > MOST_REPEATS:
            raise AttackError(f"asked {MOST_REPEATS:,} questions in a row about nothing new: {_END}")
        if self.total > self.limits.candidates:
            raise AttackError(f"asked about more than {self.limits.candidates:,} candidates: {_END}")


@final
@dataclass(frozen=True, slots=True)
class _TimedAttack:
    attack: EmbeddingAttack
    seconds: float

    def perturb(
        self, victim: Head, examples: Sequence[Example], generators: Sequence[torch.Generator]
    ) -> EmbeddingResult:
        with Watchdog() as watchdog:
            try:
                with watchdog.limit(self.seconds):
                    return self.attack.perturb(victim, examples, generators)
            except SearchTimeout:  # fails the whole batch: its halves would take as long again
                raise UsageError(
                    f"the attack took more than {self.seconds:g} seconds for a batch of {len(examples)}: "
                    "perturb must end"
                ) from None
