"""Spans that no attack may edit: fields, patterns, and the gold answers of a question."""

from __future__ import annotations

import re
from collections.abc import Sequence

from robustness.tasks.gold import GoldSpan
from robustness.tasks.patterns import find_pattern
from robustness.tasks.task import Task
from robustness.testsets.answer_kinds import NUMBER_WORDS
from robustness.testsets.example import Example, Span, Texts
from robustness.testsets.gold_places import united
from robustness.testsets.row_forms import ROW_FORMS

_FURTHER_TEXT = """
once twice thrice double doubled triple tripled quadruple quadrupled halve halved halves pair couple single
eleventh twelfth hundredth thousandth percent
"""
_DIGIT = r"[\p{Nd}\p{No}]"
_WORDS = "|".join(sorted({*NUMBER_WORDS, *_FURTHER_TEXT.split()}))
NUMBERS = rf"(?i){_DIGIT}(?:[.,/]?{_DIGIT})*+|\b(?:{_WORDS})s?\b"
"""Digits, signs such as \u00bd, and words for numbers."""


def find_protected(task: Task, texts: Texts, answers: Sequence[GoldSpan]) -> tuple[Span, ...]:
    """Returns the places that the task protects in one row, ascending; touching places are merged.

    Protects whole words. A row without protected spans costs nothing.

    >>> from robustness.tasks.task import Protected
    >>> task = Task("sums", ("text",), (), ("text",), protected=Protected(words=("eggs",), numbers=True))
    >>> text = "Twenty-five Eggs, twice as many"
    >>> [text[start:end] for _, start, end in find_protected(task, (text,), ())]
    ['Twenty-five', 'Eggs', 'twice']

    Args:
        task: defines the protected spans.
        texts: the row's texts, in the order of the task's fields.
        answers: gold answers.

    Raises:
        SlowPatternError: one of the task's patterns takes too long.
    """
    wanted = task.protected
    gold = ROW_FORMS[task.kind].find_gold(texts, answers) if wanted.answers else [[]] * len(texts)
    found: list[Span] = []
    for segment, (name, text) in enumerate(zip(task.fields, texts, strict=True)):
        patterns = [*wanted.patterns, *map(_whole_word, wanted.words), *([NUMBERS] if wanted.numbers else [])]
        bounds = [match.span() for pattern in patterns for match in find_pattern(pattern, text)]
        if name in wanted.fields:
            bounds.append((0, len(text)))
        bounds += gold[segment]
        if not bounds:
            continue
        words = [(start, end) for _, start, end in Example("", (text,), label=0).spans]
        bounds += [word for word in words for part in bounds if part[0] < word[1] and word[0] < part[1]]
        found += [(segment, start, end) for start, end in united(text, bounds)]
    return tuple(found)


def _whole_word(word: str) -> str:
    return rf"(?i)(?<!\w){re.escape(word)}(?!\w)"
