"""The protocol that every attack, shipped or one's own, is written to."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robustness.engine.goal import Goal
from robustness.tasks.grading import Grader, LabelGrader
from robustness.testsets.example import Example, Texts

if TYPE_CHECKING:  # a victim brings torch, which the protocol itself does not need
    from robustness.engine.outcome import Outcome
    from robustness.victims.heads.labels import Victim
    from robustness.victims.heads.spans import AnsweringVictim
    from robustness.victims.heads.text_gradients import TextGradient

ScoreRows: TypeAlias = NDArray[np.float32]
"""Logits, shape (candidates, labels)."""


@dataclass(frozen=True, slots=True)
class AskGradients:
    """A question of a white-box search: the gradient at each candidate; see `ask_gradients`."""

    candidates: Sequence[Example]


Question: TypeAlias = Sequence[Example] | AskGradients
"""Candidates whose scores, or whose gradients, a search wants to know."""

Search: TypeAlias = Generator[Question, ScoreRows, Example]
"""Yields candidates, is sent one row of scores for each, returns its proposal."""


def ask_gradients(candidates: Sequence[Example]) -> Generator[Question, ScoreRows, Sequence[TextGradient]]:
    """Asks for the gradient at each candidate.

    A search writes `gradients = yield from ask_gradients([example])`, and has `access = Access.GRADIENTS`; it asks
    for scores as any other. A gradient costs a forward and a backward pass, and a query where the candidate is not
    the clean text; its answer holds the scores too.
    """
    answer: object = yield AskGradients(candidates)
    return cast("Sequence[TextGradient]", answer)


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
    proposal judged afresh. An attack may ask about any text; only what it returns is judged. With
    `access = Access.GRADIENTS` it may ask for gradients too, see `ask_gradients`.
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

    def run(self, victim: Victim, examples: Iterable[Example], *, seed: int, digest: str) -> Iterator[Outcome]:
        """Yields one outcome for each example, each seeded by (run seed, attack digest, example id)."""
        ...


@runtime_checkable
class AnswerAttack(Protocol):
    """An attack on question answering: it works on a victim's likeliest answers, and judges its finds afresh."""

    access: Access

    def run_answers(
        self, victim: AnsweringVictim, examples: Iterable[Example], *, seed: int, digest: str
    ) -> Iterator[Outcome]:
        """Yields one outcome for each question, each seeded by (run seed, attack digest, example id)."""
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
    attack: Attack | GradientAttack | AnswerAttack
    family: str = "custom"
    """character, word, sentence, embedding, baseline or custom: groups attacks in reports."""
    max_queries: int | None = None
    """Candidates it may ask about for one example; None: as many as it likes."""
    goal: Goal = field(default_factory=Goal)
    """What the referee counts as a success."""
    mirrors: str | None = None
    """Of a baseline: the attack whose edits it makes at random."""
    edits_digest: str | None = None
    """The same for attacks that may make the same edits within the same limits; None where that is not known."""
    effort: Effort = Effort.QUERIES
    """By what arms that it breaks nearly always, or hardly ever, are compared."""


class Scorer(Protocol):
    """What the engine needs of a victim."""

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        """Returns logits, shape (len(texts), labels), in the task's label order."""
        ...


@runtime_checkable
class GradedScorer(Protocol):
    """A victim that knows how its rows are read."""

    grader: Grader


def grader_of(victim: Scorer, labels: int = 0) -> Grader:
    """Returns the victim's own grader; for one that merely scores, a grader whose labels are numbers."""
    return victim.grader if isinstance(victim, GradedScorer) else LabelGrader(tuple(map(str, range(labels))))


class NotingScorer(Scorer, Protocol):
    """A victim that notes which texts it has not read whole."""

    truncated: set[str]
    """Digests of the texts that were longer than the model takes."""


@runtime_checkable
class ReadingScorer(Protocol):
    """A victim that says which texts it cannot tell apart."""

    def read(self, texts: Sequence[Texts]) -> list[bytes]:
        """Returns a digest of what the model is given of each text: where it is the same, so are the scores."""
        ...


@runtime_checkable
class StartingScorer(Protocol):
    """A victim that need not have answered before it is handed the next texts."""

    def start(self, texts: Sequence[Texts]) -> Callable[[], ScoreRows]:
        """Begins scoring and returns the function that waits for the rows."""
        ...
