"""Protocols of victims: what the engine needs, and optional abilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robustness.engine.attack import ScoreRows
from robustness.tasks.abilities import Ability
from robustness.tasks.grading import Grader, Rows
from robustness.testsets.example import Example, Texts


@runtime_checkable
class Respondent(Protocol):
    """What the engine needs of a victim."""

    @property
    def grader(self) -> Grader:
        """Turns its rows into losses, correctness and grades."""
        ...

    @property
    def can(self) -> frozenset[Ability]:
        """The kinds of question that it answers."""
        ...

    def rows(self, asked: Sequence[Example]) -> Rows:
        """Returns what the model gives for each example, shape (len(asked), numbers)."""
        ...


@runtime_checkable
class StartingRespondent(Protocol):
    """A victim that accepts the next examples before it has answered the last."""

    def start(self, asked: Sequence[Example]) -> Callable[[], Rows]:
        """Starts answering and returns the function that waits for the rows."""
        ...


@runtime_checkable
class DecodingRespondent(Protocol):
    """A victim that decodes for its rows; losses need no decode, and a search's candidates only part of one."""

    def loss_rows(self, asked: Sequence[Example]) -> Rows:
        """Returns the first numbers of each row: those from which its grader computes losses."""
        ...

    def rows_along(self, asked: Sequence[Example], read: Sequence[NDArray[np.float32] | None]) -> Rows:
        """Returns rows; decodes only what one forward pass over the clean response cannot decide.

        Args:
            asked: candidates of examples whose clean text it has answered.
            read: their loss rows; None where not known.
        """
        ...


@runtime_checkable
class ReadingScorer(Protocol):
    """A victim that reports which texts its model cannot distinguish."""

    def read(self, texts: Sequence[Texts]) -> list[bytes]:
        """Returns a digest of the model's input for each text: texts with the same digest have the same scores."""
        ...


class Scorer(Protocol):
    """A victim with labels in its shortest form; `as_respondent` turns it into a Respondent."""

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        """Returns logits, shape (len(texts), labels), in the task's label order."""
        ...


class NotingRespondent(Respondent, Protocol):
    """A victim that records which texts it truncated."""

    @property
    def truncated(self) -> set[str]:
        """Digests of the texts that were longer than the model takes."""
        ...
