"""Reads the training record beside a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

TRAINING_RECORD = "training.json"


def recorded_training(folder: Path) -> Mapping[str, object]:
    """Returns everything that a checkpoint's weights depend on, from its training record; empty without a record."""
    found = _read_record(folder).get("fingerprint")
    return found if isinstance(found, dict) else {}


def training_seconds(folder: Path) -> float | None:
    """Returns how long all trials of a checkpoint's training took; None if not recorded."""
    found = _read_record(folder).get("seconds")
    return float(found) if isinstance(found, int | float) else None


def _read_record(folder: Path) -> Mapping[str, object]:
    """The checkpoint of one epoch lies inside the folder with the record."""
    for place in (folder, folder.resolve().parent):
        try:
            found = json.loads((place / TRAINING_RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and "fingerprint" in found:  # otherwise another program's file of this name
            return found
    return {}


def epoch_folder(folder: Path, epoch: int) -> Path:
    """The folder of one epoch's checkpoint below that of its training; epochs count from 1."""
    return folder / f"epoch-{epoch}"


def selecting_digest(folder: Path) -> str | None:
    """Returns the digest of the development set that chose learning rate and epoch; None if not recorded."""
    digest = recorded_training(folder).get("dev_digest")
    return digest if isinstance(digest, str) else None
