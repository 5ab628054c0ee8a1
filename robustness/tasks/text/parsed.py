"""The parsed answer of a response."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from robustness.tasks.text.meaning import MeaningRepresentation

_SEPARATORS = re.compile(r"[,;\n]")


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """An answer in the form for comparison."""

    text: str
    """Canonical: two answers of one parser are equal if their texts are equal."""
    items: tuple[str, ...] = ()
    """Items of a list, in any order, for the metric of sets."""
    number: Fraction | None = None
    """None for an answer that is no number, or says that there is none."""
    meaning: MeaningRepresentation | None = None


class Parser(Protocol):
    """Reads the answer in a response, in one pass over its characters."""

    def parse(self, response: str) -> ParsedAnswer | None:
        """Returns the answer; None without an answer. Raises nothing for any response."""
        ...


def collapse(text: str) -> str:
    r"""Returns a text without surrounding blanks, and with single blanks inside.

    >>> collapse("  two \n words ")
    'two words'
    """
    return " ".join(text.split())


def split_items(pieces: Iterable[str]) -> tuple[str, ...]:
    """Returns the non-empty pieces, each collapsed.

    >>> split_items(["Nintendo", " ", " PC "])
    ('Nintendo', 'PC')
    """
    return tuple(filter(None, map(collapse, pieces)))


def as_text(text: str) -> ParsedAnswer | None:
    r"""Returns a text as an answer with items separated by commas, semicolons and line ends; None for a blank text.

    >>> as_text(" red,  green\n").items
    ('red', 'green')
    """
    collapsed = collapse(text)
    return ParsedAnswer(collapsed, split_items(_SEPARATORS.split(text))) if collapsed else None
