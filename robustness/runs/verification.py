"""Verification: scores stored texts again by their checkpoints, and compares with the run's grades."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robustness.definitions.pairs import BasePrecision
from robustness.definitions.seeds import refuse_seed
from robustness.engine.outcome import Status
from robustness.errors import RunError, UsageError
from robustness.progress import Progress, ProgressCallback
from robustness.runs.storage.record import CheckpointRecord, RunRecord, read_record
from robustness.runs.storage.store import open_store
from robustness.tasks.gold import GoldSpan
from robustness.tasks.grading import Grade, StoredGrade
from robustness.tasks.objective import ObjectiveKind
from robustness.testsets.example import Example, Texts
from robustness.victims.files.bases import digest_weights
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.loading import Placement, load_checkpoint, place, to_victim

TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}
"""Largest change of a probability that counts as rounding; other batches change its last digits."""
COLUMNS = ("checkpoint", "testset", "attack", "example_id")
_JUDGED = (
    "adversarial_text IS NOT NULL AND correct IS NOT NULL AND quality IS NOT NULL AND response IS NOT NULL "
    "AND status IN ('succeeded', 'failed', 'skipped')"
)


@dataclass(frozen=True, slots=True)
class StoredJudgement:
    """One stored text and its grade in the run."""

    checkpoint: str
    testset: str
    attack: str
    example_id: str
    gold: str
    status: str
    grade: Grade
    texts: Texts

    @property
    def where(self) -> str:
        """Names the row."""
        return f"{self.checkpoint} | {self.testset} | {self.attack} | {self.example_id}"

    @property
    def example(self) -> Example:
        """The text to ask about again."""
        return Example(self.example_id, self.texts, label=0, answers=(GoldSpan(self.gold, 0),))

    @property
    def stored(self) -> StoredGrade:
        """The grade to compare with."""
        return StoredGrade(self.texts[-1], self.gold, self.grade)


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of a verification."""

    sampled: int
    stored: int
    """Number of texts available for the draw."""
    disagreements: tuple[str, ...]
    """One sentence each; empty without differences."""


def verify(
    folder: Path, *, sample: int, seed: int, device: str, on_progress: ProgressCallback | None = None
) -> Verification:
    """Judges a random sample of a run's stored texts again.

    Args:
        folder: a run folder, finished or not.
        sample: texts to draw, without replacement, from all checkpoints, test sets and attacks on text.
        seed: the draw's seed.
        device: auto, cpu, cuda or cuda:N.
        on_progress: called before each checkpoint with the number of texts judged.

    Raises:
        UsageError: a sample below 1, or an invalid seed or device.
        RunError: the folder is not a run, or an earlier release wrote it without the checkpoints' folders.
        CheckpointError: a checkpoint no longer exists.
    """
    if sample < 1:
        raise UsageError(f"--sample {sample}: expected at least 1 text")
    refuse_seed(seed)
    record = read_record(folder)
    placement = place(device, _dtype(record))
    stored, drawn = _draw(folder, sample, seed)
    disagreements: list[str] = []
    judged = 0
    for checkpoint in record.checkpoints:
        rows = [row for row in drawn if row.checkpoint == checkpoint.name]
        if rows:
            if on_progress is not None:
                on_progress(Progress(f"{checkpoint.name} | judging again", judged, len(drawn)))
            judged += len(rows)
            disagreements += _judge_again(folder, record, checkpoint, rows, placement)
    return Verification(len(drawn), stored, tuple(disagreements))


def _draw(folder: Path, sample: int, seed: int) -> tuple[int, list[StoredJudgement]]:
    with open_store(folder) as connection:
        (stored,) = connection.execute(f"SELECT COUNT(*) FROM outcomes WHERE {_JUDGED}").fetchone()
        chosen = set(np.random.default_rng(seed).permutation(stored)[:sample].tolist())
        rows = connection.execute(
            f"SELECT {', '.join(COLUMNS)}, gold, status, correct, quality, response, adversarial_text "
            f"FROM outcomes WHERE {_JUDGED} ORDER BY {', '.join(COLUMNS)}"
        )
        drawn = [_read(row) for number, row in enumerate(rows) if number in chosen]
    return stored, drawn


def _read(row: tuple[Any, ...]) -> StoredJudgement:
    checkpoint, testset, attack, example_id, gold, status, correct, quality, response, texts = row
    grade = Grade(bool(correct), quality, response)
    return StoredJudgement(checkpoint, testset, attack, example_id, gold, status, grade, tuple(json.loads(texts)))


def _judge_again(
    folder: Path,
    record: RunRecord,
    checkpoint: CheckpointRecord,
    rows: Sequence[StoredJudgement],
    placement: Placement,
) -> Iterator[str]:
    if not checkpoint.folder:
        raise RunError(f"{folder}: {checkpoint.name} was given as an object and cannot be loaded")
    pair = next(each for each in record.pairs if checkpoint.name in (each.reference, each.candidate))
    partner = record.find_checkpoint(pair.reference if pair.candidate == checkpoint.name else pair.candidate)
    labels = tuple(pair.labels.items())
    precision = BasePrecision(checkpoint.base_precision) if checkpoint.base_precision else None
    beside = partner.folder or None
    found = read_checkpoint(checkpoint.name, checkpoint.folder, checkpoint.base, beside, labels, precision)
    if digest_weights(found.folder) != checkpoint.weights_digest:
        yield f"{checkpoint.name}: the weights in {found.folder} are not those of the run"
    victim = to_victim(load_checkpoint(found, record.find_task(checkpoint.task)), placement)
    goals = {attack.name: attack.goal for attack in record.attacks}
    for row, found in zip(rows, victim.rows([row.example for row in rows]), strict=True):
        difference = victim.grader.contradiction(found, row.stored, TOLERANCE[_dtype(record)])
        if difference is None and _contradicts_itself(row, goals.get(row.attack, ObjectiveKind.CHANGE_PREDICTION)):
            difference = f"stored as {row.status} with answer {row.grade.response} for gold {row.gold}"
        if difference is not None:
            yield f"{row.where}: {difference}"


def _dtype(record: RunRecord) -> str:
    return record.dtype.split(",")[0]


def _contradicts_itself(row: StoredJudgement, goal: str) -> bool:
    """A success has the answer of its goal; a failed attempt to keep an answer may have any."""
    is_right = row.grade.correct
    if row.status == Status.SUCCEEDED:
        return is_right != (goal == ObjectiveKind.KEEP_PREDICTION)
    return row.status == Status.FAILED and goal == ObjectiveKind.CHANGE_PREDICTION and not is_right
