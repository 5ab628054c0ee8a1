"""FreeLB's processor time beside plain training of the same rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from robustness.training import trainer
from robustness.training.adaptation import Base
from robustness.training.defences import FreeLb
from robustness.training.examples.encoding import encode_rows
from robustness.training.examples.loading import load_rows
from robustness.training.methods import find_method
from robustness.training.protocol import TrainingSettings
from robustness.training.trainer import Trial

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

ROWS, DEV_ROWS = 96, 8
SETTINGS = TrainingSettings(epochs=1)
ADVERSARIAL = replace(SETTINGS, adversarial=FreeLb(steps=3))


def test_three_steps_of_freelb_cost_at_most_3_6_plain_trainings(
    minilm: Path,
    shared_data: Path,
    save_result: Callable[[str, dict[str, Any]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the processor's clock, of the batches alone: what loads the model would flatter FreeLB."""
    rows = encode_rows(load_rows("sst2", shared_data, ROWS, DEV_ROWS), minilm, SETTINGS.max_tokens)
    fit = trainer._fit
    seconds: dict[str, float] = {}

    def timed(made: Any, trial: Trial) -> None:
        started = time.process_time()
        fit(made, trial)
        name = f"{trial.method.name}_freelb" if trial.settings.adversarial else f"{trial.method.name}_plain"
        seconds[name] = time.process_time() - started

    monkeypatch.setattr(trainer, "_fit", timed)
    for method in ("full", "lora"):
        for settings in (SETTINGS, ADVERSARIAL):
            trial = Trial(find_method(method), 3e-5, 0, settings, torch.device("cpu"))
            trainer.run_trial(trial, Base(minilm, str(minilm)), rows, lambda epoch, accuracy: None)

    ratios = {
        f"{method}_freelb_over_plain": seconds[f"{method}_freelb"] / seconds[f"{method}_plain"]
        for method in ("full", "lora")
    }
    figures = {f"{name}_processor_seconds": value for name, value in seconds.items()}
    save_result("adversarial_training", figures | ratios | {"rows": ROWS, "freelb_steps": 3})
    assert max(ratios.values()) <= 3.6
