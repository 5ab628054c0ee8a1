"""The trainings of a study, each with its own outcome."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from robustness.errors import RunError
from robustness.recipes.assets.resources import Resources
from robustness.recipes.augmenting import find_random_edits
from robustness.studies.conduct import Conduct, Say
from robustness.studies.design import Design, Group, PlannedCheckpoint
from robustness.studies.graph import CHECKPOINTS, checkpoint_folder
from robustness.studies.journal import Ended, State
from robustness.studies.rows import load_group
from robustness.training.adaptation import Base
from robustness.training.examples.augmentation import write_augmented
from robustness.training.execution.context import TrainingContext
from robustness.training.job import TrainingJob
from robustness.training.jobs import TrainingResult, computable, find_device, make_checkpoints
from robustness.training.record import is_complete


def train_checkpoints(
    design: Design, wanted: Sequence[PlannedCheckpoint], out: Path, conduct: Conduct
) -> Iterator[tuple[PlannedCheckpoint, Ended]]:
    """Trains checkpoints; yields each with how its training ended.

    What another content of the study's file left in their folders is trained anew.
    """
    names = {each.name for each in wanted}
    chosen = [(group, each) for group in design.groups for each in group.checkpoints if each.name in names]
    added = _add_rows(design, chosen, out, conduct.say)
    device = find_device(conduct.device)
    # As they will be trained, so that what an interrupted call has made is known again.
    jobs = computable([_job(design, group, each, out, added) for group, each in chosen], device, conduct.say)
    _remove_others(jobs, device)
    results = make_checkpoints(
        jobs, conduct.execution, conduct.say, device=conduct.device, on_steps=conduct.on_progress
    )
    for (_, checkpoint), result in zip(chosen, results, strict=True):
        yield checkpoint, _ended(result)


def _add_rows(
    design: Design, chosen: Sequence[tuple[Group, PlannedCheckpoint]], out: Path, say: Say
) -> dict[tuple[str, str], Path]:
    """Writes the rows that recipes have changed; returns the files by the group's label and the recipe."""
    files = {}
    for group in design.groups:
        recipes = {each.variant.defence.recipe for mine, each in chosen if mine is group} - {""}
        if not recipes:
            continue
        rows = load_group(design, group)
        for recipe in sorted(recipes):
            edits = find_random_edits(recipe, Resources.of(design.data))
            files[group.label, recipe] = write_augmented(rows, edits, out / CHECKPOINTS, say)
    return files


def _job(
    design: Design, group: Group, checkpoint: PlannedCheckpoint, out: Path, added: Mapping[tuple[str, str], Path]
) -> TrainingJob:
    return TrainingJob(
        testset=group.reference,
        base=Base(design.base, design.base_reference),
        method=checkpoint.variant.method,
        seed=checkpoint.seed,
        folder=checkpoint_folder(out, checkpoint),
        settings=checkpoint.settings,
        data=design.data,
        limit=group.rows,
        augmented=added.get((group.label, checkpoint.variant.defence.recipe)),
    )


def _remove_others(jobs: Sequence[TrainingJob], device: torch.device) -> None:
    """Removes folders of checkpoints that were trained otherwise, such as before the study's file changed."""
    context = TrainingContext(device)
    for job in jobs:
        if job.folder.exists():
            try:
                is_complete(job.folder, context.fingerprint(job))
            except RunError:
                shutil.rmtree(job.folder)


def _ended(result: TrainingResult) -> Ended:
    if result.outcome is None:  # an error, which may not come again
        return Ended(State.FAILED, 0.0, result.reason, is_final=False)
    return Ended(State.FAILED if result.failed else State.DONE, result.outcome.seconds, result.reason)
