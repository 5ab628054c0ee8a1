"""The objective of an attack: a wrong answer, or a kept answer with fewer words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray


class ObjectiveKind(StrEnum):
    """The wanted answer."""

    CHANGE_PREDICTION = "change-prediction"
    KEEP_PREDICTION = "keep-prediction"


class Worded(Protocol):
    """A text and its words open to attack; an Example is one."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Segments."""
        ...

    @property
    def words(self) -> tuple[str, ...]:
        """Words of the segments open to attack."""
        ...

    def with_texts(self, texts: Sequence[str]) -> Self:
        """Returns a copy with other segments and their words."""
        ...


@dataclass(frozen=True, slots=True)
class Objective:
    """The conditions of success: the answer is as wanted, and the text is allowed.

    A search learns only about the answer; the referee checks both. A kept prediction (input reduction, arXiv
    1804.07781) is a success on a text of at most `max_words` words, all from the clean text and in its order. No
    accuracy counts such a success as a wrong answer.

    >>> Objective().reached(np.array([True, False]))
    array([False,  True])
    >>> Objective(ObjectiveKind.KEEP_PREDICTION, max_words=1).reached(np.array([True, False]))
    array([ True, False])
    """

    kind: ObjectiveKind = ObjectiveKind.CHANGE_PREDICTION
    max_words: int = 0
    """Maximum of words in the segments open to attack; only for a kept prediction."""

    def reached(self, correct: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Returns which answers are as wanted, for examples that were right before, shape (texts,).

        Args:
            correct: which answers are right, shape (texts,).
        """
        return ~correct if self.kind is ObjectiveKind.CHANGE_PREDICTION else correct

    def allows(self, clean: Worded, proposal: Worded) -> bool:
        """Whether a text is an allowed change of the clean text, regardless of its answer."""
        if proposal.texts == clean.texts:
            return False
        if self.kind is ObjectiveKind.CHANGE_PREDICTION:
            return True
        # Found again in the clean example: an emptied word does not count, nor what the proposal calls protected.
        words = clean.with_texts(proposal.texts).words
        left = iter(clean.words)
        return len(words) <= self.max_words and all(word in left for word in words)
