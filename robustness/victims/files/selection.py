"""On which rows a checkpoint was selected, as the training record beside it says."""

from __future__ import annotations

import json
from pathlib import Path

TRAINING_RECORD = "training.json"


def selecting_digest(folder: Path) -> str | None:
    """Returns the digest of the development set that chose learning rate and epoch; None where none is recorded.

    The checkpoint of one epoch lies inside the folder that has the record.
    """
    for place in (folder, folder.resolve().parent):
        try:
            digest = json.loads((place / TRAINING_RECORD).read_text(encoding="utf-8"))["fingerprint"]["dev_digest"]
        except (OSError, ValueError, LookupError, TypeError):  # none, or another program's file of that name
            continue
        return digest if isinstance(digest, str) else None
    return None
