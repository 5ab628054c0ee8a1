"""Training jobs on workers: what one worker gets, keeps and tells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import final

import torch

from robustness.errors import RunError
from robustness.quiet import quieten_libraries
from robustness.training.execution.context import TrainingContext
from robustness.training.execution.meter import Told
from robustness.training.execution.results import TrainingResult, train_job
from robustness.training.job import TrainingJob
from robustness.training.protocol import TrainingSettings
from robustness.training.record import Fingerprint
from robustness.victims.loading import place
from robustness.workers.jobs import Job


@dataclass(frozen=True, slots=True)
class Assignment:
    """A training job on its way to a worker; paths are absolute."""

    training: TrainingJob
    fingerprint: Fingerprint
    """The driver's; a worker that sees other files refuses."""
    settings: TrainingSettings | None
    """As after the first step, if the driver has taken it."""
    cost: float

    @property
    def key(self) -> str:
        """The checkpoint's name."""
        return self.training.folder.name

    @property
    def affinity(self) -> str:
        """Rows and base, which a worker keeps."""
        return repr((self.training.source, self.training.base))


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """A worker's description of trainings."""

    device: str
    """cpu or cuda."""

    def build(self, threads: int) -> TrainingBench:
        """Returns the bench; raises an error if the device does not compute."""
        torch.set_num_threads(threads)
        quieten_libraries()
        device = place(self.device).device
        _refuse_broken(device)
        return TrainingBench(TrainingContext(device))


@final
class TrainingBench:
    """Trains one job after the other in a worker's process.

    Args:
        context: of this process.
    """

    def __init__(self, context: TrainingContext) -> None:
        self._context = context

    def compute(self, job: Job) -> Iterator[Told | TrainingResult]:
        """Yields lines of progress and shares that are done, then the job's result.

        Raises:
            RunError: this machine sees other files than the driver's.
            RuntimeError: the job failed because the device is lost.
        """
        assert isinstance(job, Assignment), "trainings have no other jobs"
        self._refuse_other_files(job)
        told: SimpleQueue[Told | TrainingResult | None] = SimpleQueue()

        def work() -> None:
            try:
                told.put(train_job(job.training, self._context, told.put, job.settings))
            finally:
                told.put(None)

        # A training tells its progress from inside the library's loop, which cannot yield.
        Thread(target=work, daemon=True).start()
        while (message := told.get()) is not None:
            if isinstance(message, TrainingResult) and message.failed:
                _refuse_broken(self._context.device)  # then another worker tries again
            yield message

    def doubts(self) -> list[str]:
        """Returns nothing: failures are results of jobs."""
        return []

    def _refuse_other_files(self, job: Assignment) -> None:
        here = self._context.fingerprint(job.training)
        if here.packed_by != job.fingerprint.packed_by:
            raise RunError(
                f"{job.key}: its base is in 4 bit by bitsandbytes {job.fingerprint.packed_by}, and here is "
                f"{here.packed_by}; install the same on every machine: numbers depend on it"
            )
        if here != job.fingerprint:
            raise RunError(
                f"{job.key}: its base or rows differ here from those on the driver's machine; every machine must see "
                "the same files"
            )


def _refuse_broken(device: torch.device) -> None:
    torch.ones(1, device=device).sum().item()
