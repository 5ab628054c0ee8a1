"""The result of a job: a complete folder, or the reason why there is none."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

from robustness.errors import RobustnessError, RunError, first_line
from robustness.paths import FULL
from robustness.training.execution.checkpoints import make_checkpoint
from robustness.training.execution.context import TrainingContext
from robustness.training.execution.meter import Tell
from robustness.training.job import TrainingJob
from robustness.training.protocol import TrainingSettings
from robustness.training.record import Outcome, is_complete, read_outcome
from robustness.victims.batches import recover_memory

NO_SPACE = tuple(map(os.strerror, FULL))
"""What errors of a full disk say, those of the library that writes weights too, which have no code."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The result of a job."""

    job: TrainingJob
    outcome: Outcome | None
    """As recorded in the job's folder; None if an error ended the job, so that there is no folder."""
    reason: str = ""
    """Why there is no checkpoint; empty if there is one."""

    @property
    def failed(self) -> bool:
        """Whether there is no checkpoint."""
        return bool(self.reason)

    @property
    def selecting_scores(self) -> tuple[float, ...]:
        """Scores of the chosen learning rate after each epoch; empty after a failure."""
        return () if self.outcome is None else self.outcome.selecting_scores


def find_result(job: TrainingJob, context: TrainingContext) -> TrainingResult | None:
    """Returns the result of a job whose folder is there, or that cannot be begun; None: it is to be trained."""
    try:
        return read_result(job) if is_complete(job.folder, context.fingerprint(job)) else None
    except RobustnessError as error:
        return TrainingResult(job, None, str(error))


def train_job(
    job: TrainingJob, context: TrainingContext, tell: Tell, settings: TrainingSettings | None = None
) -> TrainingResult:
    """Trains a job unless another process has; turns an error into the reason of a failure.

    Args:
        job: its folder is there if a lost worker, or another command, has finished it.
        context: of this process.
        tell: called with one line after each epoch, and with the share that is done.
        settings: as after the first step; None: the step is taken here.
    """
    try:
        if (found := find_result(job, context)) is None:
            make_checkpoint(job, context, tell, settings)
            return read_result(job)
        tell(1.0)
        return found
    except Exception as error:  # transformers, peft and torch raise errors of many classes
        reason = explain(error)
    # Only here, because the exception holds tensors.
    with suppress(RuntimeError):  # of a lost device, which every later job will report
        recover_memory()
    # Two processes may train one checkpoint at once; the one that ends later cannot take the place of the other.
    return find_result(job, context) or TrainingResult(job, None, reason)


def read_result(job: TrainingJob) -> TrainingResult:
    """Returns the result that a job's folder records; raises RunError without a readable record."""
    outcome = read_outcome(job.folder)
    return TrainingResult(job, outcome, outcome.reason)


def refuse_full_disk(result: TrainingResult) -> None:
    """Raises RunError if a job ended because the disk is full: every later one would be lost once it is saved."""
    if result.outcome is None and any(words in result.reason for words in NO_SPACE):
        raise RunError(
            f"{result.job.folder}: the disk is full: {result.reason}; checkpoints made before are intact: make "
            "space, and the same command resumes"
        )


def explain(error: Exception) -> str:
    """Returns the reason of a failure: our own message unchanged, a library's with its class."""
    return str(error) if isinstance(error, RobustnessError) else f"{type(error).__name__}: {first_line(error)}"
