"""The protocol of every attack, shipped or a user's own."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, final, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robustness.errors import AttackError
from robustness.tasks.objective import Objective
from robustness.testsets.example import Example

if TYPE_CHECKING:  # a victim brings torch, which the protocol itself does not need
    from robustness.engine.outcome import Outcome
    from robustness.victims.heads.head import Head

ScoreRows: TypeAlias = NDArray[np.float32]
"""Logits, shape (candidates, labels)."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Asks for losses alone, which can cost less than also checking whether the objective is reached.

    Yield the candidate itself later to learn whether it reaches the objective; that is not counted as another query.
    The loss of a generated text needs no decode: ask for `reached` only of the candidate that the search keeps.
    """

    candidates: Sequence[Example]


@dataclass(frozen=True, slots=True)
class Scores:
    """Asks for logits too, which only victims with labels have.

    The attack declares `needs = frozenset({Ability.SCORES})`, so that the plan refuses it for other victims.
    """

    candidates: Sequence[Example]


@dataclass(frozen=True, slots=True)
class Gradients:
    """Asks for gradients in a white-box search; the answer is one TextGradient for each candidate.

    The search has `access = Access.GRADIENTS`. A gradient costs a forward and a backward pass, and one query unless
    the candidate is the clean text. Its answer also holds the loss and whether the objective is reached.
    """

    candidates: Sequence[Example]


Question: TypeAlias = Sequence[Example] | Losses | Scores | Gradients
"""What a search yields: a list of candidates, or a class above that names what it asks about them."""


@final
@dataclass(frozen=True, slots=True)
class Answer:
    """What a search learns about its candidates, in their order."""

    losses: NDArray[np.float64]
    """Minus the log-probability of the gold, shape (candidates,); a larger loss is nearer to a wrong answer."""
    known_reached: NDArray[np.bool_] | None = None
    """None where only losses were asked for."""
    known_scores: ScoreRows | None = None
    """None unless scores were asked for."""
    free_reached: NDArray[np.bool_] | None = None
    """As `reached`, but also set after `Losses` unless the victim would have to decode."""

    @property
    def reached(self) -> NDArray[np.bool_]:
        """Whether each candidate reaches the attack's objective, shape (candidates,): a wrong answer by default.

        Raises:
            AttackError: only losses were asked for.
        """
        if self.known_reached is None:
            raise AttackError("read `reached` of Losses(candidates); yield the list itself: yield candidates")
        return self.known_reached

    @property
    def scores(self) -> ScoreRows:
        """Logits, shape (candidates, labels).

        Raises:
            AttackError: they were not asked for.
        """
        if self.known_scores is None:
            raise AttackError("read `scores` that it did not ask for; yield Scores(candidates)")
        return self.known_scores


Search: TypeAlias = Generator[Question, Any, Example]
"""Yields questions, is sent an answer to each, returns its proposal.

A search is sent an Answer, or a list of TextGradient after Gradients; Python's types cannot express this.
"""


class Access(StrEnum):
    """What an attack needs of a victim."""

    SCORES = "scores"
    GRADIENTS = "gradients"


class BudgetExhausted(Exception):  # noqa: N818 - thrown into a search to end it, it reports no error
    """Thrown into a search when its budget does not cover the next question.

    Catch it to return the best candidate so far; a search that does not catch it proposes the clean text.
    """


@runtime_checkable
class Attack(Protocol):
    """What happens to one example.

    The engine runs many searches side by side, answers their questions in shared batches and counts the queries. It
    judges the returned proposal with a fresh evaluation. An attack may ask about any text. It learns losses and
    whether its objective is reached, so it works for every kind of victim.
    """

    @property
    def access(self) -> Access:
        """Scores, or gradients."""
        ...

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Searches for an adversarial form of `example`, drawing randomness from `rng` alone."""
        ...


@runtime_checkable
class GradientAttack(Protocol):
    """A white-box attack on batches of a victim's embeddings; it evaluates its own results afresh."""

    @property
    def access(self) -> Access:
        """Gradients."""
        ...

    def run(self, victim: Head, examples: Iterable[Example], *, seed: int, digest: str) -> Iterator[Outcome]:
        """Yields one outcome for each example, each seeded by (run seed, attack digest, example id)."""
        ...


class Effort(StrEnum):
    """What an attack spends on an example; the value is the outcome's field that counts it."""

    WORDS = "modified_words"
    QUERIES = "queries"
    DISTANCE = "distance"


@dataclass(frozen=True, slots=True)
class NamedAttack:
    """An attack as a run knows it."""

    name: str
    digest: str
    """Changes whenever the attack could behave differently; part of the seed of every search."""
    attack: Attack | GradientAttack
    family: str = "custom"
    """character, word, sentence, embedding, baseline or custom: groups attacks in reports."""
    max_queries: int | None = None
    """How many candidates it may ask about for one example; None: no limit."""
    objective: Objective = field(default_factory=Objective)
    """What the referee counts as a success."""
    mirrors: str | None = None
    """For a baseline: the attack whose edits it makes at random."""
    edits_digest: str | None = None
    """Attacks with equal values may make the same edits within the same limits; None where this is not known."""
    effort: Effort = Effort.QUERIES
    """What to compare when it breaks an arm nearly always or hardly ever."""
