"""What an attack is after: a wrong answer, or one that stays right while words go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray


class ObjectiveKind(StrEnum):
    """What must become of the answer."""

    CHANGE_PREDICTION = "change-prediction"
    KEEP_PREDICTION = "keep-prediction"


class Worded(Protocol):
    """A text with the words that are open to attack; an Example is one."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Segments."""
        ...

    @property
    def words(self) -> tuple[str, ...]:
        """Of the segments open to attack."""
        ...

    def with_texts(self, texts: Sequence[str]) -> Self:
        """Returns it with other segments, whose words are found anew."""
        ...


@dataclass(frozen=True, slots=True)
class Objective:
    """When a proposal counts as a success: the answer to it is as wanted, and the text may be proposed.

    A search is told of the answer alone; the referee asks for both. A kept prediction (input reduction, arXiv
    1804.07781) is a success on a text of at most `max_words` words, all of them the clean text's, in its order. Such
    a success is not a wrong answer, and no accuracy counts it as one.

    >>> Objective().reached(np.array([True, False]))
    array([False,  True])
    >>> Objective(ObjectiveKind.KEEP_PREDICTION, max_words=1).reached(np.array([True, False]))
    array([ True, False])
    """

    kind: ObjectiveKind = ObjectiveKind.CHANGE_PREDICTION
    max_words: int = 0
    """Of the segments open to attack; of a kept prediction alone."""

    def reached(self, correct: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Returns which answers are as wanted of examples that were right before, shape (texts,).

        Args:
            correct: which answers are right, shape (texts,).
        """
        return ~correct if self.kind is ObjectiveKind.CHANGE_PREDICTION else correct

    def allows(self, clean: Worded, proposal: Worded) -> bool:
        """Whether a text may be a success on the clean one, whatever the answer to it."""
        if proposal.texts == clean.texts:
            return False
        if self.kind is ObjectiveKind.CHANGE_PREDICTION:
            return True
        words = proposal.with_texts(proposal.texts).words  # found anew: a word emptied in place is none
        left = iter(clean.words)
        return len(words) <= self.max_words and all(word in left for word in words)
