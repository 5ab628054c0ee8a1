"""Suggestions for names that were mistyped."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for a close match, else "; known: ..." with every name.

    >>> nearest("max_query", ["max_queries", "summary"])
    "; did you mean 'max_queries'?"
    """
    names = sorted(map(str, known))  # members of an enumeration as files write them
    matches = difflib.get_close_matches(name, names, n=1)
    if matches:
        return f"; did you mean {matches[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""
