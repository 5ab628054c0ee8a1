"""The protocol that every attack, shipped or one's own, is written to."""

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
    """A question about losses alone: where nobody asks whether the objective is reached, an answer may be cheaper.

    Whether it is reached may be asked later by yielding the candidate itself, which is then no further query. Of a
    generated text a loss takes no decode: ask `reached` of the candidate that a search keeps, not of all.
    """

    candidates: Sequence[Example]


@dataclass(frozen=True, slots=True)
class Scores:
    """A question for logits too, which victims that answer with labels alone have.

    The attack says so beforehand, by `needs = frozenset({Ability.SCORES})`: no plan then pairs it with other victims.
    """

    candidates: Sequence[Example]


@dataclass(frozen=True, slots=True)
class Gradients:
    """A question of a white-box search, answered with one TextGradient for each candidate.

    The search has `access = Access.GRADIENTS`. A gradient costs a forward and a backward pass, and a query where the
    candidate is not the clean text; its answer holds the loss, and whether the objective is reached, too.
    """

    candidates: Sequence[Example]


Question: TypeAlias = Sequence[Example] | Losses | Scores | Gradients
"""Candidates about which a search wants to know: a list, or a list in the name of what is wanted of it."""


@final
@dataclass(frozen=True, slots=True)
class Answer:
    """What a search is told of the candidates that it asked about, in their order."""

    losses: NDArray[np.float64]
    """Minus the log-probability of what is right, shape (candidates,): the larger, the nearer to a wrong answer."""
    known_reached: NDArray[np.bool_] | None = None
    """None where only losses were asked for."""
    known_scores: ScoreRows | None = None
    """None but where scores were asked for."""
    free_reached: NDArray[np.bool_] | None = None
    """As `reached`, of losses alone too, by victims that tell it at no cost; None by those that would decode."""

    @property
    def reached(self) -> NDArray[np.bool_]:
        """Whether the attack's objective is reached, shape (candidates,); a wrong answer, unless a recipe says else.

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

What is sent depends on what was yielded, which no type can say: an Answer, to Gradients a list of TextGradient.
"""


class Access(StrEnum):
    """What an attack needs of a victim."""

    SCORES = "scores"
    GRADIENTS = "gradients"


class BudgetExhausted(Exception):  # noqa: N818 - thrown into a search to end it, it reports no error
    """Thrown into a search at the question its budget cannot pay for.

    Catch it to return the best candidate so far; a search that does not catch it proposes the clean text.
    """


@runtime_checkable
class Attack(Protocol):
    """What happens to one example.

    The engine runs many searches side by side, answers their questions in shared batches, counts, and has the
    proposal judged afresh. An attack may ask about any text; only what it returns is judged. It is told losses and
    whether its objective is reached, and so never has to know what kind of answer its victim gives.
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
    """A white-box attack: it works on whole batches of a victim's embeddings, and judges its finds afresh."""

    @property
    def access(self) -> Access:
        """Gradients."""
        ...

    def run(self, victim: Head, examples: Iterable[Example], *, seed: int, digest: str) -> Iterator[Outcome]:
        """Yields one outcome for each example, each seeded by (run seed, attack digest, example id)."""
        ...


class Effort(StrEnum):
    """What an attack spends on an example, by the outcome's field that counts it."""

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
    """Candidates it may ask about for one example; None: as many as it likes."""
    objective: Objective = field(default_factory=Objective)
    """What the referee counts as a success."""
    mirrors: str | None = None
    """Of a baseline: the attack whose edits it makes at random."""
    edits_digest: str | None = None
    """The same for attacks that may make the same edits within the same limits; None where that is not known."""
    effort: Effort = Effort.QUERIES
    """By what arms that it breaks nearly always, or hardly ever, are compared."""
