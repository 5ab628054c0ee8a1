"""Dispatch: sends shards to workers, outcomes to the sink, and a lost worker's shard to another worker."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol, final

from robustness.engine.failures.faults import errored
from robustness.engine.outcome import Outcome
from robustness.errors import RunError
from robustness.runs.cells import Cell
from robustness.runs.executors.executor import Work
from robustness.runs.executors.reports import Ended, Found, Lost, Refused, Report, Started
from robustness.runs.storage.record import compared_versions, library_versions
from robustness.runs.storage.sink import Sink
from robustness.tasks.grading import Grader
from robustness.testsets.example import Example

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""Maximum of workers that may die on an example; the last attempt has only this example."""
POISONED = 3
"""Maximum of examples given up before their whole cell is given up."""
FALSE_STARTS = 3
"""Maximum of consecutive workers that die before they are ready; afterwards no new workers are started."""
SILENCE_SECONDS = 1800.0
"""Silence after which a warning is logged. No worker is ended for it, because a hard example may take as long."""
WATCH_SECONDS = 60.0
"""Interval of checks for silence."""


class WorkerPool(Protocol):
    """Workers in separate processes, identified by numbers."""

    def start(self) -> int:
        """Starts a worker, which reports Started when it is ready."""
        ...

    def hand(self, worker: int, shard: Work) -> None:
        """Gives a shard to an idle worker; it reports Found any number of times, then Ended."""
        ...

    def wait(self, seconds: float) -> Sequence[tuple[int, Report]]:
        """Waits for reports at most about this long; a worker that reports Lost or Refused is gone."""
        ...

    def dismiss(self) -> None:
        """Ends all workers."""
        ...


@dataclass(slots=True)
class _Task:
    """A shard and its attempts."""

    cell: Cell
    missing: dict[str, Example]
    attempts: int = 0


@dataclass(slots=True)
class _Member:
    """The dispatcher's view of a worker."""

    heard: float
    """Time of its last report or its last shard."""
    reminders: int = 0
    """Number of warnings about its silence since then."""
    where: str = ""
    is_ready: bool = False
    task: _Task | None = None
    checkpoint: str = ""
    """The loaded checkpoint."""
    doubts: tuple[str, ...] = ()


@final
@dataclass(slots=True)
class Dispatcher:
    """Keeps a pool of workers busy until every example has an outcome.

    A worker gets shards of its loaded checkpoint as long as there are any.
    """

    worker_pool: WorkerPool
    sink: Sink
    totals: Mapping[Cell, int]
    """Missing examples of each cell."""
    graders: Mapping[str, Grader]
    """Graders by checkpoint: they name the gold of an example that no worker answers."""
    clock: Callable[[], float] = time.monotonic
    _wanted: int = 0
    """Workers to keep."""
    _queue: list[_Task] = field(default_factory=list)
    _members: dict[int, _Member] = field(default_factory=dict)
    _doubts: list[str] = field(default_factory=list)
    _begun: set[Cell] = field(default_factory=set)
    _given_up: Counter[Cell] = field(default_factory=Counter)
    _false_starts: int = 0
    _shortage: str = ""
    """Why there are fewer workers than requested."""

    def run(self, shards: Sequence[Work], workers: int) -> list[str]:
        """Computes all shards on the workers; returns warnings about their victims.

        Raises:
            RunError: no worker starts, or one has other libraries, or refuses its work.
        """
        self._wanted = workers
        self._queue = [_Task(shard.cell, {e.id: e for e in shard.examples}) for shard in shards]
        try:
            self._hire()
            while self._queue or any(member.task for member in self._members.values()):
                for number, report in self.worker_pool.wait(WATCH_SECONDS):
                    self._take(number, report)
                self._hand_out()  # after all lost workers are known
                self._hire()
                self._tell_silence()
        finally:
            self.worker_pool.dismiss()
        doubts = [*self._doubts, *(doubt for member in self._members.values() for doubt in member.doubts)]
        return [*doubts, self._shortage] if self._shortage else doubts

    def _hire(self) -> None:
        """Starts workers up to the wanted number and the number of shards."""
        busy = sum(member.task is not None for member in self._members.values())
        while len(self._members) < min(self._wanted, busy + len(self._queue)):
            self._members[self.worker_pool.start()] = _Member(self.clock())

    def _take(self, number: int, report: Report) -> None:
        member = self._members[number]
        member.heard, member.reminders = self.clock(), 0
        if isinstance(report, Started):
            _refuse_other_libraries(report.versions)
            member.is_ready, member.where, self._false_starts = True, f", {report.where},", 0
        elif isinstance(report, Found):
            self._store(member, report.outcomes, report.truncated)
        elif isinstance(report, Ended):
            member.doubts, member.task = report.doubts, None
        elif isinstance(report, Refused):
            raise RunError(report.reason)
        else:
            self._lose(number, report)

    def _hand_out(self) -> None:
        """Gives every waiting worker a shard, while there are any."""
        for number, member in self._members.items():
            if self._queue and member.is_ready and member.task is None:
                own = (i for i, task in enumerate(self._queue) if task.cell.checkpoint == member.checkpoint)
                task = self._queue.pop(next(own, 0))
                self._begin(task.cell)
                member.task, member.checkpoint, member.heard = task, task.cell.checkpoint, self.clock()
                self.worker_pool.hand(number, Work(task.cell, tuple(task.missing.values())))

    def _begin(self, cell: Cell) -> None:
        if cell not in self._begun:
            self._begun.add(cell)
            self.sink.begin(cell, self.totals[cell])

    def _store(self, member: _Member, outcomes: Sequence[Outcome], truncated: Set[str]) -> None:
        task = member.task
        assert task is not None, "only a worker with a shard finds outcomes"
        self.sink.add(task.cell, outcomes, truncated)
        for outcome in outcomes:
            del task.missing[outcome.example_id]

    def _lose(self, number: int, report: Lost) -> None:
        member = self._members.pop(number)
        self._doubts += member.doubts
        if member.task is not None and member.task.missing:
            self._retry(member.task, report.reason)
        if not member.is_ready:
            self._count_false_start(report.reason)

    def _count_false_start(self, reason: str) -> None:
        """Continues without a bad GPU or machine if other workers can finish the run."""
        self._false_starts += 1
        if self._false_starts < FALSE_STARTS:
            return
        died = f"{self._false_starts} workers in a row died as they started, the last one of: {reason}"
        if not self._members:
            raise RunError(f"{died}; none is left")
        self._wanted = len(self._members)
        self._shortage = f"{died}; the run continues with {self._wanted} and starts no more"
        logger.warning(self._shortage)

    def _tell_silence(self) -> None:
        now = self.clock()
        for number, member in self._members.items():
            silence = now - member.heard
            is_idle = member.is_ready and member.task is None
            if is_idle or silence < SILENCE_SECONDS * (member.reminders + 1):
                continue
            member.reminders += 1
            logger.warning(
                f"worker {number}{member.where} has reported nothing for {silence / 60:.0f} minutes: it may hang, or "
                + (
                    "be busy with a long example; if you end its process, another worker takes over its work"
                    if member.is_ready
                    else "wait for room in the cluster"
                )
            )

    def _retry(self, task: _Task, reason: str) -> None:
        """Retries the shard unchanged, then each example alone, so that a deadly example affects no other."""
        attempts = task.attempts + 1
        if attempts >= ATTEMPTS:
            self._give_up(task, f"{attempts} workers died on it, the last one with this example alone: {reason}")
            return
        last = attempts == ATTEMPTS - 1
        parts = [{name: each} for name, each in task.missing.items()] if last else [task.missing]
        self._queue[:0] = [_Task(task.cell, part, attempts) for part in parts]
        if self._given_up[task.cell] >= POISONED:
            self._give_up_cell(task.cell)

    def _give_up(self, task: _Task, reason: str) -> None:
        self._add_errored(task.cell, task.missing.values(), reason)
        self._given_up[task.cell] += 1
        if self._given_up[task.cell] >= POISONED:
            self._give_up_cell(task.cell)

    def _give_up_cell(self, cell: Cell) -> None:
        reason = f"not computed: workers died on {self._given_up[cell]} other examples of this cell"
        rest = [task for task in self._queue if task.cell == cell]
        self._queue = [task for task in self._queue if task.cell != cell]
        self._add_errored(cell, [example for task in rest for example in task.missing.values()], reason)

    def _add_errored(self, cell: Cell, examples: Iterable[Example], reason: str) -> None:
        gold = self.graders[cell.checkpoint].gold
        self.sink.add(cell, [errored(example, gold(example), reason) for example in examples], frozenset())


def _refuse_other_libraries(versions: Mapping[str, str]) -> None:
    mine, theirs = compared_versions(library_versions()), compared_versions(versions)
    differing = [
        f"{name} ({mine[name]} here, {theirs.get(name)} there)" for name in mine if mine[name] != theirs.get(name)
    ]
    if differing:
        raise RunError(
            f"a worker's libraries differ from this process's: {', '.join(differing)}; install the same on "
            "every machine: numbers depend on them"
        )
