"""Verification: stored texts scored again by their checkpoints, and held against what the run says of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustness.definitions.seeds import refuse_seed
from robustness.definitions.tasks import find_task
from robustness.engine.attack import ScoreRows
from robustness.engine.outcome import Status
from robustness.engine.referee import true_label_probability
from robustness.errors import RunError, UsageError
from robustness.runs.storage.record import CheckpointRecord, RunRecord, read_record
from robustness.runs.storage.store import open_store
from robustness.tasks.grading import log_probabilities
from robustness.tasks.objective import ObjectiveKind
from robustness.testsets.example import Texts
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.heads.spans import AnsweringVictim
from robustness.victims.loading import Placement, digest_weights, load_checkpoint, place, to_victim

TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}
"""How far a probability may move before it is no rounding: other batches move its last digits."""
COLUMNS = ("checkpoint", "testset", "attack", "example_id")
_JUDGED = (
    "adversarial_text IS NOT NULL AND adversarial_prediction IS NOT NULL AND score IS NOT NULL "
    "AND status IN ('succeeded', 'failed', 'skipped')"
)


@dataclass(frozen=True, slots=True)
class StoredJudgement:
    """One stored text with what the run says of it."""

    checkpoint: str
    testset: str
    attack: str
    example_id: str
    label: int
    status: str
    prediction: int
    score: float
    answer: str | None
    """Of a question."""
    texts: Texts

    @property
    def where(self) -> str:
        """Names the row."""
        return f"{self.checkpoint} | {self.testset} | {self.attack} | {self.example_id}"


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of it."""

    sampled: int
    stored: int
    """Texts that could have been drawn."""
    disagreements: tuple[str, ...]
    """One sentence each; empty when all is well."""


def verify(folder: Path, *, sample: int, seed: int, device: str) -> Verification:
    """Judges a random sample of a run's stored texts again.

    Args:
        folder: a run folder, finished or not.
        sample: texts to draw, without replacement, from all checkpoints, test sets and attacks on text.
        seed: of the draw.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        UsageError: a sample below 1, or a seed or a device that is none.
        RunError: the folder is not a run, or an earlier release wrote it, which did not note where checkpoints lie.
        CheckpointError: a checkpoint that is not there any more.
    """
    if sample < 1:
        raise UsageError(f"--sample {sample}: expected at least 1 text")
    refuse_seed(seed)
    record = read_record(folder)
    placement = place(device, _dtype(record))
    stored, drawn = _draw(folder, sample, seed)
    disagreements: list[str] = []
    for checkpoint in record.checkpoints:
        rows = [row for row in drawn if row.checkpoint == checkpoint.name]
        if rows:
            disagreements += _judge_again(folder, record, checkpoint, rows, placement)
    return Verification(len(drawn), stored, tuple(disagreements))


def _draw(folder: Path, sample: int, seed: int) -> tuple[int, list[StoredJudgement]]:
    with open_store(folder) as connection:
        (stored,) = connection.execute(f"SELECT COUNT(*) FROM outcomes WHERE {_JUDGED}").fetchone()
        chosen = set(np.random.default_rng(seed).permutation(stored)[:sample].tolist())
        rows = connection.execute(
            f"SELECT {', '.join(COLUMNS)}, label, status, adversarial_prediction, score, answer, adversarial_text "
            f"FROM outcomes WHERE {_JUDGED} ORDER BY {', '.join(COLUMNS)}"
        )
        drawn = [
            StoredJudgement(*(*row[:-1], tuple(json.loads(row[-1]))))
            for number, row in enumerate(rows)
            if number in chosen
        ]
    return stored, drawn


def _judge_again(
    folder: Path,
    record: RunRecord,
    checkpoint: CheckpointRecord,
    rows: Sequence[StoredJudgement],
    placement: Placement,
) -> Iterator[str]:
    if not checkpoint.folder:
        raise RunError(f"{folder}: written by an earlier release, which did not note where its checkpoints lie")
    found = read_checkpoint(checkpoint.name, checkpoint.folder, checkpoint.base, _partner(record, checkpoint.name))
    if digest_weights(found.folder) != checkpoint.weights_digest:
        yield f"{checkpoint.name}: the weights in {found.folder} are not those that the run was made with"
    victim = to_victim(load_checkpoint(found, find_task(checkpoint.task)), placement)
    if isinstance(victim, AnsweringVictim):
        yield from _compare_answers(victim, rows)
    else:
        goals = {attack.name: attack.goal for attack in record.attacks}
        yield from _compare_scores(victim.scores([row.texts for row in rows]), rows, goals, TOLERANCE[_dtype(record)])


def _dtype(record: RunRecord) -> str:
    return record.dtype.split(",")[0]


def _partner(record: RunRecord, name: str) -> str | None:
    """Folder of the full checkpoint that an adapter was paired with: labels may have their names from it."""
    folders = {each.name: each.folder for each in record.checkpoints}
    return next((folders[pair.reference] for pair in record.pairs if pair.candidate == name), None)


def _compare_answers(victim: AnsweringVictim, rows: Sequence[StoredJudgement]) -> Iterator[str]:
    for row, given in zip(rows, victim.predict([row.texts for row in rows], n_best=1), strict=True):
        if given.best != row.answer:
            yield f"{row.where}: answers {given.best!r}; the run says {row.answer!r}"


def _compare_scores(
    found: ScoreRows, rows: Sequence[StoredJudgement], goals: Mapping[str, str], tolerance: float
) -> Iterator[str]:
    for row, scores in zip(rows, found, strict=True):
        if not {row.label, row.prediction} <= set(range(len(scores))):
            yield (
                f"{row.where}: stored with prediction {row.prediction} for label {row.label}, of {len(scores)} labels"
            )
            continue
        score, prediction = true_label_probability(scores, row.label), int(scores.argmax())
        probabilities = np.exp(log_probabilities(scores[None])[0])
        lead = probabilities[prediction] - probabilities[row.prediction]  # a tie may fall either way
        if lead > tolerance or not math.isclose(score, row.score, rel_tol=0, abs_tol=tolerance):
            yield (
                f"{row.where}: answers {prediction} with probability {score:.4f} of the true label; the run says "
                f"{row.prediction} with {row.score:.4f}"
            )
        elif _contradicts_itself(row, goals.get(row.attack, ObjectiveKind.CHANGE_PREDICTION)):
            yield f"{row.where}: stored as {row.status} with prediction {row.prediction} for label {row.label}"


def _contradicts_itself(row: StoredJudgement, goal: str) -> bool:
    """A success has the prediction that its goal asks for; a failure to keep one may have any."""
    is_right = row.prediction == row.label
    if row.status == Status.SUCCEEDED:
        return is_right != (goal == ObjectiveKind.KEEP_PREDICTION)
    return row.status == Status.FAILED and goal == ObjectiveKind.CHANGE_PREDICTION and not is_right
