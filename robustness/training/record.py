"""training.json: how a checkpoint was made, and whether it can be reused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robustness.definitions.pairs import BasePrecision
from robustness.errors import RunError
from robustness.training.metrics import Metric
from robustness.training.protocol import TrainingSettings
from robustness.training.quantised import describe_base
from robustness.training.trainer import TrialResult, data_seed
from robustness.versions import version_of
from robustness.victims.files.selection import TRAINING_RECORD

RECORDED_PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Everything that a checkpoint's weights depend on; equal fingerprints need no second training."""

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
    """Digest of the whole development set, half of which selects."""
    rows_trained: int
    selecting_rows: int
    reporting_rows: int
    settings: TrainingSettings
    base_precision: BasePrecision = BasePrecision.FULL
    """How the base under an adapter was held."""
    packed_by: str = ""
    """The release of bitsandbytes, for a base in 4 bit."""
    augmented_digest: str = ""
    """Of the file of rows that a recipe has changed; empty without one."""
    task_digest: str = ""
    """Of what training reads of the task: labels, prompt, where a response ends."""
    base_files_digest: str = ""
    """sha256 over all files that are loaded from the base: config and tokenizer too."""
    rows_digest: str = ""
    """Of texts and gold of the rows for training, selecting and reporting, in their order."""

    @property
    def on_four_bit(self) -> bool:
        """Whether the base was held in 4 bit."""
        return self.base_precision is BasePrecision.FOUR_BIT


@dataclass(frozen=True, slots=True)
class Chosen:
    """The chosen trial of a grid."""

    trial: TrialResult
    reporting_score: float
    """Score of the chosen checkpoint on rows without influence on choices."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of training a checkpoint."""

    reason: str
    """Why there are no weights: the loss was not finite at any learning rate. Empty if there are."""
    selecting_scores: tuple[float, ...]
    """Scores of the chosen learning rate after each epoch; empty after a failure."""
    epoch: int | None
    """The best, counted from 1."""
    reporting_score: float | None
    parameters_trained: int
    parameters: int
    seconds: float
    """Of all trials."""

    @property
    def failed(self) -> bool:
        """Whether there are no weights."""
        return bool(self.reason)


def is_complete(folder: Path, fingerprint: Fingerprint) -> bool:
    """Whether the folder holds this checkpoint or its recorded failure; False without a folder.

    Raises:
        RunError: the folder holds something else; the message names what differs.
    """
    if not folder.exists():
        return False
    differences = _differences(_read(folder)["fingerprint"], asdict(fingerprint))
    if differences:
        raise RunError(
            f"{folder}: holds a checkpoint trained otherwise ({', '.join(differences)}); "
            "give --out another folder, remove this one, or repeat the command that made it"
        )
    return True


def read_outcome(folder: Path) -> Outcome:
    """Reads the result of a checkpoint; raises RunError if its training.json is unreadable."""
    content = _read(folder)
    return Outcome(
        reason=content["reason"],
        selecting_scores=tuple(content["selecting_scores"]),
        epoch=content["epoch"],
        reporting_score=content["reporting_score"],
        parameters_trained=content["parameters_trained"],
        parameters=content["parameters"],
        seconds=content["seconds"],
    )


def write_record(
    folder: Path,
    fingerprint: Fingerprint,
    metric: Metric,
    trials: Sequence[TrialResult],
    chosen: Chosen | None,
    device: str,
) -> None:
    """Writes training.json into a checkpoint's folder; `chosen` is None if every trial failed."""
    content = {
        "fingerprint": asdict(fingerprint),
        "order_seed": data_seed(fingerprint.seed),
        "failed": chosen is None,
        "reason": "" if chosen else _diverged(trials),
        "learning_rate": chosen.trial.learning_rate if chosen else None,
        "epoch": chosen.trial.best_epoch if chosen else None,
        "metric": metric,
        "selecting_score": chosen.trial.selecting_score if chosen else None,
        "selecting_scores": chosen.trial.selecting_scores if chosen else [],
        "reporting_score": chosen.reporting_score if chosen else None,
        "accumulation": max(trial.accumulation for trial in trials),
        "trials": [
            {
                "learning_rate": trial.learning_rate,
                "selecting_scores": trial.selecting_scores,
                "losses": [loss if loss - loss == 0 else str(loss) for loss in trial.losses],  # JSON has no nan
                "failed": trial.failed,
                "accumulation": trial.accumulation,
                "passes": trial.passes,
                "seconds": round(trial.seconds, 3),
                "peak_memory_bytes": trial.peak_memory_bytes,
            }
            for trial in trials
        ],
        "parameters_trained": trials[0].parameters_trained,
        "parameters": trials[0].parameters,
        "trained_share": trials[0].parameters_trained / trials[0].parameters,
        "passes": sum(trial.passes for trial in trials),
        "seconds": round(sum(trial.seconds for trial in trials), 3),
        "peak_memory_bytes": max(trial.peak_memory_bytes for trial in trials),
        "device": device,
        "base_in_4bit": describe_base(torch.device(device)) if fingerprint.on_four_bit else None,
        "versions": {name: version_of(name) for name in RECORDED_PACKAGES},
    }
    (folder / TRAINING_RECORD).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _diverged(trials: Sequence[TrialResult]) -> str:
    rates = ", ".join(format_rate(trial.learning_rate) for trial in trials)
    return f"the loss was not finite at any learning rate ({rates})"


def format_rate(rate: float) -> str:
    """Spells a learning rate.

    >>> format_rate(5e-4)
    '5e-4'
    """
    return np.format_float_scientific(rate, trim="-", exp_digits=1)


def _read(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / TRAINING_RECORD).read_text(encoding="utf-8"))
        if not {"fingerprint", "reason", "selecting_scores", "parameters"} <= content.keys():
            raise KeyError
    except (OSError, ValueError, KeyError, AttributeError):
        raise RunError(
            f"{folder}: has no readable {TRAINING_RECORD}, so it is not a checkpoint that was finished here; "
            "remove it, or give --out another folder"
        ) from None
    return dict(content)


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
