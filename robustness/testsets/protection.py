"""What no attack may edit in a text: fields, patterns, and the gold answers of a question."""

from __future__ import annotations

import re
from collections.abc import Sequence

from robustness.tasks.gold import GoldSpan
from robustness.tasks.task import Task
from robustness.testsets.example import Example, Span, Texts
from robustness.testsets.gold_places import united
from robustness.testsets.row_forms import ROW_FORMS


def find_protected(task: Task, texts: Texts, answers: Sequence[GoldSpan]) -> tuple[Span, ...]:
    """Returns the places that the task protects in one row, ascending; those that touch are one.

    Words are protected as wholes. A row without anything to protect costs nothing.

    Args:
        task: says what is protected.
        texts: the row's, in the order of the task's fields.
        answers: gold ones.
    """
    wanted = task.protected
    gold = ROW_FORMS[task.kind].find_gold(texts, answers) if wanted.answers else [[]] * len(texts)
    found: list[Span] = []
    for segment, (name, text) in enumerate(zip(task.fields, texts, strict=True)):
        bounds = [match.span() for pattern in wanted.patterns for match in re.finditer(pattern, text)]
        if name in wanted.fields:
            bounds.append((0, len(text)))
        bounds += gold[segment]
        if not bounds:
            continue
        words = [(start, end) for _, start, end in Example("", (text,), label=0).spans]
        bounds += [word for word in words for part in bounds if part[0] < word[1] and word[0] < part[1]]
        found += [(segment, start, end) for start, end in united(text, bounds)]
    return tuple(found)
