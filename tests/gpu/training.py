"""Steps on training: with matrix products in bfloat16 the loss falls, in full, with LoRA and under FreeLB."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu.attacks import DEFINITIONS
from gpu.bench import Bench
from gpu.models import encoder_config
from gpu.steps import Found, Step, require
from robustness.testsets.example import Example

RATES = {
    "real": {"full": 1e-4, "lora": 2e-3, "lora+freelb": 2e-3},
    "tiny": {"full": 1e-2, "lora": 5e-2, "lora+freelb": 5e-2},
}
QLORA_RATES = {"real": 1e-3, "tiny": 1e-2}
EPOCHS = {"real": 3, "tiny": 8}
USUAL_SPREAD = 0.02
"""Of drawn weights, with which bases are trained."""


def losses_fall(bench: Bench) -> Found:
    """Trains a base in full, with LoRA and with LoRA under FreeLB on sentences labelled by a word of theirs."""
    from robustness.training.adaptation import Base
    from robustness.training.defences import find_trained_method
    from robustness.training.protocol import TrainingSettings
    from robustness.training.trainer import Trial, run_trial

    base = _write_base(bench)
    rows = _rows(bench, base)
    settings = TrainingSettings(epochs=EPOCHS[bench.size.name], batch_size=16, bf16=True)
    figures, details, seen = [], {}, {}
    for name, rate in RATES[bench.size.name].items():
        found = find_trained_method(name)
        own = settings.under(found.defence)
        trial = Trial(found.method, rate, 0, own, bench.device)
        watched, seen[name] = _watched(rows)
        bench.peak_bytes()
        started = time.perf_counter()
        model, result = run_trial(trial, Base(base, str(base)), watched, lambda epoch, score: None)
        seconds = time.perf_counter() - started
        require(next(model.parameters()).device.type == "cpu", f"{name}: the model was not brought back")
        require(not result.failed and bool(np.isfinite(result.losses).all()), f"{name}: losses {result.losses}")
        require(result.losses[-1] < result.losses[0], f"{name}: the loss does not fall: {result.losses}")
        details[name] = {
            "losses": result.losses,
            "scores": result.selecting_scores,
            "seconds": seconds,
            "rows_a_second": settings.epochs * len(rows.train) / seconds,
            "peak_bytes": result.peak_memory_bytes,
        }
        figures.append(
            f"{name} {result.losses[0]:.2f} -> {result.losses[-1]:.2f}, {details[name]['rows_a_second']:,.0f} rows/s"
        )
        del model
    same = seen["full"] == seen["lora"] == seen["lora+freelb"]
    require(same, "the methods were not given the same rows in the same order")
    return Found("; ".join(figures), details)


def four_bit_falls(bench: Bench) -> Found:
    """Trains QLoRA for an epoch or more on a base in 4 bit, and evaluates it on rows that it was not trained on."""
    from robustness.training.adaptation import Base
    from robustness.training.defences import find_trained_method
    from robustness.training.protocol import TrainingSettings
    from robustness.training.trainer import Trial, run_trial, score_reporting

    base = _write_base(bench)
    settings = TrainingSettings(epochs=EPOCHS[bench.size.name], batch_size=16, bf16=True)
    found, rate = find_trained_method("qlora"), QLORA_RATES[bench.size.name]
    started = time.perf_counter()
    trial = Trial(found.method, rate, 0, settings, bench.device)
    rows = _rows(bench, base)
    model, result = run_trial(trial, Base(base, str(base)), rows, lambda epoch, score: None)
    reported = score_reporting(model, trial, rows)  # of a model that was brought back to the CPU
    seconds = time.perf_counter() - started
    require(not result.failed and bool(np.isfinite(result.losses).all()), f"losses {result.losses}")
    require(result.losses[-1] < result.losses[0], f"the loss does not fall: {result.losses}")
    require(0 <= reported <= 1, f"score {reported}")
    figure = f"{result.losses[0]:.2f} -> {result.losses[-1]:.2f}, accuracy {reported:.2f}"
    details = {"losses": result.losses, "scores": result.selecting_scores, "reported": reported, "seconds": seconds}
    return Found(figure, details)


def _write_base(bench: Bench) -> Path:
    from transformers import RobertaModel

    folder = bench.folder / "untrained"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        RobertaModel(encoder_config(bench.size.base, len(bench.tokenizer), USUAL_SPREAD)).save_pretrained(folder)
    bench.tokenizer.save_pretrained(folder)
    return folder


def _rows(bench: Bench, base: Path) -> Any:
    """Sentences whose first word says the label."""
    from robustness.definitions.tasks import find_task
    from robustness.training.examples.encoding import encode_rows
    from robustness.training.examples.rows import TrainingRows

    rng = np.random.default_rng(4)
    opinions = bench.words[:2]
    examples = []
    for number in range(bench.size.rows + 32):
        label = number % 2
        words = [str(word) for word in rng.choice(bench.words[2:], size=12)]
        examples.append(Example(f"t{number}", (" ".join([opinions[label], *words]),), label))
    train, selecting, reporting = examples[:-32], examples[-32:-16], examples[-16:]
    made = TrainingRows("made-up", find_task("sst2"), *map(tuple, (train, selecting, reporting)), "", "")
    return encode_rows(made, base, max_tokens=64)


class _Watched(tuple[Any, ...]):
    """Rows that note in which order they are read."""

    order: list[int]

    def __getitem__(self, index: Any) -> Any:
        self.order.append(index)
        return super().__getitem__(index)


def _watched(rows: Any) -> tuple[Any, list[int]]:
    watched = _Watched(rows.train)
    watched.order = []
    return replace(rows, train=watched), watched.order


STEPS: tuple[Step[Bench], ...] = (
    Step("bfloat16 training", losses_fall, (*DEFINITIONS, "accelerate"), seconds=120.0),
    Step("qlora", four_bit_falls, (*DEFINITIONS, "accelerate", "bitsandbytes"), seconds=60.0),
)
