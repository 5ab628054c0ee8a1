"""Dispatch: sends jobs to workers, messages to their bookings, and a lost worker's job to another worker."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, final

from robustness.errors import RunError
from robustness.versions import compared_versions, library_versions
from robustness.workers.jobs import Booking, Job
from robustness.workers.queue import Queue, Queued
from robustness.workers.reports import Ended, Lost, Refused, Report, Started, Told

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""Maximum of workers that may die on a job; the last attempt is at its smallest parts, one by one."""
POISONED = 3
"""Maximum of parts given up before all of the job is given up."""
FALSE_STARTS = 3
"""Maximum of consecutive workers that die before they are ready; afterwards no new workers are started."""
SILENCE_SECONDS = 1800.0
"""Silence after which a warning is logged. No worker is ended for it, because a hard job may take as long."""
WATCH_SECONDS = 60.0
"""Interval of checks for silence."""


class WorkerPool(Protocol):
    """Workers in separate processes, identified by numbers."""

    def start(self) -> int:
        """Starts a worker, which reports Started when it is ready."""
        ...

    def hand(self, worker: int, job: Job) -> None:
        """Gives a job to an idle worker; it reports Told any number of times, then Ended."""
        ...

    def wait(self, seconds: float) -> Sequence[tuple[int, Report]]:
        """Waits for reports at most about this long; a worker that reports Lost or Refused is gone."""
        ...

    def dismiss(self) -> None:
        """Ends all workers."""
        ...


@dataclass(slots=True)
class _Member:
    """The dispatcher's view of a worker."""

    heard: float
    """Time of its last report or its last job."""
    reminders: int = 0
    """Number of warnings about its silence since then."""
    where: str = ""
    is_ready: bool = False
    current: Queued | None = None
    affinity: str = ""
    """What it has loaded."""
    doubts: tuple[str, ...] = ()


@final
@dataclass(slots=True)
class Dispatcher:
    """Keeps a pool of workers busy until every job is done or given up.

    A worker gets jobs of what it has loaded as long as there are any.
    """

    worker_pool: WorkerPool
    workers: int
    """Workers to keep."""
    clock: Callable[[], float] = time.monotonic
    _queue: Queue = field(default_factory=lambda: Queue(()))
    _members: dict[int, _Member] = field(default_factory=dict)
    _doubts: list[str] = field(default_factory=list)
    _given_up: Counter[str] = field(default_factory=Counter)
    """Parts given up, by the key of their job."""
    _false_starts: int = 0
    _shortage: str = ""
    """Why there are fewer workers than requested."""

    def run(self, bookings: Sequence[Booking]) -> list[str]:
        """Computes all jobs, and jobs that become ready meanwhile; returns the doubts of the workers' benches.

        Raises:
            RunError: no worker starts, or one has other libraries, or refuses its work.
        """
        self._queue = Queue(bookings)
        try:
            self._hire()
            while self._queue or any(member.current for member in self._members.values()):
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
        """Starts workers up to the wanted number and the number of jobs."""
        busy = sum(member.current is not None for member in self._members.values())
        while len(self._members) < min(self.workers, busy + len(self._queue)):
            self._members[self.worker_pool.start()] = _Member(self.clock())

    def _take(self, number: int, report: Report) -> None:
        member = self._members[number]
        member.heard, member.reminders = self.clock(), 0
        if isinstance(report, Started):
            _refuse_other_libraries(report.versions)
            member.is_ready, member.where, self._false_starts = True, f", {report.where},", 0
        elif isinstance(report, Told):
            assert member.current is not None, "only a worker with a job tells of one"
            member.current.booking.store(report.message)
        elif isinstance(report, Ended):
            assert member.current is not None, "only a worker with a job ends one"
            member.doubts, done, member.current = report.doubts, member.current, None
            self._queue.add(done.booking.finish())
        elif isinstance(report, Refused):
            raise RunError(report.reason)
        else:
            self._lose(number, report)

    def _hand_out(self) -> None:
        """Gives every waiting worker a job, while there are any."""
        for number, member in self._members.items():
            if self._queue and member.is_ready and member.current is None:
                others = {other.affinity for other in self._members.values() if other.current}
                queued = self._queue.take(member.affinity, others)
                queued.booking.begin()
                job = queued.booking.job
                member.current, member.affinity, member.heard = queued, job.affinity, self.clock()
                self.worker_pool.hand(number, job)

    def _lose(self, number: int, report: Lost) -> None:
        member = self._members.pop(number)
        self._doubts += member.doubts
        if member.current is not None:
            self._retry(member.current, report.reason)
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
        self.workers = len(self._members)
        self._shortage = f"{died}; the run continues with {self.workers} and starts no more"
        logger.warning(self._shortage)

    def _tell_silence(self) -> None:
        now = self.clock()
        for number, member in self._members.items():
            silence = now - member.heard
            is_idle = member.is_ready and member.current is None
            if is_idle or silence < SILENCE_SECONDS * (member.reminders + 1):
                continue
            member.reminders += 1
            logger.warning(
                f"worker {number}{member.where} has reported nothing for {silence / 60:.0f} minutes: it may hang, or "
                + (
                    "be busy with a long job; if you end its process, another worker takes over its work"
                    if member.is_ready
                    else "wait for room in the cluster"
                )
            )

    def _retry(self, queued: Queued, reason: str) -> None:
        """Retries the job's rest unchanged, then each part alone, so that a deadly part affects no other."""
        left, attempts = queued.booking.left(), queued.attempts + 1
        if left is None:  # it died after its last message
            self._queue.add(queued.booking.finish())
        elif attempts >= ATTEMPTS:
            self._give_up(left, f"{attempts} workers died on it, the last one on it alone: {reason}")
            self._given_up[left.job.key] += 1
        else:
            self._queue.retry(left.split() if attempts == ATTEMPTS - 1 else [left], attempts)
        key = queued.booking.job.key
        if self._given_up[key] >= POISONED:
            for booking in self._queue.take_parts(key):
                self._give_up(booking, f"not computed: workers died on {self._given_up[key]} other parts of {key}")

    def _give_up(self, booking: Booking, reason: str) -> None:
        booking.give_up(reason)
        self._queue.add(booking.finish())


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
