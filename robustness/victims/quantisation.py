"""What holding weights in 4 bit does to a checkpoint's answers, apart from its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustness.definitions.pairs import BasePrecision
from robustness.testsets.example import Example
from robustness.victims.batches import recover_memory
from robustness.victims.files.models import load_model
from robustness.victims.heads.head import Head
from robustness.victims.loading import LoadedCheckpoint, Placement, as_victim, load_checkpoint


@dataclass(frozen=True, slots=True)
class QuantisationEffect:
    """The answers of one checkpoint with weights in 4 bit against those in full precision."""

    n: int
    """Texts."""
    changed: float
    """Share of answers that differ in any character."""
    probability: float
    """Largest difference of the probability of a right answer; of generated text, of its mean token."""

    def describe(self) -> str:
        """Returns it in words.

        >>> QuantisationEffect(200, changed=0.015, probability=0.0625).describe()
        '0.015 of 200 answers change between weights in 4 bit and in full precision, a probability by up to 0.062'
        """
        return (
            f"{self.changed:.3f} of {self.n} answers change between weights in 4 bit and in full precision, a "
            f"probability by up to {self.probability:.3f}"
        )


def measure_quantisation(
    victim: Head, loaded: LoadedCheckpoint, placement: Placement, examples: Sequence[Example]
) -> QuantisationEffect | None:
    """Asks the same checkpoint in the other precision; returns None without examples.

    Of an adapter the base changes its precision, of a full checkpoint all weights but those of its head.

    Args:
        victim: the checkpoint as it is evaluated.
        loaded: its checkpoint.
        placement: its device and dtype.
        examples: examples that the victim has answered.

    Raises:
        CheckpointError: its weights cannot be held in 4 bit here.
    """
    if not examples:
        return None
    answers, probabilities = _answer(as_victim(loaded, victim.model, placement), examples)
    other, others = _answer(_in_other_precision(loaded, placement), examples)
    recover_memory()
    changed = sum(one != another for one, another in zip(answers, other, strict=True)) / len(examples)
    return QuantisationEffect(len(examples), changed, float(np.abs(probabilities - others).max()))


def _in_other_precision(loaded: LoadedCheckpoint, placement: Placement) -> Head:
    checkpoint = loaded.checkpoint
    if not checkpoint.is_adapter:
        labels: dict[str, Any] = loaded.kind.label_settings(len(loaded.task.labels))
        packed = load_model(checkpoint, checkpoint.folder, loaded.kind, four_bit=True, **labels)
        return as_victim(loaded, packed.model, placement)
    other = BasePrecision.FULL if checkpoint.is_on_four_bit else BasePrecision.FOUR_BIT
    moved = load_checkpoint(replace(checkpoint, base_precision=other), loaded.task)
    return as_victim(moved, moved.unmerged, placement)


def _answer(head: Head, examples: Sequence[Example]) -> tuple[list[str], NDArray[np.float64]]:
    rows = head.rows(examples)
    answers = [head.grader.grade(row, each).response for row, each in zip(rows, examples, strict=True)]
    return answers, np.exp(-head.grader.losses(rows, examples))
