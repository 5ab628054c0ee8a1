"""What a checkpoint can answer, said before anything runs."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol, runtime_checkable


class Ability(StrEnum):
    """One kind of question."""

    LOSSES = "losses"
    """Of texts, with whether each is answered rightly: every checkpoint."""
    SCORES = "scores"
    """A row of logits, one for each label."""
    LOGITS = "logits"
    """One row of logits, the largest of which is the answer: of labels, or of spans.

    A response has such a row for each of its tokens.
    """
    TEXT_GRADIENTS = "text-gradients"
    """The gradient of the loss at the tokens of a text."""
    EMBEDDINGS = "embeddings"
    """Answers to embeddings in place of a text, and their gradients."""


@runtime_checkable
class Needing(Protocol):
    """An attack or a probe that says what it asks of a checkpoint beyond what its kind does."""

    @property
    def needs(self) -> frozenset[Ability]:
        """What the checkpoint must be able to answer; an attack that yields `Scores` names `Ability.SCORES`."""
        ...


def declared_needs(asking: object) -> frozenset[Ability]:
    """Returns what an attack or a probe says that it needs; nothing where it says nothing.

    >>> declared_needs(object())
    frozenset()
    """
    return asking.needs if isinstance(asking, Needing) else frozenset()
