"""Counts the outcomes of a run for its display."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import final

from robustness.engine.outcome import Outcome, Status
from robustness.progress import CellProgress, LiveScore
from robustness.runs.cells import NO_ATTACK


@final
class Meter:
    """Counts the outcomes of cells, in sequence or side by side."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[tuple[str, str], dict[str, list[int]]] = {}

    def start(self, checkpoint: str, testset: str, attack: str, total: int) -> CellMeter:
        """Begins a cell of `total` examples."""
        scores = self._kept.setdefault((testset, attack), {})
        scores[checkpoint] = scores.pop(checkpoint, [0, 0])  # the current one is shown last
        return CellMeter(scores, checkpoint, total, is_static=attack == NO_ATTACK, clock=self._clock)


@final
class CellMeter:
    """Counts the outcomes of one cell.

    Args:
        scores: counts of right and of judged examples, by checkpoint, for one test set and attack.
        checkpoint: the cell's.
        total: its examples.
        is_static: whether the cell has no attack.
        clock: tells seconds.
    """

    def __init__(
        self,
        scores: dict[str, list[int]],
        checkpoint: str,
        total: int,
        *,
        is_static: bool,
        clock: Callable[[], float],
    ) -> None:
        self._scores = scores
        self._counts = scores[checkpoint]
        self._total = total
        self._is_static = is_static
        self._clock = clock
        self._started = clock()
        self._queries = self._done = 0

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Counts outcomes; errored ones do not enter the accuracy."""
        for outcome in outcomes:
            self._done += 1
            self._queries += outcome.queries
            if outcome.status is not Status.ERRORED:
                self._counts[0] += bool(outcome.correct) if self._is_static else outcome.status is Status.FAILED
                self._counts[1] += 1

    def read(self) -> CellProgress:
        """Returns the cell's state."""
        seconds = max(self._clock() - self._started, 1e-9)
        scores = tuple(LiveScore(name, right / n, n) for name, (right, n) in self._scores.items() if n)
        return CellProgress(self._done, self._total, self._queries / seconds, scores)
