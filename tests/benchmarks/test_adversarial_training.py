"""FreeLB's processor time beside plain training of the same rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from robustness.training.adaptation import Base
from robustness.training.data import load_rows
from robustness.training.encoding import encode_rows
from robustness.training.methods import find_method
from robustness.training.protocol import TrainingSettings
from robustness.training.regimes import FreeLb
from robustness.training.trainer import Trial, run_trial

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

ROWS, DEV_ROWS = 128, 16
SETTINGS = TrainingSettings(epochs=1)
ADVERSARIAL = replace(SETTINGS, adversarial=FreeLb(steps=3))


def test_three_steps_of_freelb_cost_at_most_3_6_plain_trainings(
    minilm: Path, shared_data: Path, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    """By the processor's clock, loading and scoring included; the fastest of two turns each."""
    rows = encode_rows(load_rows("sst2", shared_data, ROWS, DEV_ROWS), minilm, SETTINGS.max_tokens)
    seconds: dict[str, list[float]] = {}
    for method in ("full", "lora") * 2:
        for name, settings in ((method, SETTINGS), (f"{method}+freelb", ADVERSARIAL)):
            trial = Trial(find_method(method), 3e-5, 0, settings, torch.device("cpu"))
            started = time.process_time()
            run_trial(trial, Base(minilm, str(minilm)), rows, lambda epoch, accuracy: None)
            seconds.setdefault(name, []).append(time.process_time() - started)

    best = {name: min(values) for name, values in seconds.items()}
    ratios = {f"{method}_freelb_over_plain": best[f"{method}+freelb"] / best[method] for method in ("full", "lora")}
    figures = {f"{name}_processor_seconds": value for name, value in best.items()}
    save_result("adversarial_training", figures | ratios | {"rows": ROWS, "freelb_steps": 3})
    assert max(ratios.values()) <= 3.6
