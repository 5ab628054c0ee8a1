"""Users' regular expressions: every search has a time limit."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import lru_cache

import regex

SECONDS = 2.0
"""For one text; a pattern without nested repetitions takes microseconds."""
MOST_REPETITIONS = 100_000
"""The library expands counted repetitions: more would take seconds and then all memory to compile."""
_COUNT = re.compile(r"\{(\d{1,9})")


class SlowPatternError(ValueError):
    """A pattern has taken too long on a text; only this text has no answer."""


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> regex.Pattern[str]:
    """Returns a pattern ready for use.

    Raises:
        ValueError: it is no regular expression, or is too large; the message says why.
    """
    if math.prod(max(1, int(count)) for count in _COUNT.findall(pattern)) > MOST_REPETITIONS:
        raise ValueError(f"its counted repetitions multiply to more than {MOST_REPETITIONS:,}; write fewer")
    try:
        return regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError) as error:
        raise ValueError(f"is no regular expression: {error}") from None


def find_pattern(pattern: str, text: str) -> Iterator[regex.Match[str]]:
    """Yields a pattern's matches in a text.

    Raises:
        SlowPatternError: after SECONDS.

    >>> [match[0] for match in find_pattern("[0-9]+", "2 of 12 days")]
    ['2', '12']
    """
    try:
        yield from compile_pattern(pattern).finditer(text, timeout=SECONDS)
    except TimeoutError:
        raise SlowPatternError(
            f"the pattern {pattern!r} takes more than {SECONDS:g} s on a text of {len(text)} characters; write it "
            "without repetitions within repetitions, such as (a+)+"
        ) from None
