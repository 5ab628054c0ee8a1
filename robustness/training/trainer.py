"""One trial: one method, learning rate and seed, trained to its best epoch on the clean development rows."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import (
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from robustness.definitions.catalog import Entry
from robustness.training.adaptation import Base, adapt
from robustness.training.data import EncodedRows
from robustness.training.methods import MethodDefinition
from robustness.training.protocol import TrainingSettings

DEV_BATCH_SIZE = 64


@dataclass(frozen=True, slots=True)
class Trial:
    """What is trained: everything but the data."""

    method: Entry[MethodDefinition]
    learning_rate: float
    seed: int
    settings: TrainingSettings
    device: torch.device


@dataclass(frozen=True, slots=True)
class TrialResult:
    """How a trial went."""

    learning_rate: float
    dev_accuracies: tuple[float, ...]
    """After each epoch."""
    failed: bool
    """The loss was not finite in some epoch; nothing of the trial may be kept."""
    parameters_trained: int
    parameters: int
    """All of the model, head and adapter included."""
    seconds: float

    @property
    def best_epoch(self) -> int:
        """The epoch of the highest development accuracy, counted from 1; of equals the earliest."""
        return self.dev_accuracies.index(max(self.dev_accuracies)) + 1

    @property
    def dev_accuracy(self) -> float:
        """The accuracy of the best epoch."""
        return max(self.dev_accuracies)


def run_trial(
    trial: Trial, base: Base, rows: EncodedRows, report: Callable[[int, float], None]
) -> tuple[Any, TrialResult]:
    """Trains from the base and returns the model as of its best epoch, on the CPU, with the trial's result.

    The order of examples and the head's first weights follow from the seed alone, whatever the method. torch's
    random state is as before afterwards.

    Args:
        trial: what to train.
        base: where to start.
        rows: the data, the same for all trials of a pair.
        report: called after each epoch with its number, from 1, and the development accuracy.

    Raises:
        CheckpointError: the base cannot be loaded or adapted.
    """
    started = time.perf_counter()
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as unused_folder:
        set_seed(trial.seed)
        model = adapt(base, rows.task, trial.method.definition.adapter)
        best = _BestEpoch(report)
        trainer = Trainer(
            model=model,
            args=_arguments(trial, len(rows.train), unused_folder, rows.label_names),
            train_dataset=rows.train,
            eval_dataset=rows.dev,
            data_collator=DataCollatorWithPadding(rows.tokenizer),
            processing_class=rows.tokenizer,
            compute_metrics=rows.metric or _accuracy,
            callbacks=[best],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    best.restore(model)
    return model.cpu(), TrialResult(
        learning_rate=trial.learning_rate,
        dev_accuracies=tuple(best.accuracies),
        failed=best.failed,
        parameters_trained=sum(p.numel() for p in model.parameters() if p.requires_grad),
        parameters=sum(p.numel() for p in model.parameters()),
        seconds=time.perf_counter() - started,
    )


def _arguments(trial: Trial, rows: int, unused_folder: str, label_names: Sequence[str]) -> TrainingArguments:
    settings = trial.settings
    arguments = TrainingArguments(
        output_dir=unused_folder,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=DEV_BATCH_SIZE,
        learning_rate=trial.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup_steps(rows),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch_fused",
        seed=trial.seed,
        data_seed=_data_seed(trial.seed),
        eval_strategy="epoch",
        logging_strategy="epoch",
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=list(label_names),  # a PeftModel's signature does not show them
        dataloader_pin_memory=trial.device.type == "cuda",
        use_cpu=trial.device.type == "cpu",
    )
    # Several visible devices would multiply the batch size; reading `device` first makes the count known.
    if arguments.device.type == "cuda":
        arguments._n_gpu = 1
    return arguments


def _data_seed(seed: int) -> int:
    """The library shuffles epoch e with data_seed + e: neighbouring seeds would share most of their orders."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


def _accuracy(evaluated: Any) -> dict[str, float]:
    predictions = np.asarray(evaluated.predictions).argmax(axis=-1)
    return {"accuracy": float((predictions == evaluated.label_ids).mean())}


class _BestEpoch(TrainerCallback):  # type: ignore[misc]  # transformers is untyped for us
    """Keeps the trained weights of the best epoch in memory; stops when the loss is not finite."""

    def __init__(self, report: Callable[[int, float], None]) -> None:
        self.accuracies: list[float] = []
        self.failed = False
        self._report = report
        self._weights: dict[str, torch.Tensor] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **unused: Any) -> None:  # noqa: ARG002
        if not math.isfinite(logs.get("loss", 0.0)):
            self.failed = True
            control.should_training_stop = True

    def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        accuracy = given["metrics"]["eval_accuracy"]
        if not self.failed and accuracy > max(self.accuracies, default=-1.0):
            self._weights = {name: parameter.detach().cpu().clone() for name, parameter in _trained(given["model"])}
        self.accuracies.append(accuracy)
        self._report(len(self.accuracies), accuracy)

    @torch.no_grad()
    def restore(self, model: Any) -> None:
        for name, parameter in _trained(model):
            if name in self._weights:
                parameter.copy_(self._weights[name])


def _trained(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
