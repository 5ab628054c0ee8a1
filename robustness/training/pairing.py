"""Turns finished checkpoints into entries of a pairs file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from robustness.definitions.pairs import PairEntry, PairsDefinition
from robustness.definitions.reading import read_definition
from robustness.training.adaptation import Base
from robustness.training.metrics import Metric
from robustness.victims.files.selection import epoch_folder


@dataclass(frozen=True, slots=True)
class Arm:
    """One checkpoint of the call, trained or failed."""

    folder: Path
    seed: int
    is_peft: bool
    selecting_scores: tuple[float, ...]
    """After each epoch of the chosen learning rate; empty after a failure."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """The common part of one call's entries."""

    task: str
    base: Base
    out: Path
    floor: float | None
    """Match epochs by clean score above this floor; None: take the best epochs."""
    metric: Metric
    say: Callable[[str], None]


def pair_arms(arms: Sequence[Arm], pairing: Pairing) -> list[PairEntry]:
    """Returns an entry for every PEFT checkpoint with a full partner of its seed; reports the others."""
    full = {arm.seed: arm for arm in arms if not arm.is_peft}
    entries = []
    for arm in arms:
        if not arm.is_peft:
            continue
        partner = full[arm.seed]
        failed = [each.folder.name for each in (arm, partner) if not each.selecting_scores]
        if failed:
            pairing.say(f"{arm.folder.name}: left out of the pairs file: {', '.join(failed)} failed")
            continue
        folders = _folders(partner, arm, pairing)
        if folders is not None:
            entries.append(_entry(arm, folders, pairing))
    return entries


def closest_epochs(full: Sequence[float], peft: Sequence[float], floor: float) -> tuple[int, int] | None:
    """Returns the epochs, counted from 1, at which two arms' clean accuracies are closest.

    Epochs at or below `floor` do not count; among equal gaps the highest accuracies win, then the earliest epochs.
    None if an arm has no epoch above the floor.

    >>> closest_epochs([0.80, 0.85, 0.90], [0.50, 0.79, 0.84], floor=0.5)
    (2, 3)
    """
    candidates = [
        (round(abs(a - b), 12), -(a + b), i, j)
        for (i, a), (j, b) in product(enumerate(full, start=1), enumerate(peft, start=1))
        if min(a, b) > floor
    ]
    return min(candidates)[2:] if candidates else None


def _folders(full: Arm, peft: Arm, pairing: Pairing) -> tuple[Path, Path] | None:
    if pairing.floor is None:
        return full.folder, peft.folder
    epochs = closest_epochs(full.selecting_scores, peft.selecting_scores, pairing.floor)
    if epochs is None:
        pairing.say(
            f"{peft.folder.name}: left out of the pairs file: no two epochs in which both arms are above "
            f"the floor on the selecting rows ({pairing.floor:.3f})"
        )
        return None
    scores = full.selecting_scores[epochs[0] - 1], peft.selecting_scores[epochs[1] - 1]
    pairing.say(
        f"{peft.folder.name}: epoch {epochs[1]} (dev {pairing.metric.spelling} {scores[1]:.3f}) against the full "
        f"arm's epoch {epochs[0]} ({scores[0]:.3f})"
    )
    return epoch_folder(full.folder, epochs[0]), epoch_folder(peft.folder, epochs[1])


def _entry(arm: Arm, folders: tuple[Path, Path], pairing: Pairing) -> PairEntry:
    base = pairing.base
    is_local = base.reference == str(base.folder)
    full, peft = (folder.relative_to(pairing.out).as_posix() for folder in folders)
    return PairEntry(
        name=arm.folder.name,
        task=pairing.task,
        base=os.path.relpath(base.folder, pairing.out.resolve()) if is_local else base.reference,
        full=full,
        peft=peft,
        seed=arm.seed,
    )


def stored_pairs(path: Path) -> list[PairEntry]:
    """The entries of a pairs file; empty without a file.

    Raises:
        DefinitionError: the file cannot be read.
    """
    return list(read_definition(path, PairsDefinition).pair) if path.is_file() else []
