"""The queue of jobs: the costliest first, except that a worker keeps to what it has loaded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import final

from robustness.workers.jobs import Booking


@dataclass(frozen=True, slots=True)
class Queued:
    """A booked job, and the number of workers that have died on it."""

    booking: Booking
    attempts: int = 0


@final
class Queue:
    """Waiting jobs; a job that lost its worker comes before all others.

    Args:
        bookings: of the first jobs.
        in_order: whether to keep the order given rather than to take the costliest first.
    """

    def __init__(self, bookings: Iterable[Booking], *, in_order: bool = False) -> None:
        self._in_order = in_order
        self._waiting: list[Queued] = []
        self.add(bookings)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, bookings: Iterable[Booking]) -> None:
        """Adds new jobs; of equal costs the earlier one stays first."""
        self._waiting += map(Queued, bookings)
        if not self._in_order:
            self._waiting.sort(key=lambda each: (-each.attempts, -each.booking.job.cost))

    def retry(self, bookings: Iterable[Booking], attempts: int) -> None:
        """Adds the rest of a job on which workers have died."""
        self._waiting[:0] = [Queued(booking, attempts) for booking in bookings]

    def take(self, affinity: str, others: Collection[str] = ()) -> Queued:
        """Removes and returns the next job for a worker; raises IndexError if there is none.

        Args:
            affinity: what it has loaded: the first job of this affinity is the next.
            others: what other workers have loaded; few workers are to load the same.
        """
        affinities = [each.booking.job.affinity for each in self._waiting]
        own = (i for i, each in enumerate(affinities) if each == affinity)
        free = (i for i, each in enumerate(affinities) if each not in others)
        return self._waiting.pop(next(own, next(free, 0)))

    def take_parts(self, key: str) -> Iterator[Booking]:
        """Removes and yields all jobs with this key."""
        found = [each.booking for each in self._waiting if each.booking.job.key == key]
        self._waiting = [each for each in self._waiting if each.booking.job.key != key]
        yield from found
