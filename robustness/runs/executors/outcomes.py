"""The driver's records of shards: outcomes go to the sink, and what a lost worker left undone is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import final

from robustness.engine.failures.faults import errored
from robustness.engine.outcome import Outcome
from robustness.runs.cells import Cell
from robustness.runs.executors.shards import Shard
from robustness.runs.storage.sink import Sink
from robustness.tasks.grading import Grader
from robustness.testsets.example import Example
from robustness.workers.jobs import Booking


@dataclass(frozen=True, slots=True)
class Found:
    """A worker's message: outcomes of its shard."""

    outcomes: tuple[Outcome, ...]
    truncated: frozenset[str]
    """Digests of newly truncated texts."""


@final
@dataclass(slots=True)
class OpenCells:
    """The cells of which shards are out; all their shards share it."""

    sink: Sink
    totals: Mapping[Cell, int]
    """Missing examples of each cell."""
    graders: Mapping[str, Grader]
    """Graders by checkpoint: they name the gold of an example that no worker answers."""
    _begun: set[Cell] = field(default_factory=set)

    def begin(self, cell: Cell) -> None:
        """Opens a cell in the sink, once."""
        if cell not in self._begun:
            self._begun.add(cell)
            self.sink.begin(cell, self.totals[cell])


@final
class ShardBooking:
    """A shard with its examples without outcomes.

    Args:
        job: the shard.
        cells: of this run.
    """

    def __init__(self, job: Shard, cells: OpenCells) -> None:
        self.job = job
        self._cells = cells
        self._missing: dict[str, Example] = {example.id: example for example in job.examples}

    def begin(self) -> None:
        """Opens the shard's cell."""
        self._cells.begin(self.job.cell)

    def store(self, message: object) -> None:
        """Gives outcomes to the sink."""
        assert isinstance(message, Found), "a shard tells of outcomes only"
        self._cells.sink.add(self.job.cell, message.outcomes, message.truncated)
        for outcome in message.outcomes:
            del self._missing[outcome.example_id]

    def left(self) -> ShardBooking | None:
        """Returns the shard of the examples without outcomes."""
        return self._part(self._missing.values()) if self._missing else None

    def split(self) -> list[Booking]:
        """Returns a shard of each example."""
        return [self._part([example]) for example in self._missing.values()]

    def give_up(self, reason: str) -> None:
        """Gives an errored outcome of each example to the sink."""
        gold = self._cells.graders[self.job.cell.checkpoint].gold
        outcomes = [errored(example, gold(example), reason) for example in self._missing.values()]
        self._cells.sink.add(self.job.cell, outcomes, frozenset())

    def finish(self) -> Sequence[Booking]:
        """Returns nothing: no job waits for a shard."""
        return ()

    def _part(self, examples: Iterable[Example]) -> ShardBooking:
        return ShardBooking(replace(self.job, examples=tuple(examples)), self._cells)
