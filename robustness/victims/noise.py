"""The noise floor: the share of answers that change with irrelevant conditions, such as the batch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from robustness.testsets.example import Example
from robustness.victims.heads.head import Head
from robustness.victims.loading import LoadedCheckpoint, Placement, as_victim

OTHER_BATCH = 3
"""Batch size of the second answers; the first answers come from all texts at once."""
SAMPLES = {torch.float32: 16}
"""Texts asked about again in float32, where no answer should change."""
SAMPLE = 48
"""Texts asked about again otherwise, for an estimate of the share."""


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """Shares of answers that differ in any character when the same texts are asked about again."""

    n: int
    """Texts."""
    batch: float
    """At another batch size and in another order."""
    merge: float | None
    """With the unmerged adapter; None if nothing was merged."""

    @property
    def share(self) -> float:
        """The larger of the two; smaller differences between checkpoints have no meaning.

        >>> NoiseFloor(48, batch=0.125, merge=None).share
        0.125
        """
        return max(self.batch, self.merge or 0.0)

    def describe(self) -> str:
        """Returns it in words.

        >>> NoiseFloor(48, batch=0.125, merge=0.0).describe()
        '0.125 of 48 answers change with batch size and order, 0.000 with merging the adapter'
        """
        merge = "" if self.merge is None else f", {self.merge:.3f} with merging the adapter"
        return f"{self.batch:.3f} of {self.n} answers change with batch size and order{merge}"


def measure_noise(
    victim: Head, loaded: LoadedCheckpoint, placement: Placement, examples: Sequence[Example], *, merged: bool
) -> NoiseFloor | None:
    """Asks about a sample again with fresh heads; returns None without examples.

    Args:
        victim: the victim to compare.
        loaded: its checkpoint.
        placement: its device and dtype.
        examples: examples that the victim has answered, for an evenly spaced sample.
        merged: whether an adapter was merged into the victim's weights.
    """
    size = SAMPLES.get(placement.dtype, SAMPLE)
    sample = examples[:: max(1, len(examples) // size)][:size]
    if not sample:
        return None
    first = _answers(as_victim(loaded, victim.model, placement), sample, len(sample))
    again = _answers(as_victim(loaded, victim.model, placement), sample[::-1], OTHER_BATCH)[::-1]
    merge = None
    if merged:
        apart = as_victim(loaded, copy.deepcopy(loaded.unmerged), placement)
        merge = _share(first, _answers(apart, sample, len(sample)))
    return NoiseFloor(len(sample), _share(first, again), merge)


def _answers(head: Head, sample: Sequence[Example], together: int) -> list[str]:
    answers = []
    for start in range(0, len(sample), together):
        part = sample[start : start + together]
        rows = head.rows(part)
        answers += [head.grader.grade(row, example).response for row, example in zip(rows, part, strict=True)]
    return answers


def _share(first: Sequence[str], second: Sequence[str]) -> float:
    return sum(one != other for one, other in zip(first, second, strict=True)) / len(first)
