"""Trains the checkpoints of pairs: every method on the same rows, with the same choice of learning rates."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robustness.definitions.catalog import Entry
from robustness.definitions.pairs import PairEntry, write_pairs
from robustness.definitions.seeds import refuse_seed
from robustness.errors import CheckpointError, RobustnessError, RunError, UsageError, first_line
from robustness.paths import refuse_unwritable
from robustness.tasks.graders import grader_for
from robustness.tasks.task import Task
from robustness.training.adaptation import Base
from robustness.training.adapters import PromptAdapter, has_targets, virtual_tokens
from robustness.training.callbacks import restore
from robustness.training.data import load_rows
from robustness.training.encoding import FORMS, encode_rows
from robustness.training.methods import MethodDefinition, find_method
from robustness.training.metrics import selection_metric
from robustness.training.pairing import Arm, Pairing, epoch_folder, pair_arms, stored_pairs
from robustness.training.protocol import TrainingSettings, under_protocol
from robustness.training.record import Chosen, Fingerprint, is_complete, read_outcome, write_record
from robustness.training.rows import EncodedRows, TrainingRows
from robustness.training.trainer import Trial, TrialResult, run_trial, score_reporting, try_step
from robustness.victims.files.bases import digest_weights
from robustness.victims.files.checkpoint import ADAPTER_CONFIG, locate
from robustness.victims.loading import place
from robustness.victims.precision import faster_dtype

PAIRS_FILE = "pairs.toml"

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Job:
    """One checkpoint to train."""

    method: Entry[MethodDefinition]
    seed: int
    folder: Path
    settings: TrainingSettings
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class Workshop:
    """The common part of all jobs of one call."""

    base: Base
    rows: EncodedRows
    device: torch.device
    progress: Progress


def train(
    testset: str,
    *,
    base: str,
    methods: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    data: Path | None = None,
    limit: int | None = None,
    settings: TrainingSettings | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Path:
    """Trains one checkpoint per method and seed into `out` and returns the path of the pairs file.

    Each method tries every learning rate of its grid. The best one by the task's metric on one half of the clean
    development rows is kept (the smaller among equals), at its best epoch (the earlier among equals). The chosen
    checkpoint is scored once on the other half. Calling again resumes: finished checkpoints are not trained again. A
    checkpoint without a finite loss at any learning rate is recorded as failed and left out of the pairs file.
    Existing pairs of other names stay in the pairs file.

    Args:
        testset: a clean test set with a training split, such as sst2 or demo-sentiment.
        base: a folder or a hub id.
        methods: `full` and at least one PEFT method.
        seeds: training seeds, 0 or more; one pair per seed and PEFT method.
        out: the folder of checkpoints and pairs.toml.
        data: the folder with official files; None for packaged files and the hub.
        limit: number of training rows, the same for all methods and seeds.
        settings: None for the defaults.
        device: auto, cpu or cuda.
        progress: called with one line after each epoch.

    Raises:
        UsageError: an argument is out of range, or no pair would result.
        DefinitionError: an unknown method or test set, or a pairs file in `out` that cannot be read.
        DataError: the rows cannot be read.
        CheckpointError: the base cannot be loaded.
        RunError: `out` has a checkpoint with other settings, or no pair resulted.
    """
    entries = [find_method(name) for name in dict.fromkeys(methods)]
    seeds = tuple(dict.fromkeys(seeds))
    _check_arguments(entries, seeds, limit)
    torch_device = _device(device)
    settings = _computable(settings or TrainingSettings(), torch_device, progress or _ignore)
    refuse_unwritable(out)
    rows = load_rows(testset, data, limit, settings.dev_limit, settings.report_limit)
    _refuse_prompts(entries, rows.task)
    start = _find_base(base, testset)
    jobs = _plan(entries, seeds, out, rows, start, settings)
    others = [pair for pair in stored_pairs(out / PAIRS_FILE) if pair.name not in {job.folder.name for job in jobs}]
    say = progress or _ignore
    if pending := [job for job in jobs if not is_complete(job.folder, job.fingerprint)]:
        encoded = encode_rows(rows, start.folder, settings.max_tokens, _virtual_tokens(jobs))
        _make_checkpoints(pending, Workshop(start, encoded, torch_device, say))
    pairing = Pairing(
        rows.task.file or rows.task.name, start, out, _floor(rows, settings), selection_metric(rows.task), say
    )
    return _write_pairs(jobs, others, pairing)


def _check_arguments(methods: Sequence[Entry[MethodDefinition]], seeds: Sequence[int], limit: int | None) -> None:
    kinds = {method.definition.is_peft for method in methods}
    if kinds != {True, False}:
        named = ", ".join(method.name for method in methods) or "none"
        raise UsageError(f"--method: got {named}; a pair needs --method full and one PEFT method")
    if not seeds:
        raise UsageError("--seed: got none; expected one or more")
    for seed in seeds:
        refuse_seed(seed)
    if limit is not None and limit <= 0:
        raise UsageError(f"--limit {limit}: expected 1 or more training rows, or no --limit for all")


def _find_base(given: str, testset: str) -> Base:
    folder = locate(given, f"train {testset}: --base")
    if (folder / ADAPTER_CONFIG).is_file():
        raise CheckpointError(
            f"--base {given}: holds {ADAPTER_CONFIG}, so it is an adapter; give the base that it was trained on, or "
            "remove that file where the adapter has been merged"
        )
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"--base {given}: {folder} has no config.json; expected a folder that save_pretrained wrote, or a hub id"
        )
    return Base(folder, str(folder) if Path(given).is_dir() else given)


def _refuse_prompts(methods: Sequence[Entry[MethodDefinition]], task: Task) -> None:
    named = [m.name for m in methods if isinstance(m.definition.adapter, PromptAdapter)]
    reason = FORMS[task.kind].against_prompts
    if named and reason:
        raise UsageError(
            f"--method {', '.join(named)}: learnt vectors before the text are not trained for {task.name}: {reason}; "
            "leave these methods out"
        )


def _device(device: str) -> torch.device:
    placed = place(device).device
    if placed.index:
        raise UsageError(
            f"--device {device}: training runs on the first visible device; "
            f"use --device cuda with CUDA_VISIBLE_DEVICES={placed.index}"
        )
    return placed


def _computable(settings: TrainingSettings, device: torch.device, say: Progress) -> TrainingSettings:
    """Uses bfloat16 only if it saves time: a processor may offer it but take a hundred times as long."""
    if not settings.bf16 or faster_dtype(device) is torch.bfloat16:
        return settings
    say(f"training in float32: {device} computes no faster in bfloat16")
    return replace(settings, bf16=False)


def _plan(
    methods: Sequence[Entry[MethodDefinition]],
    seeds: Sequence[int],
    out: Path,
    rows: TrainingRows,
    base: Base,
    settings: TrainingSettings,
) -> list[Job]:
    base_digest = digest_weights(base.folder)
    jobs = []
    for seed, named in product(seeds, methods):
        method, own_settings = under_protocol(named, rows.task.name, settings)
        adapter = method.definition.adapter
        fingerprint = Fingerprint(
            testset=rows.testset,
            task=rows.task.name,
            base=base.reference,
            base_digest=base_digest,
            method=method.name,
            method_digest=method.digest,
            seed=seed,
            train_digest=rows.train_digest,
            dev_digest=rows.dev_digest,
            rows_trained=len(rows.train),
            selecting_rows=len(rows.selecting),
            reporting_rows=len(rows.reporting),
            settings=own_settings,
        )
        variant = "" if settings.protocol == "equal" else f"-{settings.protocol}"
        variant += f"-{settings.targets}" if settings.targets != "method" and has_targets(adapter) else ""
        folder = out / f"{rows.testset}-{method.name}{variant}-seed{seed}"
        jobs.append(Job(method, seed, folder, own_settings, fingerprint))
    return jobs


def _try_methods(jobs: Sequence[Job], shop: Workshop) -> None:
    """Tries every method before training the first arm, because a failure after hours would leave no pair.

    Raises:
        CheckpointError: the message names the failing methods and the reasons.
    """
    failed: dict[str, list[str]] = {}
    for name, job in {job.method.name: job for job in jobs}.items():
        trial = Trial(job.method, min(job.method.definition.learning_rates), job.seed, job.settings, shop.device)
        try:
            try_step(trial, shop.base, shop.rows)
        except RobustnessError as error:
            failed.setdefault(str(error), []).append(name)
        except torch.OutOfMemoryError:
            reason = f"a batch does not fit into the memory of {shop.device}; run it in parts: --accumulation"
            failed.setdefault(reason, []).append(name)
        except Exception as error:  # transformers, peft and torch raise errors of many classes
            failed.setdefault(f"{type(error).__name__}: {first_line(error)}", []).append(name)
    if failed:
        reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in failed.items())
        raise CheckpointError(f"--method: nothing is trained, for a first step failed: {reasons}")


def _make_checkpoints(jobs: Sequence[Job], shop: Workshop) -> None:
    _try_methods(jobs, shop)
    for job in jobs:
        _make_checkpoint(job, shop)


def _make_checkpoint(job: Job, shop: Workshop) -> None:
    """Writes to a temporary folder and renames, so that an existing folder is complete."""
    best, trials = _best_of_grid(job, shop)
    chosen = None
    draft = job.folder.with_name(job.folder.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    if best is None:
        rates = ", ".join(_format_rate(trial.learning_rate) for trial in trials)
        shop.progress(f"{job.folder.name}: failed: the loss was not finite at any learning rate ({rates})")
    else:
        model, result = best
        for snapshot in result.snapshots:
            restore(model, snapshot)
            _save(model, epoch_folder(draft, snapshot.epoch), job, shop)
        if result.snapshots:
            restore(model, result.snapshots[result.best_epoch - 1])
        _save(model, draft, job, shop)
        trial = Trial(job.method, result.learning_rate, job.seed, job.settings, shop.device)
        chosen = Chosen(result, score_reporting(model, trial, shop.rows))
    write_record(draft, job.fingerprint, selection_metric(shop.rows.task), trials, chosen, str(shop.device))
    draft.replace(job.folder)


def _save(model: Any, folder: Path, job: Job, shop: Workshop) -> None:
    # Otherwise peft asks the hub whether the base's vocabulary has grown.
    options = {"save_embedding_layers": False} if job.method.definition.is_peft else {}
    model.save_pretrained(folder, **options)
    # An adapter folder also needs config.json, for its label names.
    model.config.save_pretrained(folder)
    shop.rows.tokenizer.save_pretrained(folder)


def _best_of_grid(job: Job, shop: Workshop) -> tuple[tuple[Any, TrialResult] | None, list[TrialResult]]:
    """The best successful trial, if any, and all trials."""
    trials: list[TrialResult] = []
    best: tuple[Any, TrialResult] | None = None
    for rate in sorted(job.method.definition.learning_rates):
        trial = Trial(job.method, rate, job.seed, job.settings, shop.device)
        model, result = run_trial(trial, shop.base, shop.rows, _epoch_reporter(trial, shop))
        trials.append(result)
        if not result.failed and (best is None or result.selecting_score > best[1].selecting_score):
            best = model, result
    return best, trials


def _epoch_reporter(trial: Trial, shop: Workshop) -> Callable[[int, float], None]:
    prefix = f"{trial.method.name} seed {trial.seed} lr {_format_rate(trial.learning_rate)}"
    metric = selection_metric(shop.rows.task).spelling

    def report(epoch: int, score: float) -> None:
        shop.progress(f"{prefix} epoch {epoch}/{trial.settings.epochs}: dev {metric} {score:.3f}")

    return report


def _format_rate(rate: float) -> str:
    return np.format_float_scientific(rate, trim="-", exp_digits=1)


def _virtual_tokens(jobs: Sequence[Job]) -> int:
    return max(virtual_tokens(job.method.definition.adapter) for job in jobs)


def _floor(rows: TrainingRows, settings: TrainingSettings) -> float | None:
    """The floor on the selecting rows, if epochs are matched by accuracy."""
    return None if settings.match == "none" else grader_for(rows.task).blind_answer(rows.selecting).points


def _write_pairs(jobs: Sequence[Job], others: Sequence[PairEntry], pairing: Pairing) -> Path:
    arms = [Arm(job.folder, job.seed, job.method.definition.is_peft, read_outcome(job.folder)) for job in jobs]
    pairs = pair_arms(arms, pairing)
    path = pairing.out / PAIRS_FILE
    if pairs or others:
        write_pairs(path, [*others, *pairs])
    if not pairs:
        failed = ", ".join(arm.folder.name for arm in arms if arm.outcome.failed)
        raise RunError(
            f"{path}: no pair resulted: failed were {failed}; is the base itself finite? Otherwise lower "
            "learning_rates in a method's file, and remove the failed folders to try again"
            if failed
            else f"{path}: no pair resulted: no arm has learnt the task in any epoch; train longer"
        )
    return path


def _ignore(_line: str) -> None:
    pass
