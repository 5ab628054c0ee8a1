"""Lengthens perturbations that changed the response but left the answer right."""

from __future__ import annotations

from dataclasses import replace

import torch

from robustness.recipes.embedding.trial import EmbeddingResult
from robustness.victims.heads.embedded_batch import EmbeddedBatch

LENGTHS = (1.25, 1.5, 2.0, 3.0, 4.0)
"""Multiples of a perturbation at which to read the answer again."""
BISECTIONS = 3
"""Bisections between the last length with a right answer and the first with a wrong answer."""


def lengthen(batch: EmbeddedBatch, result: EmbeddingResult) -> EmbeddingResult:
    """Returns the result after lengthening each perturbation with a right answer until the answer is wrong.

    A row whose answer is right at every length counts as not found.
    """
    grades = batch.grades(batch.embeddings + result.delta) if result.found.any() else None
    if grades is None:
        return result
    delta, found = result.delta.clone(), result.found.clone()
    for row in result.found.nonzero().flatten():
        if grades[row].correct:
            length = _wrong_length(batch.select(row[None]), result.delta[row[None]])
            found[row] = length is not None
            delta[row] *= length or 1.0
    return replace(result, delta=delta, found=found)


def _wrong_length(batch: EmbeddedBatch, delta: torch.Tensor) -> float | None:
    wrong = next((length for length in LENGTHS if _is_wrong(batch, length * delta)), None)
    if wrong is None:
        return None
    right = max((length for length in LENGTHS if length < wrong), default=1.0)
    for _ in range(BISECTIONS):
        middle = (right + wrong) / 2
        right, wrong = (right, middle) if _is_wrong(batch, middle * delta) else (middle, wrong)
    return wrong


def _is_wrong(batch: EmbeddedBatch, delta: torch.Tensor) -> bool:
    grades = batch.grades(batch.embeddings + delta)
    return grades is not None and not grades[0].correct
