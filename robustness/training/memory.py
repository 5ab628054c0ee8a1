"""Memory that runs out in training: the batch is run in more parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size

from robustness.errors import RunError, first_line
from robustness.training.protocol import TrainingSettings
from robustness.victims.batches import recover_memory

T = TypeVar("T")


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory of the device, or of the CPU, has run out."""
    return isinstance(error, torch.OutOfMemoryError) or bool(should_reduce_batch_size(error))


def more_parts(settings: TrainingSettings) -> int | None:
    """Returns the next number of equal parts of a batch, at least twice as many; None if each has one row.

    >>> more_parts(TrainingSettings(batch_size=16, accumulation=2)), more_parts(TrainingSettings(batch_size=6))
    (4, 2)
    >>> more_parts(TrainingSettings(batch_size=6, accumulation=2)), more_parts(TrainingSettings(batch_size=1))
    (6, None)
    """
    larger = range(2 * settings.accumulation, settings.batch_size + 1)
    return next((parts for parts in larger if settings.batch_size % parts == 0), None)


def fit_memory(
    settings: TrainingSettings, attempt: Callable[[TrainingSettings], T], say: Callable[[str], None]
) -> tuple[TrainingSettings, T]:
    """Attempts with more and more parts of a batch until memory suffices.

    Every attempt starts anew, so its result is that of settings with this number of parts from the start.

    Args:
        settings: of the first attempt.
        attempt: with some settings, which differ only in `accumulation`.
        say: called with a line before each attempt but the first.

    Returns:
        The settings of the successful attempt, and its result.

    Raises:
        RunError: memory runs out with parts of one row.
    """
    while True:
        try:
            return settings, attempt(settings)
        except Exception as error:  # libraries raise several classes of errors without memory
            if not is_out_of_memory(error):
                raise
            reason = first_line(error)
        # Only here, because the exception holds the tensors of its frames.
        recover_memory()
        parts = more_parts(settings)
        if parts is None:
            raise RunError(
                f"memory runs out even if a batch is run in {settings.accumulation} parts of one row: {reason}; use "
                "--checkpointing, a smaller base, shorter texts, or a device with more memory"
            )
        rows = settings.batch_size // settings.accumulation
        say(f"memory runs out with {rows} rows at once; again from the start with {settings.batch_size // parts}")
        settings = replace(settings, accumulation=parts)
