"""Training against a bare Trainer loop on the same batches, and two workers against one process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.watched import run_watched

from robustness.training.adaptation import Base
from robustness.training.examples.encoding import encode_rows
from robustness.training.examples.loading import load_rows
from robustness.training.examples.rows import EncodedRows
from robustness.training.methods import find_method
from robustness.training.protocol import TrainingSettings
from robustness.training.trainer import Trial, data_seed, run_trial

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

ROWS = int(os.environ.get("ROBUSTNESS_BENCH_ROWS", "320"))
WORKER_ROWS = int(os.environ.get("ROBUSTNESS_BENCH_ROWS", "1500"))
"""Three minutes of processor time for four checkpoints, beside which the start of a worker is little."""
DEV_ROWS = 64
ROUNDS = 3
WORKER_GAIN = 1.7
SETTINGS = TrainingSettings(epochs=1)

BODY = """
from robustness import Execution, TrainSettings, api

workers, base, data, out, rows = sys.argv[1:]
settings = TrainSettings(seeds=[0, 1], data=data, limit=int(rows), epochs=1, grid="one", dev_limit=64, device="cpu")
execution = None if workers == "0" else Execution(workers=int(workers))
started = time.perf_counter()
api.train("sst2", base, ["full", "lora"], out, settings, execution=execution)
"""


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
    for _ in range(ROUNDS):
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


def test_two_workers_train_four_checkpoints_in_little_more_than_half_the_time(
    minilm: Path, shared_data: Path, tmp_path: Path, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    """By the wall, so on an idle machine; what the driver and its busiest worker had of a processor is kept too."""
    figures: dict[str, Any] = {"rows": WORKER_ROWS}
    for workers in ("0", "2"):
        words = [workers, str(minilm), str(shared_data), str(tmp_path / workers), str(WORKER_ROWS)]
        threads = 2 if workers == "2" else 1  # workers share the driver's threads: one each
        figures["one process" if workers == "0" else "two workers"] = run_watched(BODY, words, threads)
    one, two = figures["one process"], figures["two workers"]
    figures["gain_by_processor"] = one["critical_processor_seconds"] / two["critical_processor_seconds"]
    figures["gain_by_wall"] = one["wall_seconds"] / two["wall_seconds"]

    save_result("training_workers", figures)

    assert len(two["workers"]) == 2
    for name in ("sst2-full-seed0", "sst2-lora-seed0", "sst2-full-seed1", "sst2-lora-seed1"):
        a, b = ([path.read_bytes() for path in (tmp_path / n / name).glob("*.safetensors")] for n in ("0", "2"))
        assert a == b, name
    assert figures["gain_by_wall"] >= WORKER_GAIN
