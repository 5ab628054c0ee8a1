"""Evaluates an unchanged test set, without search: one or two texts for each example."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from robustness.engine.outcome import Answered, Outcome, Problem, Spent, Status
from robustness.tasks.gold import GoldSpan
from robustness.tasks.grading import Grade, Grader, Rows, grade_finite
from robustness.testsets.example import Example, Texts

CHUNK = 512
NOT_FINITE = "the victim's scores are not finite"

_Asked: TypeAlias = tuple[Texts, tuple[GoldSpan, ...]]
"""Everything that a row depends on."""
_Known: TypeAlias = Mapping[_Asked, NDArray[np.float32]]


class Answering(Protocol):
    """What evaluation needs of a victim."""

    @property
    def grader(self) -> Grader:
        """Reads its rows."""
        ...

    def rows(self, asked: Sequence[Example]) -> Rows:
        """Returns what the model gives for each example, shape (len(asked), numbers)."""
        ...


def evaluate(victim: Answering, examples: Sequence[Example]) -> Iterator[Outcome]:
    """Yields one outcome for each example, in order.

    The row's own text counts as the adversarial text. Its clean text is the benign original, if the test set has one.
    Each original is evaluated once for all its rows. A wrong answer to the original gives `skipped`. Otherwise a
    wrong answer to the row gives `succeeded`, and a right answer `failed`.
    """
    known: dict[_Asked, NDArray[np.float32]] = {}
    last_wanted = {_key(form): index for index, example in enumerate(examples) for form in _forms(example)}
    for start in range(0, len(examples), CHUNK):
        chunk = examples[start : start + CHUNK]
        originals = [example.clean_form() for example in chunk if example.original is not None]
        new = {key: form for form in (*chunk, *originals) if (key := _key(form)) not in known}
        started = time.perf_counter()
        known |= zip(new, victim.rows(list(new.values())) if new else (), strict=True)
        each = (time.perf_counter() - started) / max(1, len(new))
        unpaid = set(new)
        for example in chunk:
            mine = {_key(form) for form in _forms(example)}
            paid = mine & unpaid
            unpaid -= mine
            spent = Spent(forwards=len(paid), seconds=each * len(paid))
            spent = spent.with_generated(victim.grader.generated(known[key]) for key in paid)
            yield _outcome(victim.grader, example, known, spent)
        known = {key: row for key, row in known.items() if last_wanted[key] >= start + CHUNK}


def _forms(example: Example) -> tuple[Example, ...]:
    """The row and, where it is known, its original."""
    return (example,) if example.original is None else (example, example.clean_form())


def _key(form: Example) -> _Asked:
    return form.texts, form.answers


def _outcome(grader: Grader, example: Example, known: _Known, spent: Spent) -> Outcome:
    forms = _forms(example)
    rows = [known[_key(form)] for form in forms]
    given, *clean = (Answered(form, grade_finite(grader, row, form)) for form, row in zip(forms, rows, strict=True))
    problems = [grader.problem(form) for form in forms]
    problems += [None if np.isfinite(row).all() else NOT_FINITE for row in rows]
    reason = next(filter(None, problems), None)
    outcome = Outcome.of(
        example,
        grader.gold(example),
        _status(*(each.grade for each in (given, *clean))) if reason is None else Problem(reason),
        clean=clean[0] if clean else Answered(None, None),
        given=given,
        spent=spent,
    )
    has_own = example.original_label is not None or bool(example.original_answers)
    return describe_source(outcome, example, grader.gold(example.clean_form()) if has_own else None)


def _status(given: Grade | None, clean: Grade | None = None) -> Status:
    if clean is not None and not clean.correct:
        return Status.SKIPPED
    return Status.FAILED if given is not None and given.correct else Status.SUCCEEDED


def describe_source(outcome: Outcome, example: Example, original_gold: str | None = None) -> Outcome:
    """Returns the outcome with the construction of its ready-made text and the gold of its original."""
    return replace(
        outcome,
        method=example.method or None,
        construction=example.construction or None,
        original_gold=original_gold,
        label_entropy=example.label_entropy,
    )
