"""A kind of job that needs no model: it counts, and dies or refuses where it is told to."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from robustness.errors import DataError
from robustness.workers.jobs import Job


@dataclass(frozen=True, slots=True)
class Count:
    """The numbers from `start` to before `end`."""

    key: str
    start: int
    end: int
    affinity: str = ""
    cost: float = 1.0


@dataclass(frozen=True, slots=True)
class CountBenchSpec:
    """Of a bench that dies at one number, refuses another, and fails at a third."""

    deadly: int | None = None
    refused: int | None = None
    broken_device: bool = False
    silent: int | None = None
    """At this number it works for ten minutes."""

    def build(self, threads: int) -> CountBench:
        if self.broken_device:
            raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
        return CountBench(self, threads)


class CountBench:
    """Yields one message a number."""

    def __init__(self, spec: CountBenchSpec, threads: int) -> None:
        self._spec = spec
        self.threads = threads

    def compute(self, job: Job) -> Iterator[int]:
        assert isinstance(job, Count)
        for number in range(job.start, job.end):
            if number == self._spec.deadly:
                os._exit(9)
            if number == self._spec.refused:
                raise DataError(f"number {number}: is refused")
            if number == self._spec.silent:
                time.sleep(600)
            yield number

    def doubts(self) -> Sequence[str]:
        return ["counted"]


@dataclass(slots=True)
class CountBooking:
    """Keeps what it was told; parts tell it to the whole."""

    job: Count
    told: list[int] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    """One reason for each number."""
    followers: list[CountBooking] = field(default_factory=list)
    """Jobs that are ready once as many numbers are told or given up as the whole has."""
    begun: list[int] = field(default_factory=list)
    total: int = -1
    _here: int = 0
    """Numbers of this part that were told."""

    def __post_init__(self) -> None:
        self.total = self.job.end - self.job.start if self.total < 0 else self.total

    def begin(self) -> None:
        self.begun.append(self.job.start)

    def store(self, message: object) -> None:
        assert isinstance(message, int)
        self.told.append(message)
        self._here += 1

    def left(self) -> CountBooking | None:
        start = self.job.start + self._here
        return self._part(start, self.job.end) if start < self.job.end else None

    def split(self) -> list[CountBooking]:
        return [self._part(number, number + 1) for number in range(self.job.start, self.job.end)]

    def give_up(self, reason: str) -> None:
        self.given_up += [reason] * (self.job.end - self.job.start - self._here)

    def finish(self) -> list[CountBooking]:
        done = len(self.told) + len(self.given_up) == self.total
        ready = self.followers[:] if done else []
        if done:
            self.followers.clear()
        return ready

    def _part(self, start: int, end: int) -> CountBooking:
        job = replace(self.job, start=start, end=end)
        return CountBooking(job, self.told, self.given_up, self.followers, self.begun, self.total)
