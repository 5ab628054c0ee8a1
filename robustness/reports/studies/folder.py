"""The files of a study's folder, read: its definition, its checkpoints and its runs."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from robustness.errors import RunError
from robustness.reports.comparisons.methods import FULL, HEADLINE
from robustness.runs.storage.record import RunRecord, read_record
from robustness.spreadsheets import restore

FILE_NAME = "study.json"


class Matching(StrEnum):
    """At which epoch an adapter is compared with its full arm."""

    BEST = "best"
    """The best of each."""
    CLEAN = "clean"
    """The adapter's epoch whose clean score is nearest to the full arm's."""


@dataclass(frozen=True, slots=True)
class StudyCheckpoint:
    """A row of checkpoints.csv."""

    name: str
    """As in the tables of the runs."""
    task: str
    method: str
    """With its parameters, such as lora-r8."""
    family: str
    """The method's file, with what was added to its training: lora, or lora+freelb."""
    parameters: str
    """The values that the study varied, as JSON."""
    train_seed: int
    rows: float
    """Training rows, without any that a recipe adds; nan: not known."""
    matching: Matching
    epoch: float
    trainable_parameters: float
    trainable_share: float
    selecting_score: float
    status: str
    """`trained`, `failed` or `refused`."""
    reason: str
    folder: str
    contrast: str = HEADLINE
    """With plain full fine-tuning, as in pairs.csv; of that itself, nothing."""
    defence: str = ""
    """What was added to its training, such as freelb."""

    @property
    def is_full(self) -> bool:
        """Whether it is plain full fine-tuning, with which all others are compared."""
        return self.family == FULL

    @property
    def is_peft(self) -> bool:
        """Whether an adapter was trained."""
        return not self.is_full and self.contrast == HEADLINE

    @property
    def is_plain_peft(self) -> bool:
        """Whether an adapter was trained, with nothing added to its training."""
        return self.is_peft and not self.defence


@dataclass(frozen=True, slots=True)
class StudyRun:
    """One run folder of a study."""

    task: str
    rows: float
    matching: Matching
    suite: str
    folder: Path
    record: RunRecord


@dataclass(frozen=True, slots=True)
class Study:
    """A study's folder."""

    folder: Path
    name: str
    digest: str
    is_modified: bool
    """Whether it has a shipped study's name and another content."""
    base: str
    """As the study's file names it."""
    definition: Mapping[str, Any]
    """As written."""
    versions: Mapping[str, str]
    checkpoints: tuple[StudyCheckpoint, ...]
    runs: tuple[StudyRun, ...]
    jobs: tuple[Mapping[str, str], ...]
    """Rows of jobs.csv."""

    @property
    def methods(self) -> tuple[str, ...]:
        """In order of appearance, full fine-tuning first."""
        names = dict.fromkeys(each.method for each in self.checkpoints)
        full = {each.method for each in self.checkpoints if each.is_full}
        return tuple(sorted(names, key=lambda name: name not in full))

    def find_checkpoint(self, name: str, run: StudyRun) -> StudyCheckpoint | None:
        """Returns the checkpoint that a run has under a name; None if checkpoints.csv lacks it."""
        found = [each for each in self.checkpoints if (each.name, each.task) == (name, run.task)]
        found = [each for each in found if each.rows == run.rows or math.isnan(each.rows + run.rows)] or found
        return next((each for each in found if each.matching is run.matching), found[0] if found else None)


def read_study(folder: Path) -> Study:
    """Reads a study's folder.

    Raises:
        RunError: It holds no study, a file is no longer as `robustness study` wrote it, or a run is missing.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise RunError(f"{folder}: no {FILE_NAME}; expected a folder that `robustness study` wrote")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        checkpoints = tuple(_checkpoint(row) for row in _rows(folder / "checkpoints.csv"))
        runs = tuple(_run(row, folder) for row in _rows(folder / "runs.csv"))
        return Study(
            folder=folder,
            name=str(content["name"]),
            digest=str(content["digest"]),
            is_modified=bool(content.get("modified", False)),
            base=str(content["definition"]["base"]),
            definition=dict(content["definition"]),
            versions=dict(content.get("versions", {})),
            checkpoints=checkpoints,
            runs=runs,
            jobs=tuple(_rows(folder / "jobs.csv")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{folder}: not as `robustness study` wrote it ({error!r}); give its command again, which repairs it"
        ) from None


def _rows(path: Path) -> Iterable[dict[str, str]]:
    if not path.is_file():
        raise RunError(f"{path}: is missing; give the command that started the study again")
    with path.open(encoding="utf-8", newline="") as stream:
        return [{name: restore(cell) for name, cell in row.items()} for row in csv.DictReader(stream)]


def _checkpoint(row: Mapping[str, str]) -> StudyCheckpoint:
    defence = row.get("defence", "")  # studies of before these columns had nothing else
    # Before `trained_rows`, `rows` had the rows that a recipe adds too.
    is_given = "trained_rows" in row or not defence
    return StudyCheckpoint(
        name=row["checkpoint"],
        task=row["task"],
        method=row["method"],
        family=row["family"],
        parameters=row["parameters"],
        train_seed=int(row["train_seed"]),
        rows=_number(row["rows"]) if is_given else math.nan,
        matching=Matching(row["matching"]),
        epoch=_number(row["epoch"]),
        trainable_parameters=_number(row["trainable_parameters"]),
        trainable_share=_number(row["trainable_share"]),
        selecting_score=_number(row["selecting_score"]),
        status=row["status"],
        reason=row["reason"],
        folder=row["folder"],
        contrast=row.get("contrast", HEADLINE),
        defence=defence,
    )


def _run(row: Mapping[str, str], folder: Path) -> StudyRun:
    place = folder / row["folder"]
    return StudyRun(
        task=row["task"],
        rows=_number(row["rows"]),
        matching=Matching(row["matching"]),
        suite=row["suite"],
        folder=place,
        record=read_record(place),
    )


def _number(cell: str) -> float:
    return float(cell) if cell else math.nan
