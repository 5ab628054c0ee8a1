"""The conformance suite for tasks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robustness.definitions.tasks import find_task, shipped_tasks
from robustness.errors import DefinitionError
from robustness.tasks.grading import LabelGrader
from robustness.tasks.task import Chat, Task
from robustness.testsets.task_checks import check_task

MINE = Task("mine", ("text",), ("good", "bad"), ("text",), template="{text}:", verbalisers=(" good", " bad"))


@pytest.mark.parametrize("task", shipped_tasks(), ids=lambda task: task.name)
def test_every_shipped_task_keeps_the_rules(task: Task) -> None:
    check_task(task)


@pytest.mark.parametrize(
    "labels",
    [
        ("1", "2", "3", "4", "5"),
        ("плохо", "хорошо"),
        ('a "b"', "c,d", "e\tf"),
        ("[x]", "y"),
        (" good ", "bad"),
        ("1.0", "2.0"),
        ("1", "0"),
    ],
)
def test_labels_of_any_spelling_keep_the_rules(labels: tuple[str, ...]) -> None:
    check_task(replace(MINE, labels=labels, template="", verbalisers=()))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"labels": ("good", "Good!")}, "task mine: labels: 'good' equals another label except for case and signs;"),
        ({"template": "Text:"}, "task mine: template: lacks the field {text}; use every field of the task"),
        ({"verbalisers": (" good", "good ")}, "task mine: verbalisers: 'good' stands for two labels; give"),
        ({"chat": Chat("{text}")}, "task mine: template and [chat] are two prompts; keep one"),
        ({"attacked": ("txt",)}, "task mine: attacked: unknown field 'txt'; did you mean 'text'?"),
        ({"labels": ("1", "2"), "aliases": (("1", "2"),)}, "task mine: aliases: '1' is a label itself; it cannot"),
    ],
)  # fmt: skip
def test_a_task_that_breaks_a_rule_is_told_which(change: dict[str, object], expected: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        check_task(replace(MINE, **change))  # type: ignore[arg-type]

    assert str(caught.value).startswith(expected)


def test_a_span_tasks_answers_are_graded_and_protected() -> None:
    check_task(find_task("squad"))
    with pytest.raises(DefinitionError, match='kind = "span" reads two fields'):
        check_task(replace(find_task("squad"), fields=("a", "b", "c"), attacked=("c",)))


def test_grades_that_depend_on_what_is_graded_beside_them_break_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LabelGrader, "losses", lambda _, rows, __: np.arange(len(rows), dtype=np.float64))

    with pytest.raises(DefinitionError, match="mood: answers get other grades in a batch"):
        check_task(Task("mood", ("text",), ("sad", "glad"), ("text",)))
