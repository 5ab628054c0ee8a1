"""The driver's records of training jobs that workers compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import final

from robustness.training.execution.bench import Assignment
from robustness.training.execution.meter import Tell
from robustness.training.execution.results import TrainingResult, read_result, refuse_full_disk
from robustness.training.job import TrainingJob
from robustness.workers.jobs import Booking


@final
class TrainingBooking:
    """A training job, which has no parts: a lost worker's job starts again.

    Args:
        job: what a worker gets.
        tell: called with the job's lines of progress, and with shares that are done.
        own: the job with the caller's paths, which may be relative.
        results: by the caller's folders; receives the job's result.
    """

    def __init__(self, job: Assignment, tell: Tell, own: TrainingJob, results: dict[Path, TrainingResult]) -> None:
        self.job = job
        self.folder = own.folder
        self._own = own
        self._tell = tell
        self._results = results
        self._tries = 0

    def begin(self) -> None:
        """Says when a lost worker's training starts again."""
        self._tries += 1
        if self._tries > 1:
            self._tell("starts again, because its worker was lost")

    def store(self, message: object) -> None:
        """Passes on a line or a share, or keeps the result.

        Raises:
            RunError: the disk is full, or this process does not see the folder that the worker has written.
        """
        if isinstance(message, str | float):
            self._tell(message)
            return
        assert isinstance(message, TrainingResult), "a training tells of nothing else"
        refuse_full_disk(message)
        self._results[self.folder] = replace(message, job=self._own) if message.failed else read_result(self._own)

    def left(self) -> TrainingBooking | None:
        """Returns the whole job unless it has ended."""
        return None if self.folder in self._results else self

    def split(self) -> list[Booking]:
        """Returns the job itself."""
        return [self]

    def give_up(self, reason: str) -> None:
        """Records a failure."""
        self._results[self.folder] = TrainingResult(self._own, None, reason)

    def finish(self) -> Sequence[Booking]:
        """Returns nothing: no job waits for a training."""
        return ()
