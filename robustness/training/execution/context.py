"""What the training jobs of a process share: rows, token ids and small facts, each made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import final

import torch

from robustness.definitions.catalog import Entry
from robustness.training.adapters import virtual_tokens
from robustness.training.examples.digests import digest_task
from robustness.training.examples.encoding import encode_rows
from robustness.training.examples.loading import load_rows
from robustness.training.examples.rows import EncodedRows, TrainingRows
from robustness.training.job import RowSource, TrainingJob
from robustness.training.memory import fit_memory
from robustness.training.methods import MethodDefinition
from robustness.training.protocol import TrainingSettings, under_protocol
from robustness.training.record import Fingerprint
from robustness.training.trainer import Trial, try_step
from robustness.versions import version_of
from robustness.victims.files.bases import digest_weights
from robustness.victims.files.quantised import LIBRARY
from robustness.victims.loading import digest_files

FULL_COST = 1.4
"""Time of a step that trains every weight, in steps of an adapter; measured on SmolLM2."""


@final
class TrainingContext:
    """Keeps the rows of the current source, as texts and as token ids, and small facts of all jobs.

    Rows of another source take their place, because several large sets may not fit the memory.

    Args:
        device: of every training.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._rows: tuple[RowSource, TrainingRows] | None = None
        self._encoded: tuple[tuple[RowSource, Path, int], int, EncodedRows] | None = None
        """With the learnt vectors for which there is room."""
        self._base_digests: dict[Path, tuple[str, str]] = {}
        """Of the weights, and of all files."""
        self._fingerprints: dict[TrainingJob, Fingerprint] = {}
        self._tried: dict[TrainingJob, TrainingSettings] = {}
        """Settings under which a first step fits the memory, by the job without its seed and folder."""

    def rows(self, job: TrainingJob) -> TrainingRows:
        """Loads a job's rows; raises as `load_rows`."""
        if self._rows is None or self._rows[0] != job.source:
            self._rows = None  # two may not fit
            self._rows = (
                job.source,
                load_rows(
                    job.testset,
                    job.data,
                    job.limit,
                    job.settings.dev_limit,
                    job.settings.report_limit,
                    job.augmented,
                ),
            )
        return self._rows[1]

    def encoded(self, job: TrainingJob, virtual_tokens: int | None = None) -> EncodedRows:
        """Encodes a job's rows; raises as `encode_rows`.

        Args:
            job: of these rows.
            virtual_tokens: positions for learnt vectors; None: those of the job's method.
        """
        key = job.source, job.base.folder, job.settings.max_tokens
        needed = self.virtual_tokens(job) if virtual_tokens is None else virtual_tokens
        if self._encoded is None or self._encoded[0] != key or self._encoded[1] < needed:
            # The vectors decide only whether rows are refused, so rows encoded with more room are the same.
            self._encoded = None
            self._encoded = key, needed, encode_rows(self.rows(job), job.base.folder, key[-1], needed)
        return self._encoded[2]

    def under_protocol(self, job: TrainingJob) -> tuple[Entry[MethodDefinition], TrainingSettings]:
        """Returns a job's method and settings under its protocol; raises as `under_protocol`."""
        return under_protocol(job.method, self.rows(job).task.name, job.settings)

    def virtual_tokens(self, job: TrainingJob) -> int:
        """Returns the positions that a job's method uses."""
        return virtual_tokens(self.under_protocol(job)[0].definition.adapter)

    def fingerprint(self, job: TrainingJob) -> Fingerprint:
        """Returns everything that a job's weights depend on.

        Raises:
            RobustnessError: the rows cannot be loaded, or the protocol does not know the method.
        """
        if job not in self._fingerprints:
            self._fingerprints[job] = self._describe(job)
        return self._fingerprints[job]

    def _describe(self, job: TrainingJob) -> Fingerprint:
        rows, (method, settings) = self.rows(job), self.under_protocol(job)
        base = job.base.folder
        if base not in self._base_digests:
            self._base_digests[base] = digest_weights(base), digest_files(base)
        weights, files = self._base_digests[base]
        return Fingerprint(
            testset=rows.testset,
            task=rows.task.name,
            base=job.base.reference,
            base_digest=weights,
            method=method.name,
            method_digest=method.digest,
            seed=job.seed,
            train_digest=rows.train_digest,
            dev_digest=rows.dev_digest,
            rows_trained=len(rows.train),
            selecting_rows=len(rows.selecting),
            reporting_rows=len(rows.reporting),
            settings=settings,
            base_precision=method.definition.base_precision,
            packed_by=version_of(LIBRARY) if method.definition.on_four_bit else "",
            augmented_digest=rows.augmented_digest,
            task_digest=digest_task(rows.task),
            base_files_digest=files,
            rows_digest=rows.rows_digest,
        )

    def take_first_step(self, job: TrainingJob, say: Callable[[str], None]) -> TrainingSettings:
        """Takes the first step of a job, once for all its seeds, because an error after hours would be dear.

        Args:
            job: of a method, base and rows.
            say: called with a line when memory runs out.

        Returns:
            The job's settings, with the parts in which a batch of its longest rows fits the memory.

        Raises:
            Exception: of the libraries, as `try_step`; RunError where one row does not fit.
        """
        key = _without_seed(job)
        if key not in self._tried:
            method, settings = self.under_protocol(job)
            rate = min(method.definition.learning_rates)

            def attempt(settings: TrainingSettings) -> None:
                try_step(Trial(method, rate, job.seed, settings, self.device), job.base, self.encoded(job))

            self._tried[key], _ = fit_memory(settings, attempt, say)
        return self._tried[key]

    def first_step(self, job: TrainingJob) -> TrainingSettings | None:
        """Returns the settings after a first step that was taken here; None if it was not."""
        return self._tried.get(_without_seed(job))

    def count_steps(self, job: TrainingJob) -> int:
        """Returns a job's optimiser steps over all learning rates; of questions, without their further windows."""
        method, settings = self.under_protocol(job)
        return settings.steps(len(self.rows(job).train)) * len(method.definition.learning_rates)

    def estimate_cost(self, job: TrainingJob) -> float:
        """Returns a number that grows with a job's time: characters read in all passes, times the base's bytes."""
        method, settings = self.under_protocol(job)
        characters = fmean(sum(map(len, example.texts)) for example in self.rows(job).train)
        size = sum(file.stat().st_size for file in job.base.folder.glob("*.safetensors"))
        passes = settings.passes_per_batch // settings.accumulation
        kind = 1.0 if method.definition.is_peft else FULL_COST
        return self.count_steps(job) * settings.batch_size * passes * characters * size * kind


def _without_seed(job: TrainingJob) -> TrainingJob:
    return replace(job, seed=0, folder=Path())
