"""Trains the checkpoints of pairs: every method on the same rows, with the same choice of learning rates."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robustness.definitions.catalog import Entry
from robustness.definitions.pairs import PairEntry, PairsDefinition, write_pairs
from robustness.definitions.reading import read_definition
from robustness.errors import RunError, UsageError
from robustness.training.adaptation import Base
from robustness.training.data import EncodedRows, TrainingRows, encode_rows, load_rows
from robustness.training.methods import MethodDefinition, find_method
from robustness.training.protocol import TrainingSettings
from robustness.training.record import Fingerprint, is_complete, write_record
from robustness.training.trainer import Trial, TrialResult, run_trial
from robustness.victims.checkpoint import locate
from robustness.victims.loading import digest_weights, place

PAIRS_FILE = "pairs.toml"

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Job:
    """One checkpoint to be made."""

    method: Entry[MethodDefinition]
    seed: int
    folder: Path
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all jobs of one call share."""

    base: Base
    rows: EncodedRows
    settings: TrainingSettings
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

    Each method tries every learning rate of its grid; the best by accuracy on the clean development rows is
    kept (of equals the smaller), as of its best epoch (of equals the earlier). Calling again resumes: finished
    checkpoints are not trained again. Pairs of other names that the pairs file already has stay in it.

    Args:
        testset: a clean test set with a training split, such as sst2 or demo-sentiment.
        base: a folder or a hub id.
        methods: `full` and at least one PEFT method.
        seeds: training seeds, 0 or more; one pair per seed and PEFT method.
        out: where checkpoints and pairs.toml go.
        data: the folder with official files; None for packaged files and the hub.
        limit: train on so many rows, the same for all methods and seeds.
        settings: None for the defaults.
        device: auto, cpu or cuda.
        progress: called with one line after each epoch.

    Raises:
        UsageError: an argument out of range, or no pair would come out.
        DefinitionError: an unknown method or test set, or a pairs file in `out` that cannot be read.
        DataError: the rows cannot be read.
        CheckpointError: the base cannot be loaded.
        RunError: `out` has a checkpoint made with other settings, or no learning rate gave a finite loss.
    """
    entries = [find_method(name) for name in dict.fromkeys(methods)]
    seeds = tuple(dict.fromkeys(seeds))
    _check_arguments(entries, seeds, limit)
    settings = settings or TrainingSettings()
    torch_device = _device(device)
    rows = load_rows(testset, data, limit, settings.dev_limit)
    base_folder = locate(base, f"train {testset}: --base")
    start = Base(base_folder, str(base_folder) if Path(base).is_dir() else base)
    jobs = _plan(entries, seeds, out, rows, start, settings)
    pairs_file = out / PAIRS_FILE
    pairs = _merge_pairs(pairs_file, _pairs(jobs, start, rows, out))
    pending = [job for job in jobs if not is_complete(job.folder, job.fingerprint)]
    if pending:
        encoded = encode_rows(rows, base_folder, settings.max_tokens)
        shop = Workshop(start, encoded, settings, torch_device, progress or _ignore)
        out.mkdir(parents=True, exist_ok=True)
        for job in pending:
            _make_checkpoint(job, shop)
    write_pairs(pairs_file, pairs)
    return pairs_file


def _check_arguments(methods: Sequence[Entry[MethodDefinition]], seeds: Sequence[int], limit: int | None) -> None:
    kinds = {method.definition.is_peft for method in methods}
    if kinds != {True, False}:
        named = ", ".join(method.name for method in methods) or "none"
        raise UsageError(f"--method: got {named}; a pair needs --method full and one PEFT method")
    if not seeds or min(seeds) < 0:
        raise UsageError(f"--seed: got {', '.join(map(str, seeds)) or 'none'}; expected one or more, each 0 or more")
    if limit is not None and limit <= 0:
        raise UsageError(f"--limit {limit}: expected 1 or more training rows, or no --limit for all")


def _device(device: str) -> torch.device:
    placed = place(device).device
    if placed.index:
        raise UsageError(
            f"--device {device}: training runs on the first visible device; "
            f"use --device cuda with CUDA_VISIBLE_DEVICES={placed.index}"
        )
    return placed


def _plan(
    methods: Sequence[Entry[MethodDefinition]],
    seeds: Sequence[int],
    out: Path,
    rows: TrainingRows,
    base: Base,
    settings: TrainingSettings,
) -> list[Job]:
    base_digest = digest_weights(base.folder)
    return [
        Job(
            method=method,
            seed=seed,
            folder=out / f"{rows.testset}-{method.name}-seed{seed}",
            fingerprint=Fingerprint(
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
                dev_rows=len(rows.dev),
                settings=settings,
            ),
        )
        for seed in seeds
        for method in methods
    ]


def _make_checkpoint(job: Job, shop: Workshop) -> None:
    """Writes beside the folder and renames: a folder that is there is whole."""
    model, chosen, trials = _best_of_grid(job, shop)
    draft = job.folder.with_name(job.folder.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    model.save_pretrained(draft, **_saving_options(job.method.definition))
    # An adapter folder needs config.json too: it is where its label names are.
    model.config.save_pretrained(draft)
    shop.rows.tokenizer.save_pretrained(draft)
    write_record(draft, job.fingerprint, trials, chosen, str(shop.device))
    draft.replace(job.folder)


def _best_of_grid(job: Job, shop: Workshop) -> tuple[Any, TrialResult, list[TrialResult]]:
    trials: list[TrialResult] = []
    best: tuple[Any, TrialResult] | None = None
    for rate in sorted(job.method.definition.learning_rates):
        trial = Trial(job.method, rate, job.seed, shop.settings, shop.device)
        model, result = run_trial(trial, shop.base, shop.rows, _epoch_reporter(trial, shop.progress))
        trials.append(result)
        if not result.failed and (best is None or result.dev_accuracy > best[1].dev_accuracy):
            best = model, result
    if best is None:
        rates = ", ".join(_format_rate(trial.learning_rate) for trial in trials)
        raise RunError(
            f"{job.method.name} seed {job.seed}: the loss was not finite at any learning rate ({rates}); "
            "is the base itself finite? Otherwise lower learning_rates in the method's file"
        )
    return *best, trials


def _epoch_reporter(trial: Trial, progress: Progress) -> Callable[[int, float], None]:
    prefix = f"{trial.method.name} seed {trial.seed} lr {_format_rate(trial.learning_rate)}"

    def report(epoch: int, accuracy: float) -> None:
        progress(f"{prefix} epoch {epoch}/{trial.settings.epochs}: dev accuracy {accuracy:.3f}")

    return report


def _format_rate(rate: float) -> str:
    return np.format_float_scientific(rate, trim="-", exp_digits=1)


def _saving_options(method: MethodDefinition) -> dict[str, Any]:
    """Without the option peft asks the hub whether the base's vocabulary has grown."""
    return {"save_embedding_layers": False} if method.is_peft else {}


def _pairs(jobs: Sequence[Job], base: Base, rows: TrainingRows, out: Path) -> list[PairEntry]:
    full = {job.seed: job.folder.name for job in jobs if not job.method.definition.is_peft}
    is_local = base.reference == str(base.folder)
    return [
        PairEntry(
            name=job.folder.name,
            task=rows.task.name,
            base=os.path.relpath(base.folder, out.resolve()) if is_local else base.reference,
            full=full[job.seed],
            peft=job.folder.name,
            seed=job.seed,
        )
        for job in jobs
        if job.method.definition.is_peft
    ]


def _merge_pairs(path: Path, pairs: Sequence[PairEntry]) -> list[PairEntry]:
    if not path.is_file():
        return list(pairs)
    names = {pair.name for pair in pairs}
    return [*(p for p in read_definition(path, PairsDefinition).pair if p.name not in names), *pairs]


def _ignore(_line: str) -> None:
    pass
