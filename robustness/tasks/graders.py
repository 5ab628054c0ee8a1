"""The grader of each kind of task."""

from __future__ import annotations

from robustness.tasks.grading import Grader, LabelGrader, SpanGrader
from robustness.tasks.task import Task, TaskKind
from robustness.tasks.text.grading import TextGrader


def grader_for(task: Task) -> Grader:
    """Returns what reads the rows of a task's models."""
    if task.kind is TaskKind.TEXT:
        assert task.answer is not None, "a definition without it is refused"
        return TextGrader(task.answer)
    return SpanGrader() if task.kind is TaskKind.SPAN else LabelGrader(task.labels)
