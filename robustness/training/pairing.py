"""Turns finished checkpoints into entries of a pairs file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from robustness.definitions.pairs import PairEntry
from robustness.training.adaptation import Base
from robustness.training.metrics import Metric
from robustness.victims.files.selection import epoch_folder

AGAINST = "-against-"
"""In the names of pairs whose reference is no full checkpoint."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One checkpoint of the call, trained or failed."""

    folder: Path
    seed: int
    method: str
    """Its name with what is added to its training, such as lora+freelb."""
    plain: str
    """Its name without."""
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
    """Returns an entry for every checkpoint with a partner of its seed; reports the others.

    The partner is the full checkpoint: the plainly trained one, or the first if there is none. A checkpoint with
    something added to its training is also paired with the same method without.
    """
    entries = []
    for arm in arms:
        for partner in _partners(arm, [each for each in arms if each.seed == arm.seed]):
            failed = [each.folder.name for each in (arm, partner) if not each.selecting_scores]
            if failed:
                pairing.say(f"{arm.folder.name}: left out of the pairs file: {', '.join(failed)} failed")
                continue
            folders = _folders(partner, arm, pairing)
            if folders is not None:
                entries.append(_entry(arm, partner, folders, pairing))
    return entries


def _partners(arm: Arm, arms: Sequence[Arm]) -> list[Arm]:
    full = sorted((each for each in arms if not each.is_peft), key=lambda each: each.method != each.plain)
    twins = [each for each in arms if each.method == arm.plain]
    return [each for each in dict.fromkeys([*full[:1], *twins]) if each != arm and full[:1] != [arm]]


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


def _folders(reference: Arm, candidate: Arm, pairing: Pairing) -> tuple[Path, Path] | None:
    if pairing.floor is None:
        return reference.folder, candidate.folder
    epochs = closest_epochs(reference.selecting_scores, candidate.selecting_scores, pairing.floor)
    if epochs is None:
        pairing.say(
            f"{candidate.folder.name}: left out of the pairs file: no two epochs in which both arms are above "
            f"the floor on the selecting rows ({pairing.floor:.3f})"
        )
        return None
    scores = reference.selecting_scores[epochs[0] - 1], candidate.selecting_scores[epochs[1] - 1]
    pairing.say(
        f"{candidate.folder.name}: epoch {epochs[1]} (dev {pairing.metric.spelling} {scores[1]:.3f}) against epoch "
        f"{epochs[0]} of {reference.folder.name} ({scores[0]:.3f})"
    )
    return epoch_folder(reference.folder, epochs[0]), epoch_folder(candidate.folder, epochs[1])


def _entry(arm: Arm, partner: Arm, folders: tuple[Path, Path], pairing: Pairing) -> PairEntry:
    base = pairing.base
    is_local = base.reference == str(base.folder)
    is_headline = arm.is_peft and not partner.is_peft
    reference, candidate = (folder.relative_to(pairing.out).as_posix() for folder in folders)
    return PairEntry(
        name=arm.folder.name if not partner.is_peft else f"{arm.folder.name}{AGAINST}{partner.method}",
        task=pairing.task,
        base=os.path.relpath(base.folder, pairing.out.resolve()) if is_local else base.reference,
        reference=None if is_headline else reference,
        candidate=None if is_headline else candidate,
        full=reference if is_headline else None,
        peft=candidate if is_headline else None,
        seed=arm.seed,
    )
