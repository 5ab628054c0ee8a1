"""The queue of jobs: the costliest first, except that a worker keeps to what it has loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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

    >>> len(Queue([]))
    0
    """

    def __init__(self, bookings: Iterable[Booking]) -> None:
        self._waiting: list[Queued] = []
        self.add(bookings)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, bookings: Iterable[Booking]) -> None:
        """Adds new jobs; of equal costs the earlier one stays first."""
        self._waiting += map(Queued, bookings)
        self._waiting.sort(key=lambda each: (-each.attempts, -each.booking.job.cost))

    def retry(self, bookings: Iterable[Booking], attempts: int) -> None:
        """Adds the rest of a job on which workers have died."""
        self._waiting[:0] = [Queued(booking, attempts) for booking in bookings]

    def take(self, affinity: str) -> Queued:
        """Removes and returns the first job of this affinity, or else the first of all."""
        own = (i for i, each in enumerate(self._waiting) if each.booking.job.affinity == affinity)
        return self._waiting.pop(next(own, 0))

    def take_parts(self, key: str) -> Iterator[Booking]:
        """Removes and yields all jobs with this key."""
        found = [each.booking for each in self._waiting if each.booking.job.key == key]
        self._waiting = [each for each in self._waiting if each.booking.job.key != key]
        yield from found
