"""training.json: how a checkpoint was made, and whether it may be used again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from robustness.errors import RunError
from robustness.training.protocol import TrainingSettings
from robustness.training.trainer import TrialResult

FILE_NAME = "training.json"
RECORDED_PACKAGES = ("torch", "transformers", "peft")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """All that a checkpoint's weights depend on; two equal ones need no second training."""

    testset: str
    task: str
    base: str
    """An absolute folder, or a hub id."""
    base_digest: str
    """sha256 over the base's weights."""
    method: str
    method_digest: str
    seed: int
    train_digest: str
    dev_digest: str
    rows_trained: int
    dev_rows: int
    settings: TrainingSettings


def is_complete(folder: Path, fingerprint: Fingerprint) -> bool:
    """Whether the folder holds this very checkpoint; False where there is no folder.

    Raises:
        RunError: the folder holds something else; the message names what differs.
    """
    if not folder.exists():
        return False
    try:
        stored = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(
            f"{folder}: has no readable {FILE_NAME}, so it is not a checkpoint that was finished here; "
            "remove it, or give --out another folder"
        ) from None
    differences = _differences(stored, asdict(fingerprint))
    if differences:
        raise RunError(
            f"{folder}: holds a checkpoint trained otherwise ({', '.join(differences)}); "
            "give --out another folder, remove this one, or repeat the command that made it"
        )
    return True


def write_record(
    folder: Path, fingerprint: Fingerprint, trials: Sequence[TrialResult], chosen: TrialResult, device: str
) -> None:
    """Writes training.json into a checkpoint's folder."""
    content = {
        "fingerprint": asdict(fingerprint),
        "learning_rate": chosen.learning_rate,
        "epoch": chosen.best_epoch,
        "dev_accuracy": chosen.dev_accuracy,
        "trials": [
            {
                "learning_rate": trial.learning_rate,
                "dev_accuracies": trial.dev_accuracies,
                "failed": trial.failed,
                "seconds": round(trial.seconds, 3),
            }
            for trial in trials
        ],
        "parameters_trained": chosen.parameters_trained,
        "parameters": chosen.parameters,
        "trained_share": chosen.parameters_trained / chosen.parameters,
        "seconds": round(sum(trial.seconds for trial in trials), 3),
        "device": device,
        "versions": {name: version(name) for name in RECORDED_PACKAGES},
    }
    (folder / FILE_NAME).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _differences(stored: Any, wanted: dict[str, Any], prefix: str = "") -> list[str]:
    if not isinstance(stored, dict):
        return [f"{prefix or 'fingerprint '}is {stored!r}"]
    found = []
    for key in sorted({*stored, *wanted}):
        there, here = stored.get(key), wanted.get(key)
        if isinstance(here, dict):
            found += _differences(there, here, f"{key}.")
        elif there != here:
            found.append(f"{prefix}{key}: {there} there, {here} asked for")
    return found
