"""The grader of each kind of task, with answers whose grades are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from robustness.tasks.gold import GoldSpan
from robustness.tasks.grading import GradedText, Grader, LabelGrader, Rows, SpanGrader, SpanRow
from robustness.tasks.task import Task, TaskKind
from robustness.tasks.text.grading import TextGrader

SURE = 40.0
"""A logit so far above the others that their probability is rounding error."""


@dataclass(frozen=True, slots=True)
class KnownAnswers:
    """Rows of a model, and the result required from any grader of their task."""

    rows: Rows
    asked: tuple[GradedText, ...]
    right: float
    """Share of right answers."""
    quality: float
    """Mean quality."""


def grader_for(task: Task) -> Grader:
    """Returns the grader of a task."""
    return _GRADING[task.kind].grader(task)


def known_answers(task: Task, text: str) -> Iterator[KnownAnswers]:
    """Yields gold and empty answers to made-up texts; nothing for free text, whose gold only a test set has.

    Args:
        task: with labels, or of questions.
        text: the content of the fields of a task with labels.
    """
    yield from _GRADING[task.kind].known(task, text)


def _text_grader(task: Task) -> TextGrader:
    assert task.answer is not None, "a definition without it is refused"
    return TextGrader(task.answer)


def _known_labels(task: Task, text: str) -> Iterator[KnownAnswers]:
    n = len(task.labels)
    asked = tuple(GradedText((text,) * len(task.fields), label) for label in range(n))
    yield KnownAnswers(np.eye(n, dtype=np.float32) * SURE, asked, right=1.0, quality=1.0)
    # All logits are equal: the first label is the answer, and all have the same probability.
    yield KnownAnswers(np.zeros((n, n), dtype=np.float32), asked, right=1 / n, quality=1 / n)


def _known_spans(_task: Task, _text: str) -> Iterator[KnownAnswers]:
    context = "Rome won. Then Rome lost."
    asked = tuple(GradedText(("Who won?", context), answers=(GoldSpan("Rome", start),)) for start in (0, 15))
    gold, empty = np.zeros((2, len(SpanRow)), dtype=np.float32), np.zeros((2, len(SpanRow)), dtype=np.float32)
    gold[:, SpanRow.START], gold[:, SpanRow.END] = (0, 15), (4, 19)
    yield KnownAnswers(gold, asked, right=1.0, quality=1.0)
    yield KnownAnswers(empty, asked, right=0.0, quality=0.0)


@dataclass(frozen=True, slots=True)
class _Grading:
    grader: Callable[[Task], Grader]
    known: Callable[[Task, str], Iterator[KnownAnswers]]


_GRADING: Mapping[TaskKind, _Grading] = {
    TaskKind.LABELS: _Grading(lambda task: LabelGrader(task.labels), _known_labels),
    TaskKind.SPAN: _Grading(lambda _: SpanGrader(), _known_spans),
    TaskKind.TEXT: _Grading(_text_grader, lambda _task, _text: iter(())),
}
