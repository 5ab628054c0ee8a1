"""The metric of development rows for selecting checkpoints."""

from __future__ import annotations

from enum import StrEnum

from robustness.tasks.graders import grader_for
from robustness.tasks.task import Task


class Metric(StrEnum):
    """A mean over rows, between 0 and 1; the higher, the better."""

    ACCURACY = "accuracy"
    F1 = "f1"
    """F1 of an answer's words, by SQuAD v1.1's rules."""
    QUALITY = "quality"
    """Quality of a generated text, by its task's own metric."""

    @property
    def spelling(self) -> str:
        """Its spelling in sentences.

        >>> Metric.ACCURACY.spelling, Metric.F1.spelling
        ('accuracy', 'F1')
        """
        return "F1" if self is Metric.F1 else self.value


def selection_metric(task: Task) -> Metric:
    """Returns the metric that selects checkpoints of a task."""
    return Metric(grader_for(task).measure.lower())
