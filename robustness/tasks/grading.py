"""Grading: from what a model gives for a text to a loss, to right or wrong, and to a response that people read.

What a model gives for one text is a row of numbers, float32: of a task with labels its logits, of a question
`SpanRow`. Attacks see losses and whether an answer is right, reports see grades; neither sees a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Protocol, final

import numpy as np
from numpy.typing import NDArray

from robustness.tasks.answer_scores import score_answer
from robustness.tasks.gold import GoldSpan

Rows = NDArray[np.float32]
"""What a model gives for texts, shape (texts, numbers)."""


class Asked(Protocol):
    """A text with what is right of it; an Example is one."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Segments."""
        ...

    @property
    def label(self) -> int:
        """Index into the task's labels."""
        ...

    @property
    def answers(self) -> Sequence[GoldSpan]:
        """Gold answers of a question."""
        ...


@dataclass(frozen=True, slots=True)
class Grade:
    """How right one response is."""

    correct: bool
    quality: float
    """In [0, 1]: of labels the probability of the gold label, of a span its F1."""
    response: str
    """A label's name, or the answer."""
    cut: bool | None = None
    """Of a generated text: whether it was still going on at the token limit."""


@dataclass(frozen=True, slots=True)
class StoredGrade:
    """A grade as a run keeps it, with the text and what is right of it."""

    text: str
    """The last segment, which a span is of."""
    gold: str
    grade: Grade


@dataclass(frozen=True, slots=True)
class BlindAnswer:
    """What an answer scores on average that knows nothing of the texts."""

    points: float
    measure: str
    """What is averaged, with a blank behind it; empty: how often the answer is right."""
    answer: str
    """How it is come by."""


class Grader(Protocol):
    """Reads the rows that one kind of task's models give."""

    @property
    def measure(self) -> str:
        """By what clean performance goes: accuracy, or F1."""
        ...

    @property
    def floor(self) -> str:
        """What answers without reading a text, in words."""
        ...

    def losses(self, rows: Rows, asked: Sequence[Asked]) -> NDArray[np.float64]:
        """Returns minus the log-probability of what is right, shape (texts,)."""
        ...

    def correct(self, rows: Rows, asked: Sequence[Asked]) -> NDArray[np.bool_]:
        """Returns which answers are right, shape (texts,)."""
        ...

    def problem(self, asked: Asked) -> str | None:
        """Returns why what is right of a text cannot be answered, or None."""
        ...

    def points(self, rows: Rows, asked: Sequence[Asked]) -> NDArray[np.float64]:
        """Returns what is averaged to see whether a model has learnt its task, each in [0, 1], shape (texts,)."""
        ...

    def blind_answer(self, asked: Sequence[Asked]) -> BlindAnswer:
        """Returns what a model must beat that has learnt its task."""
        ...

    def grade(self, row: NDArray[np.float32], asked: Asked) -> Grade:
        """Returns how right one answer is."""
        ...

    def gold(self, asked: Asked) -> str:
        """Returns what is right, as people read it."""
        ...

    def generated(self, row: NDArray[np.float32]) -> int | None:
        """Returns how many tokens were decoded for a row; None where nothing ever is."""
        ...

    def differ(self, known: NDArray[np.float32], fresh: NDArray[np.float32], tolerance: float) -> bool:
        """Returns whether two rows of what was asked twice differ by more than rounding explains.

        Args:
            known: the first row.
            fresh: the second one.
            tolerance: the share by which a number may move.
        """
        ...

    def contradiction(self, row: NDArray[np.float32], stored: StoredGrade, tolerance: float) -> str | None:
        """Returns how one answer differs from what was stored of the same text, or None.

        Args:
            row: what the model gives for the text now.
            stored: what it was graded as then.
            tolerance: how far a probability may move.
        """
        ...


@final
@dataclass(frozen=True, slots=True)
class LabelGrader:
    """Of rows of logits: the largest is the answer, and of equals the first.

    >>> grader = LabelGrader(("negative", "positive"))
    >>> asked = GradedText(("a fine film",), label=1)
    >>> grader.grade(np.zeros(2, dtype=np.float32), asked)
    Grade(correct=False, quality=0.5, response='negative', cut=None)
    """

    labels: tuple[str, ...]
    """Names, in the order of the row."""
    measure: ClassVar[str] = "accuracy"
    """By what clean performance goes."""
    floor: ClassVar[str] = "majority class"
    """What answers without reading a text."""

    def losses(self, rows: Rows, asked: Sequence[Asked]) -> NDArray[np.float64]:
        """Returns minus the log-softmax at the gold label, shape (texts,)."""
        return -log_probabilities(rows)[np.arange(len(rows)), _labels_of(asked)]

    def correct(self, rows: Rows, asked: Sequence[Asked]) -> NDArray[np.bool_]:
        """Returns where the gold label's logit is the first of the largest, shape (texts,)."""
        return np.asarray(rows.argmax(axis=1) == _labels_of(asked))

    def problem(self, asked: Asked) -> str | None:
        """Returns that the gold label is not one of the head's, or None.

        >>> LabelGrader(("negative", "positive")).problem(GradedText(("a fine film",), label=7))
        "label 7 is outside the head's range: it has labels 0 to 1; mend the test set"
        """
        if 0 <= asked.label < len(self.labels):
            return None
        largest = len(self.labels) - 1
        return f"label {asked.label} is outside the head's range: it has labels 0 to {largest}; mend the test set"

    def points(self, rows: Rows, asked: Sequence[Asked]) -> NDArray[np.float64]:
        """Returns 1 where the answer is right, shape (texts,)."""
        return self.correct(rows, asked).astype(np.float64)

    def blind_answer(self, asked: Sequence[Asked]) -> BlindAnswer:
        """Returns how often the most frequent label is right."""
        counts = np.bincount(_labels_of(asked))
        return BlindAnswer(float(counts.max() / counts.sum()), "", "the majority class")

    def grade(self, row: NDArray[np.float32], asked: Asked) -> Grade:
        """Returns the label that is answered; its quality is the probability of the gold one."""
        answered = int(row.argmax())
        quality = float(np.exp(log_probabilities(row[None])[0, asked.label]))
        return Grade(answered == asked.label, quality, self.labels[answered])

    def gold(self, asked: Asked) -> str:
        """Returns the gold label's name, or its number where the head has no such label."""
        return str(asked.label) if self.problem(asked) else self.labels[asked.label]

    def generated(self, row: NDArray[np.float32]) -> int | None:
        """Returns None: nothing is decoded."""
        del row
        return None

    def differ(self, known: NDArray[np.float32], fresh: NDArray[np.float32], tolerance: float) -> bool:
        """Returns whether a logit moved by more than a share of the largest of its row (at least 1)."""
        return bool(np.abs(known - fresh).max() > tolerance * max(1.0, float(np.abs(fresh).max())))

    def contradiction(self, row: NDArray[np.float32], stored: StoredGrade, tolerance: float) -> str | None:
        """Returns that the label, or the gold label's probability, is another; a tie may fall either way."""
        then = stored.grade
        if not {stored.gold, then.response} <= set(self.labels):
            return (
                f"stored with answer {then.response} for gold {stored.gold}; the labels are {', '.join(self.labels)}"
            )
        if then.correct != (then.response == stored.gold):
            return (
                f"stored as {'right' if then.correct else 'wrong'} with answer {then.response} for gold {stored.gold}"
            )
        probabilities = np.exp(log_probabilities(row[None])[0])
        quality = float(probabilities[self.labels.index(stored.gold)])
        lead = probabilities.max() - probabilities[self.labels.index(then.response)]
        if lead <= tolerance and math.isclose(quality, then.quality, rel_tol=0, abs_tol=tolerance):
            return None
        return (
            f"answers {self.labels[int(row.argmax())]} with probability {quality:.4f} of the gold label; the run "
            f"says {then.response} with {then.quality:.4f}"
        )


class SpanRow(IntEnum):
    """Places in the row of a question."""

    LOSS = 0
    """Minus the log of the summed probability of the gold spans."""
    START = 1
    """Of the answer: its first character in the paragraph; whole numbers below 2^24 are exact in float32."""
    END = 2
    """Behind its last character."""


@final
@dataclass(frozen=True, slots=True)
class SpanGrader:
    """Of rows of `SpanRow`: right is an exact match by SQuAD's rules.

    >>> asked = GradedText(("Who won?", "Denver won."), answers=(GoldSpan("Denver", 0),))
    >>> SpanGrader().grade(np.array([0.1, 0, 6], dtype=np.float32), asked)
    Grade(correct=True, quality=1.0, response='Denver', cut=None)
    """

    measure: ClassVar[str] = "F1"
    """By what clean performance goes."""
    floor: ClassVar[str] = "the whole paragraph as answer"
    """What answers without reading a question."""

    def losses(self, rows: Rows, asked: Sequence[Asked]) -> NDArray[np.float64]:
        """Returns the rows' losses, shape (texts,)."""
        del asked
        return rows[:, SpanRow.LOSS].astype(np.float64)

    def correct(self, rows: Rows, asked: Sequence[Asked]) -> NDArray[np.bool_]:
        """Returns which answers match a gold answer exactly, shape (texts,)."""
        return np.array([self.grade(row, each).correct for row, each in zip(rows, asked, strict=True)], dtype=bool)

    def problem(self, asked: Asked) -> str | None:
        """Returns None: any text may be a gold answer."""
        del asked
        return None

    def points(self, rows: Rows, asked: Sequence[Asked]) -> NDArray[np.float64]:
        """Returns the answers' F1, shape (texts,)."""
        return np.array([self.grade(row, each).quality for row, each in zip(rows, asked, strict=True)])

    def blind_answer(self, asked: Sequence[Asked]) -> BlindAnswer:
        """Returns the mean F1 of the whole paragraph."""
        f1 = [score_answer(each.texts[-1], each.answers).f1 for each in asked]
        return BlindAnswer(float(np.mean(f1)), "F1 ", "answering with the whole paragraph")

    def grade(self, row: NDArray[np.float32], asked: Asked) -> Grade:
        """Returns the span that is answered, with its F1."""
        answer = _span(row, asked.texts[-1])
        score = score_answer(answer, asked.answers)
        return Grade(score.exact_match == 1, score.f1, answer)

    def gold(self, asked: Asked) -> str:
        """Returns the first gold answer's text."""
        return asked.answers[0].text

    def generated(self, row: NDArray[np.float32]) -> int | None:
        """Returns None: nothing is decoded."""
        del row
        return None

    def differ(self, known: NDArray[np.float32], fresh: NDArray[np.float32], tolerance: float) -> bool:
        """Returns whether another span is answered, or the loss moved by more than a share of itself (at least 1)."""
        loss = abs(float(known[SpanRow.LOSS] - fresh[SpanRow.LOSS]))
        is_other = not np.array_equal(known[SpanRow.START :], fresh[SpanRow.START :])
        return is_other or loss > tolerance * max(1.0, abs(float(fresh[SpanRow.LOSS])))

    def contradiction(self, row: NDArray[np.float32], stored: StoredGrade, tolerance: float) -> str | None:
        """Returns that another span is answered, or None; of the gold answers a run keeps the first alone."""
        del tolerance
        answer = _span(row, stored.text)
        return (
            None if answer == stored.grade.response else f"answers {answer!r}; the run says {stored.grade.response!r}"
        )


@dataclass(frozen=True, slots=True)
class GradedText:
    """The least that can be graded."""

    texts: tuple[str, ...]
    label: int = 1
    answers: tuple[GoldSpan, ...] = ()


def log_probabilities(rows: Rows) -> NDArray[np.float64]:
    """Log-softmax in double precision, shape (n, labels): order survives where probabilities round to 1."""
    logits = rows.astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def grade_finite(grader: Grader, row: NDArray[np.float32], asked: Asked) -> Grade | None:
    """Returns how right one answer is; None of a row that is no numbers, or where no answer could be right."""
    return grader.grade(row, asked) if np.isfinite(row).all() and grader.problem(asked) is None else None


def _span(row: NDArray[np.float32], text: str) -> str:
    return text[int(row[SpanRow.START]) : int(row[SpanRow.END])]


def _labels_of(asked: Sequence[Asked]) -> NDArray[np.int64]:
    return np.array([each.label for each in asked], dtype=np.int64)
