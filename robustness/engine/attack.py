"""The protocol of every attack, shipped or a user's own."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeAlias, final, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robustness.errors import AttackError
from robustness.testsets.example import Example

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
    """Asks for gradients in a white-box search; the answer is a list with one TextGradient for each candidate.

    The search has `access = Access.GRADIENTS`. A gradient costs a forward and a backward pass, and one query unless
    the candidate is the clean text. A TextGradient has `tokens`, shape (tokens,); `places`, each token's segment,
    start and end in the text; `gradient`, shape (tokens, dim); `loss`; and `reached`.
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
    """Losses, whether the objective is reached, and logits where the attack asks for them: black-box."""
    GRADIENTS = "gradients"
    """Gradients too: white-box."""


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

    Example:
        ```python
        class Shout:
            access = Access.SCORES

            def search(self, example: Example, rng: np.random.Generator) -> Search:
                for i, word in enumerate(example.words):
                    candidate = example.replace_word(i, word.upper())
                    answer = yield [candidate]  # answer.losses and answer.reached have one entry
                    if answer.reached[0]:
                        return candidate
                return example
        ```
    """

    @property
    def access(self) -> Access:
        """Scores, or gradients."""
        ...

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Searches for an adversarial form of `example`, drawing randomness from `rng` alone."""
        ...
