"""The driver's records of shards: outcomes go to the sink, and what a lost worker left undone is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, replace
from typing import final

from robustness.engine.failures.faults import errored
from robustness.engine.outcome import Outcome
from robustness.runs.cells import Cell
from robustness.runs.executors.shards import Found, Shard
from robustness.runs.storage.sink import Sink
from robustness.tasks.grading import Grader
from robustness.testsets.example import Example
from robustness.workers.jobs import Booking


@final
@dataclass(slots=True)
class OpenCell:
    """A cell of which shards are out; all of them share it."""

    cell: Cell
    missing: int
    """Examples without outcomes."""
    sink: Sink
    grader: Grader
    """Of the checkpoint: it names the gold of an example that no worker answers."""
    end: Callable[[Cell], Sequence[Booking]]
    """Returns what is ready once the cell has all outcomes."""
    _has_begun: bool = False
    _has_ended: bool = False

    def begin(self) -> None:
        """Opens the cell in the sink, once."""
        if not self._has_begun:
            self._has_begun = True
            self.sink.begin(self.cell, self.missing)

    def add(self, outcomes: Sequence[Outcome], truncated: Set[str]) -> None:
        """Gives outcomes to the sink."""
        self.sink.add(self.cell, outcomes, truncated)
        self.missing -= len(outcomes)

    def finish(self) -> Sequence[Booking]:
        """Returns what is ready, once all outcomes are stored."""
        if self.missing or self._has_ended:
            return ()
        self._has_ended = True
        return self.end(self.cell)


@final
class ShardBooking:
    """A shard with its examples without outcomes.

    Args:
        job: the shard.
        cell: with all its shards.
    """

    def __init__(self, job: Shard, cell: OpenCell) -> None:
        self.job = job
        self._cell = cell
        self._missing: dict[str, Example] = {example.id: example for example in job.examples}

    def begin(self) -> None:
        """Opens the shard's cell."""
        self._cell.begin()

    def store(self, message: object) -> None:
        """Gives outcomes to the sink."""
        assert isinstance(message, Found), "a shard tells of outcomes only"
        self._cell.add(message.outcomes, message.truncated)
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
        gold = self._cell.grader.gold
        self._cell.add([errored(example, gold(example), reason) for example in self._missing.values()], frozenset())

    def finish(self) -> Sequence[Booking]:
        """Returns what waits for the cell, if this was its last shard."""
        return self._cell.finish()

    def _part(self, examples: Iterable[Example]) -> ShardBooking:
        return ShardBooking(replace(self.job, examples=tuple(examples)), self._cell)
