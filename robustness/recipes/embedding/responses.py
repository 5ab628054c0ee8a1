"""Finds that change a response, whose answer may be right still: what becomes of those."""

from __future__ import annotations

from dataclasses import replace

import torch

from robustness.recipes.embedding.trial import EmbeddingResult
from robustness.victims.heads.embedded_batch import EmbeddedBatch

LENGTHS = (1.25, 1.5, 2.0, 3.0, 4.0)
"""Multiples of a find at which its answer is looked at again."""
BISECTIONS = 3
"""Between the last length with a right answer and the first with a wrong one."""


def keep_wrong(batch: EmbeddedBatch, result: EmbeddingResult) -> EmbeddingResult:
    """Returns the result whose finds are those with a wrong answer: the rest is left standing."""
    grades = batch.grades(batch.embeddings + result.delta) if result.found.any() else None
    if grades is None:
        return result
    wrong = torch.tensor([not grade.correct for grade in grades], device=result.found.device)
    return replace(result, found=result.found & wrong)


def lengthen(batch: EmbeddedBatch, result: EmbeddingResult) -> EmbeddingResult:
    """Returns the result whose finds with a right answer are lengthened along their direction until it is wrong.

    Where it is right at every length, nothing is found.
    """
    judged = keep_wrong(batch, result)
    delta, found = result.delta.clone(), judged.found.clone()
    for row in (result.found & ~judged.found).nonzero().flatten():
        alone, short = batch.select(row[None]), result.delta[row[None]]
        wrong = next((length for length in LENGTHS if _is_wrong(alone, length * short)), None)
        if wrong is None:
            continue
        right = max((length for length in LENGTHS if length < wrong), default=1.0)
        for _ in range(BISECTIONS):
            middle = (right + wrong) / 2
            right, wrong = (right, middle) if _is_wrong(alone, middle * short) else (middle, wrong)
        delta[row], found[row] = wrong * short[0], True
    return judged if torch.equal(found, judged.found) else replace(judged, delta=delta, found=found)


def _is_wrong(batch: EmbeddedBatch, delta: torch.Tensor) -> bool:
    grades = batch.grades(batch.embeddings + delta)
    return grades is not None and not grades[0].correct
