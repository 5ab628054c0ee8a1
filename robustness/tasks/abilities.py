"""The abilities of a checkpoint, known before anything runs."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol, runtime_checkable


class Ability(StrEnum):
    """One kind of question."""

    LOSSES = "losses"
    """Losses of texts, and whether each answer is right: every checkpoint."""
    SCORES = "scores"
    """A row of logits, one for each label."""
    LOGITS = "logits"
    """One row of logits whose largest is the answer: of labels, or of spans.

    A response has one such row per token.
    """
    TEXT_GRADIENTS = "text-gradients"
    """The gradient of the loss at the tokens of a text."""
    EMBEDDINGS = "embeddings"
    """Answers to embeddings instead of a text, and their gradients."""


@runtime_checkable
class Needing(Protocol):
    """An attack or a probe that declares abilities beyond those of its kind."""

    @property
    def needs(self) -> frozenset[Ability]:
        """Required abilities; an attack that yields `Scores` names `Ability.SCORES`."""
        ...


def declared_needs(asking: object) -> frozenset[Ability]:
    """Returns the abilities that an attack or a probe declares; by default none.

    >>> declared_needs(object())
    frozenset()
    """
    return asking.needs if isinstance(asking, Needing) else frozenset()
