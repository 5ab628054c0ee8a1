"""How far a run is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias, final

from robustness.engine.evaluation import NO_ATTACK
from robustness.engine.outcome import Outcome, Status


@dataclass(frozen=True, slots=True)
class LiveScore:
    """What one checkpoint has kept so far in the test set and attack that run now."""

    checkpoint: str
    accuracy: float
    """Robust accuracy, or accuracy where nothing attacks."""
    n: int


@dataclass(frozen=True, slots=True)
class CellProgress:
    """The cell that runs now."""

    done: int
    total: int
    queries_per_second: float
    scores: tuple[LiveScore, ...]
    """All checkpoints that this process has run there, the running one last."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What runs now, and how much is done."""

    message: str
    done: int
    """Examples finished, over all cells."""
    total: int
    cell: CellProgress | None = None
    """None where what runs is no cell."""


ProgressCallback: TypeAlias = Callable[[Progress], None]


@final
class Meter:
    """Counts what one cell after the other brings."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[tuple[str, str], dict[str, list[int]]] = {}
        self._place = ("", "")
        self._checkpoint = ""
        self._started = 0.0
        self._queries = self._done = self._total = 0

    def start(self, checkpoint: str, testset: str, attack: str, total: int) -> None:
        """Begins a cell of `total` examples."""
        self._place, self._checkpoint = (testset, attack), checkpoint
        self._started, self._queries, self._done, self._total = self._clock(), 0, 0, total
        counts = self._kept.setdefault(self._place, {}).pop(checkpoint, [0, 0])
        self._kept[self._place][checkpoint] = counts

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Counts outcomes of the cell begun last; errored ones are in no accuracy."""
        counts = self._kept[self._place][self._checkpoint]
        for outcome in outcomes:
            self._done += 1
            self._queries += outcome.queries
            if outcome.status is not Status.ERRORED:
                static = self._place[1] == NO_ATTACK
                right = outcome.adversarial_prediction == outcome.label if static else outcome.status is Status.FAILED
                counts[0] += right
                counts[1] += 1

    def read(self) -> CellProgress:
        """Returns where the cell stands."""
        seconds = max(self._clock() - self._started, 1e-9)
        scores = tuple(
            LiveScore(name, right / n, n) for name, (right, n) in self._kept.get(self._place, {}).items() if n
        )
        return CellProgress(self._done, self._total, self._queries / seconds, scores)
