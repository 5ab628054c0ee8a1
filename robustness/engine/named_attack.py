"""An attack as a run knows it, whether it searches or works on batches of embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from robustness.engine.attack import Access, Attack
from robustness.tasks.objective import Objective
from robustness.testsets.example import Example

if TYPE_CHECKING:  # a victim imports torch, which the protocol does not need
    from robustness.engine.outcome import Outcome
    from robustness.victims.heads.head import Head


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
