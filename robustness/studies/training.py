"""The trainings of a study, each with its own outcome."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from robustness.errors import RunError
from robustness.studies.conduct import Conduct
from robustness.studies.design import Design, Group, PlannedCheckpoint
from robustness.studies.graph import checkpoint_folder
from robustness.studies.journal import Ended, State
from robustness.training.adaptation import Base
from robustness.training.job import TrainingJob
from robustness.training.jobs import Trained, find_device, make_checkpoints
from robustness.training.making.workshop import Workshop
from robustness.training.record import is_complete


def train_checkpoints(
    design: Design, wanted: Sequence[PlannedCheckpoint], out: Path, conduct: Conduct
) -> Iterator[tuple[PlannedCheckpoint, Ended]]:
    """Trains checkpoints; yields each with how its training ended.

    What another content of the study's file left in their folders is trained anew.
    """
    names = {each.name for each in wanted}
    chosen = [(group, each) for group in design.groups for each in group.checkpoints if each.name in names]
    jobs = [_job(design, group, each, out) for group, each in chosen]
    _remove_others(jobs, conduct.device)
    ends = make_checkpoints(jobs, conduct.execution, conduct.say, device=conduct.device)
    for (_, checkpoint), end in zip(chosen, ends, strict=True):
        yield checkpoint, _ended(end)


def _job(design: Design, group: Group, checkpoint: PlannedCheckpoint, out: Path) -> TrainingJob:
    return TrainingJob(
        testset=group.reference,
        base=Base(design.base, design.base_reference),
        method=checkpoint.variant.method,
        seed=checkpoint.seed,
        folder=checkpoint_folder(out, checkpoint),
        settings=checkpoint.settings,
        data=design.data,
        limit=group.rows,
    )


def _remove_others(jobs: Sequence[TrainingJob], device: str) -> None:
    """Removes folders of checkpoints that were trained otherwise, such as before the study's file changed."""
    shop = Workshop(find_device(device))
    for job in jobs:
        if job.folder.exists():
            try:
                is_complete(job.folder, shop.fingerprint(job))
            except RunError:
                shutil.rmtree(job.folder)


def _ended(end: Trained) -> Ended:
    if end.outcome is None:  # an error, which may not come again
        return Ended(State.FAILED, 0.0, end.reason, is_final=False)
    return Ended(State.FAILED if end.failed else State.DONE, end.outcome.seconds, end.reason)
