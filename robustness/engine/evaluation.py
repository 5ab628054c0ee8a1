"""Evaluation of a test set as it stands: no search, one or two texts an example."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from robustness.engine.attack import Scorer
from robustness.engine.outcome import Outcome, Status
from robustness.engine.referee import (
    character_similarity,
    count_modified_words,
    label_problem,
    true_label_probability,
)
from robustness.testsets.example import Example

CHUNK = 512


def evaluate_examples(victim: Scorer, examples: Sequence[Example]) -> Iterator[Outcome]:
    """Yields one outcome for each example, in order.

    The row's own text counts as the adversarial one. Its clean form is the benign original where that is known;
    a clean test set is its own clean form. Where a clean form exists and is answered wrongly, the status is
    `skipped`; otherwise a wrong answer to the row is `succeeded` and a right one `failed`.
    """
    for start in range(0, len(examples), CHUNK):
        chunk = examples[start : start + CHUNK]
        texts = [example.texts for example in chunk]
        originals = [example.original for example in chunk if example.original is not None]
        started = time.perf_counter()
        rows = victim.scores([*texts, *originals])
        each = (time.perf_counter() - started) / len(rows)
        clean_rows = iter(rows[len(chunk) :])
        for example, row in zip(chunk, rows, strict=False):
            clean = next(clean_rows) if example.original is not None else None
            yield _outcome(example, row, clean, each)


def _outcome(
    example: Example, row: NDArray[np.float32], clean: NDArray[np.float32] | None, seconds: float
) -> Outcome:
    forwards = 1 if clean is None else 2
    known = example.original is not None
    problem = (
        label_problem(example.label, len(row))
        or label_problem(example.clean_label, len(row))
        or _not_finite(row, clean)
    )
    source = example.clean_form()
    return Outcome(
        example_id=example.id,
        group_id=example.group,
        label=example.label,
        status=Status.ERRORED if problem else _status(example, row, clean),
        clean_prediction=None if clean is None else _prediction(clean),
        adversarial_prediction=_prediction(row),
        clean_score=None if clean is None or problem else true_label_probability(clean, example.clean_label),
        score=None if problem else true_label_probability(row, example.label),
        queries=0,
        forwards=forwards,
        modified_words=count_modified_words(source, example) if known else None,
        modified_share=count_modified_words(source, example) / max(1, len(source.words)) if known else None,
        similarity=character_similarity(source.texts, example.texts) if known else None,
        seconds=seconds * forwards,
        original_text=example.original,
        adversarial_text=example.texts,
        error=problem,
        method=example.method or None,
        construction=example.construction or None,
        original_label=example.original_label,
    )


def _not_finite(row: NDArray[np.float32], clean: NDArray[np.float32] | None) -> str | None:
    rows = [row] if clean is None else [row, clean]
    return None if all(np.isfinite(each).all() for each in rows) else "the victim's scores are not finite"


def _prediction(row: NDArray[np.float32]) -> int | None:
    """The label; None of scores that are not numbers, whose largest would be the first such."""
    return int(row.argmax()) if np.isfinite(row).all() else None


def _status(example: Example, row: NDArray[np.float32], clean: NDArray[np.float32] | None) -> Status:
    if clean is not None and int(clean.argmax()) != example.clean_label:
        return Status.SKIPPED
    return Status.FAILED if int(row.argmax()) == example.label else Status.SUCCEEDED
