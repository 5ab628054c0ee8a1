"""One trial: trains one method, learning rate and seed to its best epoch on the selecting rows."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import (
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from robustness.definitions.catalog import Entry
from robustness.errors import CheckpointError, RunError, first_line
from robustness.training.adaptation import Base, adapt
from robustness.training.adapters import AdaLoraAdapter, share_penalty
from robustness.training.adversarial import FreeLbTrainer
from robustness.training.callbacks import EpochKeeper, RankAllocation, Snapshot, StepTeller, restore
from robustness.training.examples.completions import IGNORED
from robustness.training.examples.rows import EncodedRow, EncodedRows, ScoredRows
from robustness.training.memory import is_out_of_memory
from robustness.training.methods import MethodDefinition
from robustness.training.protocol import TrainingSettings
from robustness.victims.batches import recover_memory
from robustness.victims.files.quantised import count_numbers
from robustness.victims.gate import switched_attention
from robustness.victims.heads.kinds import trained_kind
from robustness.victims.heads.registry import HeadOptions, build_head
from robustness.victims.inputs import accepted_inputs
from robustness.victims.padding import settle_padding_token, settle_side

DEV_BATCH_SIZE = 64
MIXED_PRECISION = "ACCELERATE_MIXED_PRECISION"
"""The environment variable in which transformers 4 leaves a training's precision for later trainings."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The trial's settings: everything except the data."""

    method: Entry[MethodDefinition]
    learning_rate: float
    seed: int
    settings: TrainingSettings
    device: torch.device


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The result of a trial."""

    learning_rate: float
    selecting_scores: tuple[float, ...]
    """After each epoch."""
    losses: tuple[float, ...]
    """Mean training loss of each epoch."""
    failed: bool
    """Whether the loss was not finite in some epoch; such a trial is discarded."""
    parameters_trained: int
    parameters: int
    """All of the model's parameters, including head and adapter."""
    seconds: float
    peak_memory_bytes: int
    """On CUDA the trial's peak allocation; on a CPU the process's peak so far."""
    snapshots: tuple[Snapshot, ...] = ()
    """Of every epoch if the settings ask for it."""
    accumulation: int = 1
    """Parts in which every batch was run."""
    passes: int = 0
    """Parts run forward and backward, over all batches; FreeLB runs each several times."""

    @property
    def best_epoch(self) -> int:
        """The epoch of the highest score on the selecting rows, counted from 1; the earliest among equals."""
        return self.selecting_scores.index(max(self.selecting_scores)) + 1

    @property
    def selecting_score(self) -> float:
        """The score of the best epoch."""
        return max(self.selecting_scores)


def run_trial(
    trial: Trial,
    base: Base,
    rows: EncodedRows,
    report: Callable[[int, float], None],
    tell_share: Callable[[float], None] | None = None,
) -> tuple[Any, TrialResult]:
    """Trains from the base; returns the model of its best epoch, on the CPU, and the trial's result.

    Only the seed determines the order of examples and the head's first weights, for every method. torch's random
    state is restored afterwards.

    Args:
        trial: the settings.
        base: where to start.
        rows: the data, the same for all trials of a pair.
        report: called after each epoch with its number, from 1, and the score on the selecting rows.
        tell_share: called from time to time with the share of steps that is done.

    Raises:
        CheckpointError: the base cannot be loaded or adapted, or cannot answer a text.
        RunError: training fails.
        Exception: memory runs out; see `is_out_of_memory`.
    """
    started = time.perf_counter()
    adapter = trial.method.definition.adapter
    keeper = EpochKeeper(report, keep_all=trial.settings.match == "clean", score=rows.selecting.respond)
    others: list[TrainerCallback] = [RankAllocation()] if isinstance(adapter, AdaLoraAdapter) else []
    others += [] if tell_share is None else [StepTeller(tell_share)]
    if trial.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as unused_folder:
        set_seed(trial.seed)
        model = _adapted(trial, base, rows)
        _settle_padding(model, rows, base)
        trainer = _trainer(model, trial, rows, rows.selecting, unused_folder, [keeper, *others])
        _fit(trainer, trial)
    best = keeper.best()
    if best is not None:
        restore(model, best)
    return model.cpu(), TrialResult(
        learning_rate=trial.learning_rate,
        selecting_scores=tuple(keeper.scores),
        losses=tuple(keeper.losses),
        failed=keeper.failed,
        parameters_trained=sum(p.numel() for p in model.parameters() if p.requires_grad),
        parameters=sum(map(count_numbers, model.parameters())),
        seconds=time.perf_counter() - started,
        peak_memory_bytes=_peak_memory(trial.device),
        snapshots=tuple(keeper.snapshots) if trial.settings.match == "clean" else (),
        accumulation=trial.settings.accumulation,
        passes=trainer.state.global_step * trial.settings.passes_per_batch,
    )


def try_step(trial: Trial, base: Base, rows: EncodedRows) -> None:
    """Takes one optimiser step on the longest rows, scores a few others, saves an adapter, and discards the result.

    Problems of method, base and device together appear here, in seconds.

    Raises:
        CheckpointError: the base cannot be loaded or adapted.
        Exception: any error of transformers, peft and torch in training.
    """
    longest = sorted(rows.train, key=lambda row: len(row["input_ids"]))[-trial.settings.batch_size :]
    few = replace(rows, train=tuple(longest))
    # The metric of questions needs all of them.
    metric = None if rows.selecting.metric is None else (lambda _: {"score": 0.0})
    respond = None if rows.selecting.respond is None else rows.selecting.respond.shortened()
    scored = ScoredRows(rows.selecting.rows[-DEV_BATCH_SIZE:], metric, respond)
    try:
        _take_step(trial, base, rows, few, scored)
    finally:
        recover_memory()  # the model is gone


def _take_step(trial: Trial, base: Base, rows: EncodedRows, few: EncodedRows, scored: ScoredRows) -> None:
    adapter, once = trial.method.definition.adapter, replace(trial.settings, max_steps=1)
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as folder:
        set_seed(trial.seed)
        model = _adapted(trial, base, rows)
        _settle_padding(model, rows, base)
        _trainer(model, replace(trial, settings=once), few, scored, folder, []).train()
        if scored.respond is not None:
            scored.respond(model)
        if adapter is not None:
            model.save_pretrained(folder, save_embedding_layers=False)


def score_reporting(model: Any, trial: Trial, rows: EncodedRows) -> float:
    """Returns a trained model's score on the reporting rows; moves the model to the CPU afterwards."""
    if rows.reporting.respond is not None:
        score = rows.reporting.respond(model.to(trial.device))
    else:
        with torch.random.fork_rng(), tempfile.TemporaryDirectory() as unused_folder:
            score = float(_trainer(model, trial, rows, rows.reporting, unused_folder, []).evaluate()["eval_score"])
    model.cpu()
    return score


def _adapted(trial: Trial, base: Base, rows: EncodedRows) -> Any:
    """The trainable base, with accumulation and recomputed activations as in the settings."""
    settings, adapter = trial.settings, trial.method.definition.adapter
    if adapter is not None and rows.labels_tokens:
        adapter = share_penalty(adapter, settings.accumulation)
    packed_on = trial.device if trial.method.definition.on_four_bit else None
    model = adapt(base, rows.task, adapter, settings.steps(len(rows.train)), packed_on=packed_on)
    if settings.checkpointing:
        # Reentrant checkpointing needs inputs with gradients, which a frozen base lacks.
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def _trainer(
    model: Any,
    trial: Trial,
    rows: EncodedRows,
    scored: ScoredRows,
    unused_folder: str,
    callbacks: Sequence[TrainerCallback],
) -> Trainer:
    model.to(trial.device)  # the library moves no model with packed weights
    make = Trainer
    if trial.settings.adversarial is not None:
        # Of a generated text, the prompt's tokens.
        perturbed = IGNORED if rows.labels_tokens else None
        make = partial(FreeLbTrainer, settings=trial.settings.adversarial, perturbed_label=perturbed)
    trainer = make(
        model=model,
        args=_arguments(trial, rows, unused_folder),
        train_dataset=rows.train,
        eval_dataset=scored.rows or None,
        data_collator=_collator(model, rows),
        processing_class=rows.tokenizer,
        compute_metrics=scored.metric or _accuracy,
        preprocess_logits_for_metrics=_logits_alone(rows.label_names),
        callbacks=list(callbacks),
    )
    # Some models accept the batch's count without using it, so parts would add up. Language models need it:
    # parts with unequal numbers of tokens then count as one batch.
    if trial.settings.accumulation > 1 and not rows.labels_tokens:
        trainer.model_accepts_loss_kwargs = False
    trainer.remove_callback(PrinterCallback)
    return trainer


def _fit(trainer: Trainer, trial: Trial) -> None:
    try:
        trainer.train()
    except Exception as error:  # any error of a model or a library at some rows
        if is_out_of_memory(error):
            raise
        raise RunError(
            f"train: {trial.method.name} with seed {trial.seed} fails: {type(error).__name__}: {first_line(error)}"
        ) from error


def _settle_padding(model: Any, rows: EncodedRows, base: Base) -> None:
    """Pads rows like the victim's texts, which also tests whether the model can answer."""
    name = f"base {base.folder}"
    settle_padding_token(model, rows.tokenizer, name)
    options = HeadOptions(rows.task, tuple(range(len(rows.task.labels))))
    try:
        head = build_head(trained_kind(rows.task), model.eval(), rows.tokenizer, options)
        settle_side(head, rows.task)
        fault = head.find_fault()
    except Exception as error:  # as above
        raise CheckpointError(
            f"{name}: it cannot answer a short text: {type(error).__name__}: {first_line(error)}"
        ) from error
    if reason := fault or switched_attention(model):
        raise CheckpointError(f"{name}: {reason}")


def _collator(model: Any, rows: EncodedRows) -> Callable[[list[EncodedRow]], Any]:
    """Pads the model's inputs of each row; a tokenizer may give more."""
    if rows.labels_tokens:
        pad = DataCollatorForSeq2Seq(rows.tokenizer, label_pad_token_id=IGNORED)  # pads labels too
    else:
        pad = DataCollatorWithPadding(rows.tokenizer)
    wanted = {*accepted_inputs(model), *rows.label_names}
    return lambda some: pad([{name: row[name] for name in row if name in wanted} for row in some])


def _logits_alone(label_names: Sequence[str]) -> Callable[[Any, Any], Any]:
    """A batch's outputs: one tensor for labels, two for spans, without an encoder-decoder's hidden states."""

    def choose(outputs: Any, _labels: Any) -> Any:
        if not isinstance(outputs, tuple):
            return outputs
        return outputs[0] if len(label_names) == 1 else outputs[: len(label_names)]

    return choose


def _arguments(trial: Trial, rows: EncodedRows, unused_folder: str) -> TrainingArguments:
    settings = trial.settings
    os.environ.pop(MIXED_PRECISION, None)
    arguments = TrainingArguments(
        output_dir=unused_folder,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=settings.batch_size // settings.accumulation,
        gradient_accumulation_steps=settings.accumulation,
        per_device_eval_batch_size=max(1, DEV_BATCH_SIZE // settings.accumulation),
        learning_rate=trial.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup_steps(len(rows.train)),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch_fused",
        bf16=settings.bf16,
        seed=trial.seed,
        data_seed=data_seed(trial.seed),
        eval_strategy="no" if rows.selecting.respond else "epoch",
        logging_strategy="epoch",
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=list(rows.label_names),  # a PeftModel's signature does not show them
        dataloader_pin_memory=trial.device.type == "cuda",
        use_cpu=trial.device.type == "cpu",
    )
    # Several visible devices would multiply the batch size; reading `device` first sets the count.
    if arguments.device.type == "cuda":
        arguments._n_gpu = 1
    return arguments


def data_seed(seed: int) -> int:
    """The seed of the order of examples.

    The library shuffles epoch e with data_seed + e, so neighbouring seeds would share most orders.
    """
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _accuracy(evaluated: Any) -> dict[str, float]:
    predictions = np.asarray(evaluated.predictions).argmax(axis=-1)
    return {"score": float((predictions == evaluated.label_ids).mean())}
