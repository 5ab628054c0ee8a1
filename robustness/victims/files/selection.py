"""What the training record beside a checkpoint says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

TRAINING_RECORD = "training.json"


def recorded_training(folder: Path) -> Mapping[str, object]:
    """Returns all that a checkpoint's weights depend on, as its training recorded it; empty where nothing did.

    The checkpoint of one epoch lies inside the folder that has the record.
    """
    for place in (folder, folder.resolve().parent):
        try:
            found = json.loads((place / TRAINING_RECORD).read_text(encoding="utf-8"))["fingerprint"]
        except (OSError, ValueError, LookupError, TypeError):  # none, or another program's file of that name
            continue
        return found if isinstance(found, dict) else {}
    return {}


def selecting_digest(folder: Path) -> str | None:
    """Returns the digest of the development set that chose learning rate and epoch; None where none is recorded."""
    digest = recorded_training(folder).get("dev_digest")
    return digest if isinstance(digest, str) else None
