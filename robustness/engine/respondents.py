"""What the engine needs of a victim, and what more some victims can."""

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
        """Makes losses, right or wrong, and grades of its rows."""
        ...

    @property
    def can(self) -> frozenset[Ability]:
        """What it may be asked."""
        ...

    def rows(self, asked: Sequence[Example]) -> Rows:
        """Returns what the model gives for each example, shape (len(asked), numbers)."""
        ...


@runtime_checkable
class StartingRespondent(Protocol):
    """A victim that need not have answered before it is handed the next examples."""

    def start(self, asked: Sequence[Example]) -> Callable[[], Rows]:
        """Begins answering and returns the function that waits for the rows."""
        ...


@runtime_checkable
class DecodingRespondent(Protocol):
    """A victim whose rows take a decode, which a loss does not, and a search's candidates take less of."""

    def loss_rows(self, asked: Sequence[Example]) -> Rows:
        """Returns the numbers that rows begin with, as far as its grader needs them for losses."""
        ...

    def rows_along(self, asked: Sequence[Example], read: Sequence[NDArray[np.float32] | None]) -> Rows:
        """Returns rows, for which no more is decoded than reading along cannot tell.

        Args:
            asked: candidates of examples that it has answered.
            read: their loss rows, where these are known.
        """
        ...


@runtime_checkable
class ReadingScorer(Protocol):
    """A victim that says which texts it cannot tell apart."""

    def read(self, texts: Sequence[Texts]) -> list[bytes]:
        """Returns a digest of what the model is given of each text: where it is the same, so are the scores."""
        ...


class Scorer(Protocol):
    """A victim with labels, in its shortest form; `as_respondent` makes it one."""

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        """Returns logits, shape (len(texts), labels), in the task's label order."""
        ...


class NotingRespondent(Respondent, Protocol):
    """A victim that notes which texts it has not read whole."""

    @property
    def truncated(self) -> set[str]:
        """Digests of the texts that were longer than the model takes."""
        ...
