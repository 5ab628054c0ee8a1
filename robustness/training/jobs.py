"""Trains a list of jobs; one that fails does not end the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from robustness.errors import RobustnessError, UsageError, first_line
from robustness.training.adaptation import Base
from robustness.training.checkpoints import make_checkpoint
from robustness.training.job import RowSource, TrainingJob
from robustness.training.record import Outcome, is_complete, read_outcome
from robustness.training.workshop import Workshop
from robustness.victims.batches import recover_memory
from robustness.victims.loading import place
from robustness.victims.precision import faster_dtype

__all__ = ["Trained", "TrainingJob", "make_checkpoints"]

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """The end of a job."""

    job: TrainingJob
    outcome: Outcome | None
    """As recorded in the job's folder; None if an error ended the job, so that there is no folder."""
    reason: str = ""
    """Why there is no checkpoint; empty if there is one."""

    @property
    def failed(self) -> bool:
        """Whether there is no checkpoint."""
        return bool(self.reason)

    @property
    def selecting_scores(self) -> tuple[float, ...]:
        """Scores of the chosen learning rate after each epoch; empty after a failure."""
        return () if self.outcome is None else self.outcome.selecting_scores


def make_checkpoints(
    jobs: Sequence[TrainingJob], *, device: str = "auto", progress: Progress | None = None
) -> list[Trained]:
    """Trains each job's checkpoint into its folder; returns their ends, in the order of the jobs.

    Jobs may differ in everything: test set, rows, base, method, seed and settings. Rows are loaded and encoded once
    for all jobs with the same. Calling again resumes: a folder that is there is not trained again. A job whose loss
    is not finite at any learning rate is recorded in its folder. A job that ends by an error leaves no folder, so
    the same call tries it again.

    Args:
        jobs: with different folders.
        device: auto, cpu or cuda.
        progress: called with one line after each epoch.

    Raises:
        UsageError: an unknown device, or two jobs with one folder.
    """
    folders = [job.folder for job in jobs]
    if twice := {str(folder) for folder in folders if folders.count(folder) > 1}:
        raise UsageError(f"training: two jobs have the folder {', '.join(sorted(twice))}; each needs its own")
    say = progress or ignore
    shop = Workshop(find_device(device))
    return make_in_process(computable(jobs, shop.device, say), shop, say)


def make_in_process(jobs: Sequence[TrainingJob], shop: Workshop, say: Progress) -> list[Trained]:
    """Trains jobs one after the other in this process; otherwise as `make_checkpoints`."""
    label = labels(jobs)
    ends = {}
    for job in by_rows(jobs):
        was_there = job.folder.exists()
        ends[job.folder] = end = make_or_explain(job, shop, partial(_say_of, label[job.folder], say))
        if end.failed and not was_there:
            say(f"{job.folder.name}: failed: {end.reason}")
    return [ends[job.folder] for job in jobs]


def labels(jobs: Sequence[TrainingJob]) -> dict[Path, str]:
    """Names jobs in lines of progress, by folder: by method and seed if nothing else differs."""
    several = len({(job.source, job.base) for job in jobs}) > 1
    return {job.folder: job.folder.name if several else f"{job.method.name} seed {job.seed}" for job in jobs}


def _say_of(label: str, say: Progress, line: str) -> None:
    say(f"{label} {line}")


def make_or_explain(job: TrainingJob, shop: Workshop, say: Progress) -> Trained:
    """Trains a job unless its folder is there; turns an error into the reason of a failure.

    Args:
        job: whose settings the device can compute.
        shop: of this process.
        say: called with one line after each epoch.
    """
    try:
        if not is_complete(job.folder, shop.fingerprint(job)):
            make_checkpoint(job, shop, say)
        outcome = read_outcome(job.folder)
    except Exception as error:  # transformers, peft and torch raise errors of many classes
        end = Trained(job, None, explain(error))
    else:
        end = Trained(job, outcome, outcome.reason)
    if end.outcome is None:  # only here, because the exception holds tensors
        with suppress(RuntimeError):  # of a lost device, which every later job will report
            recover_memory()
    return end


def explain(error: Exception) -> str:
    """Returns the reason of a failure: our own message unchanged, a library's with its class."""
    return str(error) if isinstance(error, RobustnessError) else f"{type(error).__name__}: {first_line(error)}"


def by_rows(jobs: Sequence[TrainingJob]) -> list[TrainingJob]:
    """Returns jobs with equal rows and bases one after the other, otherwise in their order."""
    first: dict[tuple[RowSource, Base], int] = {}
    for position, job in enumerate(jobs):
        first.setdefault((job.source, job.base), position)
    return sorted(jobs, key=lambda job: first[job.source, job.base])


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
