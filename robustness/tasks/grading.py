"""Grading: turns a model's row for a text into a loss, into right or wrong, and into a readable response.

A model gives one row of float32 numbers for a text: logits for a task with labels, `SpanRow` for a question. Attacks
see losses and whether an answer is right; reports see grades. Neither sees a row.
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
"""A model's rows for texts, shape (texts, numbers)."""


class Asked(Protocol):
    """A text and its gold; an Example is one."""

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
    """The grade of one response."""

    correct: bool
    quality: float
    """In [0, 1]: the probability of the gold label, or a span's F1."""
    response: str
    """A label's name, or the answer."""
    cut: bool | None = None
    """For a generated text: whether it was cut at the token limit."""


@dataclass(frozen=True, slots=True)
class StoredGrade:
    """A grade as stored in a run, with the text and its gold."""

    text: str
    """The last segment, which contains spans."""
    gold: str
    grade: Grade


@dataclass(frozen=True, slots=True)
class BlindAnswer:
    """The mean score of an answer that ignores the texts."""

    points: float
    measure: str
    """The averaged quantity, followed by a blank; empty: accuracy."""
    answer: str
    """How it is obtained."""


class Grader(Protocol):
    """Reads the rows of models for one kind of task."""

    @property
    def measure(self) -> str:
        """The measure of clean performance: accuracy, or F1."""
        ...

    @property
    def floor(self) -> str:
        """The answer that ignores the texts, in words."""
        ...

    def losses(self, rows: Rows, asked: Sequence[Asked]) -> NDArray[np.float64]:
        """Returns minus the log-probability of the gold, shape (texts,)."""
        ...

    def correct(self, rows: Rows, asked: Sequence[Asked]) -> NDArray[np.bool_]:
        """Returns which answers are right, shape (texts,)."""
        ...

    def problem(self, asked: Asked) -> str | None:
        """Returns why a text's gold cannot be answered, or None."""
        ...

    def points(self, rows: Rows, asked: Sequence[Asked]) -> NDArray[np.float64]:
        """Returns the measure of clean performance for each text, in [0, 1], shape (texts,)."""
        ...

    def blind_answer(self, asked: Sequence[Asked]) -> BlindAnswer:
        """Returns the floor that a trained model must exceed."""
        ...

    def grade(self, row: NDArray[np.float32], asked: Asked) -> Grade:
        """Returns the grade of one answer."""
        ...

    def gold(self, asked: Asked) -> str:
        """Returns the gold in readable form."""
        ...

    def generated(self, row: NDArray[np.float32]) -> int | None:
        """Returns the number of tokens decoded for a row; None if nothing is ever decoded."""
        ...

    def differ(self, known: NDArray[np.float32], fresh: NDArray[np.float32], tolerance: float) -> bool:
        """Returns whether two rows of the same question differ by more than rounding.

        Args:
            known: the first row.
            fresh: the second one.
            tolerance: the share by which a number may move.
        """
        ...

    def contradiction(self, row: NDArray[np.float32], stored: StoredGrade, tolerance: float) -> str | None:
        """Returns how one answer differs from the stored answer to the same text, or None.

        Args:
            row: the model's current row for the text.
            stored: the stored grade.
            tolerance: how far a probability may move.
        """
        ...


@final
@dataclass(frozen=True, slots=True)
class LabelGrader:
    """Reads rows of logits: the largest is the answer, the first among equals.

    >>> grader = LabelGrader(("negative", "positive"))
    >>> asked = GradedText(("a fine film",), label=1)
    >>> grader.grade(np.zeros(2, dtype=np.float32), asked)
    Grade(correct=False, quality=0.5, response='negative', cut=None)
    """

    labels: tuple[str, ...]
    """Names, in the order of the row."""
    measure: ClassVar[str] = "accuracy"
    """The measure of clean performance."""
    floor: ClassVar[str] = "majority class"
    """The answer that ignores the texts."""

    def losses(self, rows: Rows, asked: Sequence[Asked]) -> NDArray[np.float64]:
        """Returns minus the log-softmax at the gold label, shape (texts,)."""
        return -log_probabilities(rows)[np.arange(len(rows)), _labels_of(asked)]

    def correct(self, rows: Rows, asked: Sequence[Asked]) -> NDArray[np.bool_]:
        """Returns whether the gold label's logit is the first of the largest, shape (texts,)."""
        return np.asarray(rows.argmax(axis=1) == _labels_of(asked))

    def problem(self, asked: Asked) -> str | None:
        """Returns a message if the head lacks the gold label, or None.

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
        """Returns the share of the most frequent label."""
        counts = np.bincount(_labels_of(asked))
        return BlindAnswer(float(counts.max() / counts.sum()), "", "the majority class")

    def grade(self, row: NDArray[np.float32], asked: Asked) -> Grade:
        """Returns the answered label; its quality is the probability of the gold label."""
        answered = int(row.argmax())
        quality = float(np.exp(log_probabilities(row[None])[0, asked.label]))
        return Grade(answered == asked.label, quality, self.labels[answered])

    def gold(self, asked: Asked) -> str:
        """Returns the gold label's name, or its number if the head lacks it."""
        return str(asked.label) if self.problem(asked) else self.labels[asked.label]

    def generated(self, row: NDArray[np.float32]) -> int | None:
        """Returns None: nothing is decoded."""
        del row
        return None

    def differ(self, known: NDArray[np.float32], fresh: NDArray[np.float32], tolerance: float) -> bool:
        """Returns whether a logit moved by more than a share of the largest of its row (at least 1)."""
        return bool(np.abs(known - fresh).max() > tolerance * max(1.0, float(np.abs(fresh).max())))

    def contradiction(self, row: NDArray[np.float32], stored: StoredGrade, tolerance: float) -> str | None:
        """Returns a message if the label or the gold label's probability differs; a tie may break either way."""
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
    """The answer's first character in the paragraph; whole numbers below 2^24 are exact in float32."""
    END = 2
    """After its last character."""


@final
@dataclass(frozen=True, slots=True)
class SpanGrader:
    """Reads rows of `SpanRow`: right is an exact match by SQuAD's rules.

    >>> asked = GradedText(("Who won?", "Denver won."), answers=(GoldSpan("Denver", 0),))
    >>> SpanGrader().grade(np.array([0.1, 0, 6], dtype=np.float32), asked)
    Grade(correct=True, quality=1.0, response='Denver', cut=None)
    """

    measure: ClassVar[str] = "F1"
    """The measure of clean performance."""
    floor: ClassVar[str] = "the whole paragraph as answer"
    """The answer that ignores the questions."""

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
        """Returns the answered span, with its F1."""
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
        """Returns whether the span differs, or the loss moved by more than a share of itself (at least 1)."""
        loss = abs(float(known[SpanRow.LOSS] - fresh[SpanRow.LOSS]))
        is_other = not np.array_equal(known[SpanRow.START :], fresh[SpanRow.START :])
        return is_other or loss > tolerance * max(1.0, abs(float(fresh[SpanRow.LOSS])))

    def contradiction(self, row: NDArray[np.float32], stored: StoredGrade, tolerance: float) -> str | None:
        """Returns a message if the span differs, or None; a run stores only the first gold answer."""
        del tolerance
        answer = _span(row, stored.text)
        return (
            None if answer == stored.grade.response else f"answers {answer!r}; the run says {stored.grade.response!r}"
        )


@dataclass(frozen=True, slots=True)
class GradedText:
    """The smallest probability that can be graded."""

    texts: tuple[str, ...]
    label: int = 1
    answers: tuple[GoldSpan, ...] = ()


def log_probabilities(rows: Rows) -> NDArray[np.float64]:
    """Log-softmax in double precision, shape (n, labels): keeps the order of probabilities that round to 1."""
    logits = rows.astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def grade_finite(grader: Grader, row: NDArray[np.float32], asked: Asked) -> Grade | None:
    """Returns one answer's grade; None for a row without numbers, or if no answer could be right."""
    return grader.grade(row, asked) if np.isfinite(row).all() and grader.problem(asked) is None else None


def _span(row: NDArray[np.float32], text: str) -> str:
    return text[int(row[SpanRow.START]) : int(row[SpanRow.END])]


def _labels_of(asked: Sequence[Asked]) -> NDArray[np.int64]:
    return np.array([each.label for each in asked], dtype=np.int64)
