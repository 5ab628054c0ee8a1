"""Jobs: what a kind of work declares so that workers can compute it.

A kind of work consists of four parts.

- A `Job` is picklable data.
- A `Bench` computes jobs one after the other, and yields picklable messages: progress, results, or both.
- A `BenchSpec` is the picklable description from which every worker builds its own bench.
- A `Booking` stays in the driver, one for each job: it stores the messages, and knows what a lost worker left undone.

`compute_on_workers(bookings, spec, execution, device)` in `robustness.workers.pool` computes all of them on workers,
`compute_here(bookings, bench)` in this process. Bookings of several kinds may share a queue and a bench.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol


class Job(Protocol):
    """Picklable data that says what to compute; a worker computes one job at a time."""

    @property
    def key(self) -> str:
        """Its name in messages to people.

        Parts of one job share it: after workers have died on three parts, the rest is given up.
        """
        ...

    @property
    def affinity(self) -> str:
        """What a worker loads for it, such as a checkpoint's name; a worker prefers jobs of the same affinity."""
        ...

    @property
    def cost(self) -> float:
        """Its expected cost, in any unit that all jobs of a queue share; the costliest are computed first."""
        ...


class Bench(Protocol):
    """Computes jobs in one process, and keeps loaded what the next job may need."""

    def compute(self, job: Job) -> Iterator[object]:
        """Yields messages, which reach the job's booking in this order.

        Raises:
            RobustnessError: ends all work, because it would fail on every worker.
            Exception: any other error ends this worker; another worker tries the rest of the job. An error that
                concerns only this job, such as a diverging training, is a message instead.
        """
        ...

    def doubts(self) -> Sequence[str]:
        """Returns warnings about its results so far, for the driver's caller."""
        ...


class BenchSpec(Protocol):
    """The picklable description of a bench; everything it names must exist on every machine, under the same path."""

    def build(self, threads: int) -> Bench:
        """Returns the bench in a worker's process.

        Args:
            threads: for one worker; set torch's number of threads.

        Raises:
            Exception: this machine or device is at fault; the worker is lost, and others continue.
        """
        ...


class Booking(Protocol):
    """A job with the driver's records of it; only the driver's process sees it."""

    @property
    def job(self) -> Job:
        """What a worker gets."""
        ...

    def begin(self) -> None:
        """Notes that a worker gets the job now; called again at every new try."""
        ...

    def store(self, message: object) -> None:
        """Stores a message of the worker."""
        ...

    def left(self) -> Booking | None:
        """Returns the undone part of a job whose worker was lost; None if nothing is undone."""
        ...

    def split(self) -> Sequence[Booking]:
        """Returns its smallest parts, for the last try; itself if it has no parts."""
        ...

    def give_up(self, reason: str) -> None:
        """Records that workers died on the job; other jobs continue."""
        ...

    def finish(self) -> Sequence[Booking]:
        """Returns the jobs that are ready now; called once this job, or each of its parts, is done or given up.

        So a job that needs the results of others does not exist before they are stored.
        """
        ...
