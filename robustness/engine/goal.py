"""What an attack is after: a changed answer, or one that stays while words go."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from robustness.testsets.example import Example


class GoalKind(StrEnum):
    """What must become of the prediction."""

    CHANGE_PREDICTION = "change-prediction"
    KEEP_PREDICTION = "keep-prediction"


@dataclass(frozen=True, slots=True)
class Goal:
    """When a proposal counts as a success; the default is a wrong answer to a changed text.

    A kept prediction (input reduction, arXiv 1804.07781) is a success on a text of at most `max_words` words, all of
    them the clean text's, in its order. Such a success is not a wrong answer, and no accuracy counts it as one.

    >>> clean = Example("1", ("a really good film",), label=1)
    >>> reduce = Goal(GoalKind.KEEP_PREDICTION, max_words=1)
    >>> [reduce.is_reached(clean, clean.with_texts([text]), correct=True) for text in ("good", "good film", "fine")]
    [True, False, False]
    """

    kind: GoalKind = GoalKind.CHANGE_PREDICTION
    max_words: int = 0
    """Of the segments open to attack; of a kept prediction alone."""

    def is_reached(self, example: Example, proposal: Example, *, correct: bool) -> bool:
        """Whether a right or wrong answer to the proposal is a success on an example that was right before."""
        if proposal.texts == example.texts:
            return False
        if self.kind is GoalKind.CHANGE_PREDICTION:
            return not correct
        words = proposal.with_texts(proposal.texts).words  # found anew: a word emptied in place is none
        left = iter(example.words)
        return correct and len(words) <= self.max_words and all(word in left for word in words)
