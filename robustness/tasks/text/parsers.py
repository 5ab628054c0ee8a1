"""Parsers by name: which part of a response is its answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

from robustness.tasks.patterns import find_pattern
from robustness.tasks.text.meaning import parse_meaning
from robustness.tasks.text.numbers import NumberParser
from robustness.tasks.text.parsed import ParsedAnswer, Parser, as_text

_OPENING = re.compile(r"[\[{]")
EXACT_FLOAT = 2.0**53
"""Below this a whole float equals the whole number."""


@final
@dataclass(frozen=True, slots=True)
class WholeParser:
    r"""The whole response, without surrounding blanks.

    >>> WholeParser().parse(" red,  green\n").items
    ('red', 'green')
    """

    def parse(self, response: str) -> ParsedAnswer | None:
        """Returns the response; None if it is blank."""
        return as_text(response)


@final
@dataclass(frozen=True, slots=True)
class MarkerParser:
    r"""The text after the first marker, to the end of its line.

    >>> MarkerParser("Answer:").parse("Paris is large. Answer: Paris\nNext question").text
    'Paris'
    """

    marker: str

    def parse(self, response: str) -> ParsedAnswer | None:
        """Returns the answer; None without a marker, or without text after it."""
        _, found, behind = response.partition(self.marker)
        line = behind.lstrip().partition("\n")[0]
        return as_text(line) if found else None


@final
@dataclass(frozen=True, slots=True)
class RegexParser:
    """The first match of a regular expression's first group, or the whole match without a group.

    An expression that takes seconds on a response gives no answer: `find_pattern` says why.

    >>> RegexParser("[(]([A-D])[)]").parse("It is (B), not (C).").text
    'B'
    """

    pattern: str

    def parse(self, response: str) -> ParsedAnswer | None:
        """Returns the answer; None without a match."""
        match = next(find_pattern(self.pattern, response), None)
        if match is None:
            return None
        return as_text((match[1] if match.re.groups else match[0]) or "")


@final
@dataclass(frozen=True, slots=True)
class JsonParser:
    """The JSON value of a response: all of it, or the value at its first bracket or brace.

    Comparison ignores the order of an object's keys, and 18.0 equals 18.

    >>> JsonParser().parse('Sure: {"b": [1, 2.0], "a": null} is it').text
    '{"a": null, "b": [1, 2]}'
    """

    def parse(self, response: str) -> ParsedAnswer | None:
        """Returns the value; None without a value, or if it is nested too deeply."""
        text = response.strip()
        opening = _OPENING.search(text)
        # Tries each once: trying at every bracket would take quadratic time.
        for start in (0, opening.start() if opening else 0):
            try:
                value, end = _DECODER.raw_decode(text, start)
                if text[start] not in "[{" and end < len(text):  # "5 of them" is not the number 5
                    continue
                canonical = json.dumps(value, sort_keys=True)
                items = value if isinstance(value, list) else [value]
                return ParsedAnswer(canonical, tuple(json.dumps(item, sort_keys=True) for item in items))
            except (ValueError, RecursionError):
                continue
        return None


@final
@dataclass(frozen=True, slots=True)
class MeaningParser:
    """The whole response as a meaning representation.

    >>> MeaningParser().parse("request(genres[], rating[good])").text
    'request(genres[], rating[good])'
    """

    def parse(self, response: str) -> ParsedAnswer | None:
        """Returns it with sorted slots; None for any other text."""
        meaning = parse_meaning(response)
        if meaning is None:
            return None
        return ParsedAnswer(str(meaning), tuple(map(str, meaning.slots)), meaning=meaning)


PARSERS: Mapping[str, type[Parser]] = MappingProxyType(
    {
        "number": NumberParser,
        "after-marker": MarkerParser,
        "regex": RegexParser,
        "whole": WholeParser,
        "json": JsonParser,
        "meaning-representation": MeaningParser,
    }
)
"""By name in task files; the constructor defines a parser's options."""


def _read_float(text: str) -> float | int:
    number = float(text)
    if abs(number) == float("inf"):
        raise ValueError(f"{text} is beyond what a number can be")
    return int(number) if number.is_integer() and abs(number) < EXACT_FLOAT else number


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


_DECODER = json.JSONDecoder(parse_float=_read_float, parse_constant=_refuse_constant)
