"""The sink of outcomes: writes them to the store in small transactions and counts them in the workload."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import final

from robustness.engine.outcome import Outcome
from robustness.runs.cells import Cell
from robustness.runs.progress import CellMeter, Meter
from robustness.runs.storage.store import Store
from robustness.runs.workload import Workload

FLUSH_SECONDS = 0.5
"""Outcomes wait at most this long, and never beyond their cell, before they are durable."""


def gather(outcomes: Iterable[Outcome]) -> Iterator[list[Outcome]]:
    """Yields outcomes in lists of those within `FLUSH_SECONDS`, also those before an error."""
    waiting: list[Outcome] = []
    flushed = time.monotonic()
    try:
        for outcome in outcomes:
            waiting.append(outcome)
            if time.monotonic() - flushed >= FLUSH_SECONDS:
                yield waiting
                waiting, flushed = [], time.monotonic()
    except (Exception, KeyboardInterrupt):
        if waiting:
            yield waiting
        raise
    if waiting:
        yield waiting


@final
class Sink:
    """The only writer of a run's outcomes; cells may be open side by side.

    Args:
        store: of the run.
        workload: counts the outcomes.
    """

    def __init__(self, store: Store, workload: Workload) -> None:
        self._store = store
        self._workload = workload
        self._meter = Meter()
        self._open: dict[Cell, CellMeter] = {}
        self._truncated: dict[str, set[str]] = {}
        """By checkpoint, the digests of texts known to be too long."""

    def finished(self, cell: Cell) -> set[str]:
        """Returns the ids of the examples whose outcome is stored; an errored one is not finished."""
        return self._store.finished(cell)

    def begin(self, cell: Cell, count: int) -> None:
        """Opens a cell with `count` outcomes to come; errored ones of an earlier run are tried again."""
        self._store.forget_errored(cell)
        self._open[cell] = self._meter.start(cell.checkpoint, cell.testset, cell.attack, count)
        self._workload.add(cell, 0, self._open[cell].read())

    def add(self, cell: Cell, outcomes: Sequence[Outcome], truncated: Set[str]) -> None:
        """Writes outcomes of an open cell, and the digests of texts too long for its checkpoint."""
        known = self._truncated.setdefault(cell.checkpoint, set())
        new = truncated - known
        if new:  # before the outcomes, which are never computed again
            self._store.note_truncated(cell.checkpoint, new)
            known |= new
        self._store.add(cell, outcomes)
        self._open[cell].add(outcomes)
        self._workload.add(cell, len(outcomes), self._open[cell].read())
