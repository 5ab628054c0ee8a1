"""Training against a bare Trainer loop on the same batches."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from robustness.training.adaptation import Base
from robustness.training.data import load_rows
from robustness.training.encoding import encode_rows
from robustness.training.methods import find_method
from robustness.training.protocol import TrainingSettings
from robustness.training.rows import EncodedRows
from robustness.training.trainer import Trial, data_seed, run_trial

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

ROWS, DEV_ROWS = 320, 64
SETTINGS = TrainingSettings(epochs=1)


def train_barely(base: Path, rows: EncodedRows, folder: Path) -> float:
    """Processor seconds of the library's own trainer with its own settings for the same steps, loading included."""
    from transformers import (
        AutoModelForSequenceClassification,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    started = time.process_time()
    set_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=SETTINGS.epochs,
        per_device_train_batch_size=SETTINGS.batch_size,
        per_device_eval_batch_size=64,
        learning_rate=3e-5,
        data_seed=data_seed(0),
        eval_strategy="epoch",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    Trainer(
        model=model,
        args=arguments,
        train_dataset=rows.train,
        eval_dataset=rows.selecting.rows,
        data_collator=DataCollatorWithPadding(rows.tokenizer),
    ).train()
    return time.process_time() - started


def test_training_costs_at_most_a_tenth_more_than_a_bare_trainer(
    minilm: Path, shared_data: Path, tmp_path: Path, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    """The two take turns by the processor's clock, and the fastest of each counts: other work beside slows either."""
    rows = encode_rows(load_rows("sst2", shared_data, ROWS, DEV_ROWS), minilm, SETTINGS.max_tokens)
    seconds: dict[str, list[float]] = {"bare": [], "full": [], "lora": []}
    for _ in range(3):
        seconds["bare"].append(train_barely(minilm, rows, tmp_path))
        for method in ("full", "lora"):
            trial = Trial(find_method(method), 3e-5, 0, SETTINGS, torch.device("cpu"))
            started = time.process_time()
            run_trial(trial, Base(minilm, str(minilm)), rows, lambda epoch, accuracy: None)
            seconds[method].append(time.process_time() - started)

    best = {name: min(values) for name, values in seconds.items()}
    figures = {f"{name}_rows_per_processor_second": ROWS * SETTINGS.epochs / value for name, value in best.items()}
    save_result("training", figures | {"full_over_bare": best["full"] / best["bare"], "rows": ROWS})
    assert best["full"] <= 1.1 * best["bare"]
