"""What a checkpoint can answer, said before anything runs."""

from __future__ import annotations

from enum import StrEnum


class Ability(StrEnum):
    """One kind of question."""

    LOSSES = "losses"
    """Of texts, with whether each is answered rightly: every checkpoint."""
    SCORES = "scores"
    """A row of logits, one for each label."""
    TEXT_GRADIENTS = "text-gradients"
    """The gradient of the loss at the tokens of a text."""
    EMBEDDINGS = "embeddings"
    """Answers to embeddings in place of a text, and their gradients."""
