"""What a checkpoint's folder says of its training, read without any model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from robustness.victims.files.selection import TRAINING_RECORD


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """The result of one training."""

    reason: str
    """Why there are no weights; empty if there are."""
    epoch: int | None
    """The best, counted from 1."""
    scores: tuple[float, ...]
    """On the selecting rows after each epoch, at the chosen learning rate."""
    rows: int
    """Training rows used."""
    trained: int
    """Parameters that are trained."""
    parameters: int
    """All parameters, with head and adapter."""
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether there are no weights."""
        return bool(self.reason)


def read_training(folder: Path) -> TrainingRecord | None:
    """Returns the record of a complete training; None without a readable one."""
    try:
        content = json.loads((folder / TRAINING_RECORD).read_text(encoding="utf-8"))
        return TrainingRecord(
            reason=content["reason"],
            epoch=content["epoch"],
            scores=tuple(content["selecting_scores"]),
            rows=content["fingerprint"]["rows_trained"],
            trained=content["parameters_trained"],
            parameters=content["parameters"],
            seconds=content["seconds"],
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None
