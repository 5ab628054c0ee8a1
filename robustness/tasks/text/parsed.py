"""What a parser has read in a response."""

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
    """An answer in the form in which answers are compared."""

    text: str
    """Canonical: two answers of one parser are the same where their texts are equal."""
    items: tuple[str, ...] = ()
    """Of an answer that is a list; whatever its order, for the metric of sets."""
    number: Fraction | None = None
    """None of what is no number, and of an answer that says that there is none."""
    meaning: MeaningRepresentation | None = None


class Parser(Protocol):
    """Reads the answer in a response, in one pass over its characters."""

    def parse(self, response: str) -> ParsedAnswer | None:
        """Returns the answer; None where the response has none. Raises nothing, whatever the response is."""
        ...


def collapse(text: str) -> str:
    r"""Returns a text without blanks around it, and with one blank in place of several.

    >>> collapse("  two \n words ")
    'two words'
    """
    return " ".join(text.split())


def split_items(pieces: Iterable[str]) -> tuple[str, ...]:
    """Returns the pieces that are not empty, each collapsed.

    >>> split_items(["Nintendo", " ", " PC "])
    ('Nintendo', 'PC')
    """
    return tuple(filter(None, map(collapse, pieces)))


def as_text(text: str) -> ParsedAnswer | None:
    r"""Returns a text as an answer, whose items stand between commas, semicolons and line ends; None of a blank one.

    >>> as_text(" red,  green\n").items
    ('red', 'green')
    """
    collapsed = collapse(text)
    return ParsedAnswer(collapsed, split_items(_SEPARATORS.split(text))) if collapsed else None
