"""Trains a list of jobs; one that fails does not end the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from robustness.errors import UsageError
from robustness.progress import ProgressCallback
from robustness.training.adaptation import Base
from robustness.training.execution.bench import Assignment, TrainingSpec
from robustness.training.execution.bookings import TrainingBooking
from robustness.training.execution.context import TrainingContext
from robustness.training.execution.meter import Meter, Told
from robustness.training.execution.results import TrainingResult, find_result, refuse_full_disk, train_job
from robustness.training.job import RowSource, TrainingJob
from robustness.victims.loading import place
from robustness.victims.precision import faster_dtype
from robustness.workers.execution import Execution
from robustness.workers.pool import check_workers, compute_on_workers

__all__ = ["TrainingJob", "TrainingResult", "make_checkpoints"]

Progress = Callable[[str], None]


def make_checkpoints(
    jobs: Sequence[TrainingJob],
    execution: Execution | None = None,
    progress: Progress | None = None,
    *,
    device: str = "auto",
    on_steps: ProgressCallback | None = None,
) -> list[TrainingResult]:
    """Trains each job's checkpoint into its folder; returns their results, in the order of the jobs.

    Jobs may differ in everything: test set, rows, base, method, seed and settings. Rows are encoded once by a
    process for all jobs with the same. Calling again resumes: a folder that is there is not trained again. A job
    whose loss is not finite at any learning rate is recorded in its folder. A job that ends by an error leaves no
    folder, so the same call tries it again.

    Args:
        jobs: with different folders.
        execution: executor and workers; None: this process. Checkpoints do not depend on it.
        progress: called with one line after each epoch.
        device: auto, cpu or cuda; on CUDA every worker has a device for itself.
        on_steps: called about once a second with the steps done and the time left.

    Raises:
        UsageError: an unknown device, two jobs with one folder, or workers that are not available.
        RunError: the disk is full, no worker starts, or one has other libraries or files.
    """
    folders = [job.folder for job in jobs]
    if twice := {str(folder) for folder in folders if folders.count(folder) > 1}:
        raise UsageError(f"training: two jobs have the folder {', '.join(sorted(twice))}; each needs its own")
    execution, say = execution or Execution(), progress or ignore
    context = TrainingContext(find_device(device))
    check_workers(execution, context.device)
    return train_jobs(computable(jobs, context.device, say), context, execution, say, Meter(on_steps))


def train_jobs(
    jobs: Sequence[TrainingJob], context: TrainingContext, execution: Execution, say: Progress, meter: Meter
) -> list[TrainingResult]:
    """Trains jobs in this process or on workers, otherwise as `make_checkpoints`.

    Args:
        jobs: which the device can compute.
        context: of this process.
        execution: executor and workers.
        say: called with one line after each epoch.
        meter: adds up what is done.
    """
    make = _make_here if execution.is_in_process else partial(_make_on_workers, execution=execution)
    results = make(jobs, context, say, meter)
    return [results[job.folder] for job in jobs]


def _make_here(
    jobs: Sequence[TrainingJob], context: TrainingContext, say: Progress, meter: Meter
) -> dict[Path, TrainingResult]:
    results: dict[Path, TrainingResult] = {}
    label = _labels(jobs)
    for job in _find_missing(by_rows(jobs), context, meter, results):
        tell = partial(_pass_on, job.folder, label[job.folder], say, meter)
        results[job.folder] = result = train_job(job, context, tell)
        refuse_full_disk(result)
        _tell_failure(result, say)
    return results


def _make_on_workers(
    jobs: Sequence[TrainingJob], context: TrainingContext, say: Progress, meter: Meter, execution: Execution
) -> dict[Path, TrainingResult]:
    results: dict[Path, TrainingResult] = {}
    bookings = []
    label = _labels(jobs)
    for job in _find_missing(by_rows(jobs), context, meter, results):
        given = Assignment(
            _everywhere(job), context.fingerprint(job), context.first_step(job), context.estimate_cost(job)
        )
        tell = partial(_pass_on, job.folder, label[job.folder], say, meter)
        bookings.append(TrainingBooking(given, tell, job, results))
    compute_on_workers(bookings, TrainingSpec(context.device.type), execution, context.device)
    for booking in bookings:
        _tell_failure(results[booking.folder], say)
    return results


def _find_missing(
    jobs: Iterable[TrainingJob], context: TrainingContext, meter: Meter, results: dict[Path, TrainingResult]
) -> list[TrainingJob]:
    """Jobs to train, all of which the meter gets before any begins; the others' results are added to `results`."""
    missing = []
    for job in jobs:
        if (result := find_result(job, context)) is None:
            meter.add(job.folder, context.count_steps(job), context.estimate_cost(job))
            missing.append(job)
        else:
            results[job.folder] = result
    return missing


def _pass_on(folder: Path, label: str, say: Progress, meter: Meter, told: Told) -> None:
    if isinstance(told, str):
        say(f"{label} {told}")
    else:
        meter.take(folder, label, told)


def _everywhere(job: TrainingJob) -> TrainingJob:
    """A job with absolute paths, for processes with another working directory."""
    testset = str(Path(job.testset).absolute()) if job.testset.endswith(".toml") else job.testset
    data, augmented = (None if path is None else path.absolute() for path in (job.data, job.augmented))
    return replace(job, testset=testset, data=data, folder=job.folder.absolute(), augmented=augmented)


def by_rows(jobs: Sequence[TrainingJob]) -> list[TrainingJob]:
    """Returns jobs with equal rows and bases one after the other, otherwise in their order."""
    first: dict[tuple[RowSource, Base], int] = {}
    for position, job in enumerate(jobs):
        first.setdefault((job.source, job.base), position)
    return sorted(jobs, key=lambda job: first[job.source, job.base])


def _labels(jobs: Sequence[TrainingJob]) -> dict[Path, str]:
    """Names jobs in lines of progress, by folder: by method and seed if nothing else differs."""
    several = len({(job.source, job.base) for job in jobs}) > 1
    return {job.folder: job.folder.name if several else f"{job.method.name} seed {job.seed}" for job in jobs}


def _tell_failure(result: TrainingResult, say: Progress) -> None:
    if result.failed:
        say(f"{result.job.folder.name}: failed: {result.reason}")


def find_device(device: str) -> torch.device:
    """Returns the device of trainings; raises UsageError for an unknown one, or for a GPU but the first."""
    placed = place(device).device
    if placed.index:
        raise UsageError(
            f"--device {device}: training runs on the first visible device; "
            f"use --device cuda with CUDA_VISIBLE_DEVICES={placed.index}"
        )
    return placed


def computable(jobs: Sequence[TrainingJob], device: torch.device, say: Progress) -> list[TrainingJob]:
    """Uses bfloat16 only if it saves time: a processor may offer it but take a hundred times as long."""
    if not any(job.settings.bf16 for job in jobs) or faster_dtype(device) is torch.bfloat16:
        return list(jobs)
    say(f"training in float32: {device} computes no faster in bfloat16")
    return [replace(job, settings=replace(job.settings, bf16=False)) for job in jobs]


def ignore(_line: str) -> None:
    """Says nothing."""
