"""Trains a list of jobs; one that fails does not end the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path

import torch

from robustness.errors import UsageError
from robustness.training.adaptation import Base
from robustness.training.job import RowSource, TrainingJob
from robustness.training.making.bench import Assignment, TrainingSpec
from robustness.training.making.bookings import TrainingBooking
from robustness.training.making.ends import Trained, find_end, make_end, refuse_full_disk
from robustness.training.making.meter import Meter, Told, TrainingProgress
from robustness.training.making.workshop import Workshop
from robustness.victims.loading import place
from robustness.victims.precision import faster_dtype
from robustness.workers.execution import Execution
from robustness.workers.pool import check_workers, compute_on_workers

__all__ = ["Trained", "TrainingJob", "make_checkpoints"]

Progress = Callable[[str], None]


def make_checkpoints(
    jobs: Sequence[TrainingJob],
    execution: Execution | None = None,
    progress: Progress | None = None,
    *,
    device: str = "auto",
    on_steps: Callable[[TrainingProgress], None] | None = None,
) -> list[Trained]:
    """Trains each job's checkpoint into its folder; returns their ends, in the order of the jobs.

    Jobs may differ in everything: test set, rows, base, method, seed and settings. Rows are loaded and encoded once
    by a process for all jobs with the same. Calling again resumes: a folder that is there is not trained again. A job
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
    shop = Workshop(find_device(device))
    check_workers(execution, shop.device)
    return make_ends(computable(jobs, shop.device, say), shop, execution, say, Meter(on_steps))


def make_ends(
    jobs: Sequence[TrainingJob], shop: Workshop, execution: Execution, say: Progress, meter: Meter
) -> list[Trained]:
    """Trains jobs in this process or on workers, otherwise as `make_checkpoints`.

    Args:
        jobs: which the device can compute.
        shop: of this process.
        execution: executor and workers.
        say: called with one line after each epoch.
        meter: adds up what is done.
    """
    make = _make_here if execution.is_in_process else partial(_make_on_workers, execution=execution)
    ends = make(jobs, shop, say, meter)
    return [ends[job.folder] for job in jobs]


def _make_here(jobs: Sequence[TrainingJob], shop: Workshop, say: Progress, meter: Meter) -> dict[Path, Trained]:
    ends: dict[Path, Trained] = {}
    label = _labels(jobs)
    for _, equal in groupby(by_rows(jobs), key=lambda job: (job.source, job.base)):
        for job in _find_missing(equal, shop, meter, ends):
            tell = partial(_pass_on, job.folder, label[job.folder], say, meter)
            ends[job.folder] = end = make_end(job, shop, tell)
            refuse_full_disk(end)
            _tell_failure(end, say)
    return ends


def _make_on_workers(
    jobs: Sequence[TrainingJob], shop: Workshop, say: Progress, meter: Meter, execution: Execution
) -> dict[Path, Trained]:
    ends: dict[Path, Trained] = {}
    bookings = []
    label = _labels(jobs)
    for _, equal in groupby(by_rows(jobs), key=lambda job: (job.source, job.base)):
        for job in _find_missing(equal, shop, meter, ends):
            given = Assignment(_everywhere(job), shop.fingerprint(job), shop.first_step(job), shop.estimate_cost(job))
            tell = partial(_pass_on, job.folder, label[job.folder], say, meter)
            bookings.append(TrainingBooking(given, tell, job.folder, ends))
    compute_on_workers(bookings, TrainingSpec(shop.device.type), execution, shop.device)
    for booking in bookings:
        _tell_failure(ends[booking.folder], say)
    return ends


def _find_missing(
    jobs: Iterable[TrainingJob], shop: Workshop, meter: Meter, ends: dict[Path, Trained]
) -> list[TrainingJob]:
    """Jobs to train, which the meter gets; the others' ends are added to `ends`."""
    missing = []
    for job in jobs:
        if (end := find_end(job, shop)) is None:
            meter.add(job.folder, shop.count_steps(job), shop.estimate_cost(job))
            missing.append(job)
        else:
            ends[job.folder] = end
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


def _tell_failure(end: Trained, say: Progress) -> None:
    if end.failed:
        say(f"{end.job.folder.name}: failed: {end.reason}")


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
