"""Pairs of a group: every candidate against the full checkpoint of its seed, at one matching."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from robustness.definitions.pairs import PairEntry, write_pairs
from robustness.errors import GateError, RunError
from robustness.studies.design import Design, Group, Matching, PlannedCheckpoint
from robustness.studies.graph import CHECKPOINTS, checkpoint_folder
from robustness.studies.records import TrainingRecord, read_training
from robustness.victims.files.selection import epoch_folder


@dataclass(frozen=True, slots=True)
class Arm:
    """A checkpoint at one matching: an arm of pairs, or the reason why it is none."""

    checkpoint: PlannedCheckpoint
    record: TrainingRecord | None
    """None: it was not trained."""
    epoch: int | None
    folder: Path
    """Of that epoch's weights."""
    refusal: str = ""
    """Why no pair may have it; empty: it is an arm."""

    @property
    def score(self) -> float | None:
        """The clean score on the selecting rows after its epoch."""
        return None if self.record is None or self.epoch is None else self.record.scores[self.epoch - 1]


def choose_arms(group: Group, matching: Matching, out: Path, floor: float) -> list[Arm]:
    """Returns every checkpoint of a group as an arm at a matching.

    Args:
        group: the checkpoints.
        matching: full checkpoints are at their best epoch under both.
        out: the study's folder.
        floor: the clean score of a constant answer; epochs at or below it match nothing.
    """
    full = {each.seed: _best(each, out) for each in group.checkpoints if each.is_reference}
    return [
        full[each.seed] if each.is_reference else _candidate(each, full[each.seed], matching, out, floor)
        for each in group.checkpoints
    ]


def _best(checkpoint: PlannedCheckpoint, out: Path) -> Arm:
    folder = checkpoint_folder(out, checkpoint)
    record = read_training(folder)
    if record is None:
        return Arm(checkpoint, None, None, folder, "it was not trained")
    return Arm(checkpoint, record, record.epoch, folder, record.reason)


def _candidate(checkpoint: PlannedCheckpoint, full: Arm, matching: Matching, out: Path, floor: float) -> Arm:
    arm = _best(checkpoint, out)
    if arm.refusal or arm.record is None:
        return arm
    if full.refusal:
        reason = f"its full partner {full.checkpoint.name} has no result: {full.refusal}"
        return Arm(checkpoint, arm.record, arm.epoch, arm.folder, reason)
    if matching is Matching.BEST:
        return arm
    assert full.score is not None
    epoch = closest_epoch(arm.record.scores, full.score, floor)
    if epoch is None:
        reason = f"no epoch of it and of its full partner is above the floor on the selecting rows ({floor:.3f})"
        return Arm(checkpoint, arm.record, None, arm.folder, reason)
    folder = arm.folder if epoch == arm.epoch else epoch_folder(arm.folder, epoch)
    return Arm(checkpoint, arm.record, epoch, folder)


def closest_epoch(scores: Sequence[float], wanted: float, floor: float) -> int | None:
    """Returns the epoch, counted from 1, whose clean score is nearest to the wanted one.

    Epochs at or below `floor` do not count; of two that are equally near, the higher score wins, then the earlier
    epoch. None if no epoch counts, or the wanted score is at the floor itself.

    >>> closest_epoch([0.50, 0.79, 0.86], wanted=0.82, floor=0.5)
    2
    """
    near = [
        (round(abs(score - wanted), 12), -score, epoch)
        for epoch, score in enumerate(scores, start=1)
        if min(score, wanted) > floor
    ]
    return min(near)[2] if near else None


def keep_matched(arms: Sequence[Arm], out: Path) -> None:
    """Removes the weights of epochs that no arm needs.

    Raises:
        RunError: the weights of a matched epoch were removed after an earlier match. Its training is removed too, so
            the same command trains it again.
    """
    for arm in arms:
        if arm.checkpoint.is_reference or arm.record is None or arm.refusal:
            continue
        top = checkpoint_folder(out, arm.checkpoint)
        if not arm.folder.is_dir():
            shutil.rmtree(top)
            raise RunError(
                f"{arm.folder}: not there, since an earlier match needed another epoch; the same command trains "
                f"{arm.checkpoint.name} again"
            )
        for snapshot in top.glob("epoch-*"):
            if snapshot != arm.folder:
                shutil.rmtree(snapshot)


def write_pairs_file(design: Design, group: Group, matching: Matching, arms: Sequence[Arm], out: Path) -> Path:
    """Writes the pairs of a group at a matching; returns the file's path.

    Raises:
        GateError: no pair results; the message has the reasons.
    """
    path = out / CHECKPOINTS / f"{group.label}-{matching}.toml"
    entries = list(_entries(design, group, arms, path.parent))
    if not entries:
        reasons = dict.fromkeys(f"{arm.checkpoint.name}: {arm.refusal}" for arm in arms if arm.refusal)
        raise GateError(f"no pair of {group.label} can be compared: {'; '.join(reasons)}")
    write_pairs(path, entries)
    return path


def _entries(design: Design, group: Group, arms: Sequence[Arm], folder: Path) -> Iterator[PairEntry]:
    full = {arm.checkpoint.seed: arm for arm in arms if arm.checkpoint.is_reference}
    for arm in arms:
        if not arm.refusal and not arm.checkpoint.is_reference:
            keys = ("full", "peft") if arm.checkpoint.is_peft else ("reference", "candidate")
            names = dict(zip(keys, (full[arm.checkpoint.seed], arm), strict=True))
            yield _entry(design, group, arm.checkpoint.name, arm.checkpoint.seed, names, folder)
    if all(arm.checkpoint.is_reference for arm in arms):  # the noise floor: each seed against the next one
        for first, second in pairwise(arm for arm in arms if not arm.refusal):
            name = f"{second.checkpoint.name}-against-seed{first.checkpoint.seed}"
            yield _entry(design, group, name, None, {"reference": first, "candidate": second}, folder)


def _entry(
    design: Design, group: Group, name: str, seed: int | None, arms: Mapping[str, Arm], folder: Path
) -> PairEntry:
    is_local = design.base_reference == str(design.base)
    content = {
        "name": name,
        "task": group.task.file or group.task.name,
        "base": os.path.relpath(design.base, folder.resolve()) if is_local else design.base_reference,
        "seed": seed,
        **{key: arm.folder.relative_to(folder).as_posix() for key, arm in arms.items()},
    }
    return PairEntry.model_validate(content)
