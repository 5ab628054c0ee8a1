"""Makes one checkpoint: the best trial of its grid, in a folder that exists only complete."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robustness.sharing import find_drafts, name_draft
from robustness.training.callbacks import restore
from robustness.training.execution.context import TrainingContext
from robustness.training.execution.meter import Tell
from robustness.training.job import TrainingJob
from robustness.training.memory import fit_memory
from robustness.training.metrics import selection_metric
from robustness.training.protocol import TrainingSettings
from robustness.training.record import Chosen, format_rate, write_record
from robustness.training.trainer import Trial, TrialResult, run_trial, score_reporting
from robustness.victims.files.selection import epoch_folder


@dataclass(frozen=True, slots=True)
class Winner:
    """The best successful trial of a grid."""

    model: Any
    trial: Trial
    result: TrialResult


def make_checkpoint(
    job: TrainingJob, context: TrainingContext, tell: Tell, settings: TrainingSettings | None = None
) -> None:
    """Trains a job's checkpoint into its folder, or records there that no learning rate gave a finite loss.

    Args:
        job: without a folder yet.
        context: of this process.
        tell: called with one line after each epoch and when memory runs out, and with the share that is done.
        settings: as after the first step; None: the step is taken here.

    Raises:
        Exception: a RobustnessError, or any error of transformers, peft and torch; no folder is left then.
    """
    best, trials = _best_of_grid(job, context, settings or context.take_first_step(job, tell), tell)
    draft = name_draft(job.folder)
    try:
        draft.mkdir(parents=True)
        chosen = None if best is None else _save_best(best, draft, job, context, tell)
        metric = selection_metric(context.rows(job).task)
        write_record(draft, context.fingerprint(job), metric, trials, chosen, str(context.device))
        draft.replace(job.folder)
        _remove(find_drafts(job.folder))  # of killed processes; one at work takes this checkpoint
    finally:
        _remove([draft])


def _remove(folders: Sequence[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _best_of_grid(
    job: TrainingJob, context: TrainingContext, settings: TrainingSettings, tell: Tell
) -> tuple[Winner | None, list[TrialResult]]:
    """The best successful trial, if any, and the results of all."""
    method, _ = context.under_protocol(job)
    results: list[TrialResult] = []
    best: Winner | None = None
    rates = sorted(method.definition.learning_rates)
    for rate in rates:
        trial = Trial(method, rate, job.seed, settings, context.device)

        def tell_share(share: float, finished: int = len(results)) -> None:
            tell((finished + share) / len(rates))

        trial, (model, result) = _run_in_parts(trial, job, context, tell, tell_share)
        settings = trial.settings  # later trials start with as many parts
        results.append(result)
        if not result.failed and (best is None or result.selecting_score > best.result.selecting_score):
            best = Winner(model, trial, result)
    return best, results


def _run_in_parts(
    trial: Trial, job: TrainingJob, context: TrainingContext, tell: Tell, tell_share: Callable[[float], None]
) -> tuple[Trial, tuple[Any, TrialResult]]:
    metric = selection_metric(context.rows(job).task).spelling
    prefix = f"lr {format_rate(trial.learning_rate)}"

    def report(epoch: int, score: float) -> None:
        tell(f"{prefix} epoch {epoch}/{trial.settings.epochs}: dev {metric} {score:.3f}")

    def attempt(settings: TrainingSettings) -> tuple[Any, TrialResult]:
        return run_trial(replace(trial, settings=settings), job.base, context.encoded(job), report, tell_share)

    settings, found = fit_memory(trial.settings, attempt, lambda line: tell(f"{prefix}: {line}"))
    return replace(trial, settings=settings), found


def _save_best(best: Winner, folder: Path, job: TrainingJob, context: TrainingContext, tell: Tell) -> Chosen:
    """Saves the best epoch, and every epoch that was kept; scores the best on the reporting rows."""
    model, result = best.model, best.result
    for snapshot in result.snapshots:
        restore(model, snapshot)
        _save(model, epoch_folder(folder, snapshot.epoch), job, context)
    if result.snapshots:
        restore(model, result.snapshots[result.best_epoch - 1])
    _save(model, folder, job, context)

    def attempt(settings: TrainingSettings) -> float:
        return score_reporting(model, replace(best.trial, settings=settings), context.encoded(job))

    _, score = fit_memory(best.trial.settings, attempt, tell)
    return Chosen(result, score)


def _save(model: Any, folder: Path, job: TrainingJob, context: TrainingContext) -> None:
    # Otherwise peft asks the hub whether the base's vocabulary has grown.
    options = {"save_embedding_layers": False} if job.method.definition.is_peft else {}
    model.save_pretrained(folder, **options)
    # An adapter folder also needs config.json, for its label names.
    model.config.save_pretrained(folder)
    context.encoded(job).tokenizer.save_pretrained(folder)
