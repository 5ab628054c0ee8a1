"""Suggestions for mistyped names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for a close match, else "; known: ..." with every name.

    >>> nearest("max_query", ["max_queries", "summary"])
    "; did you mean 'max_queries'?"
    """
    return suggest(name, names := sorted(map(str, known))) or (f"; known: {', '.join(names)}" if names else "")


def nearest_of(name: str, known: Iterable[str]) -> str:
    """Returns as `nearest`, but always followed by every name, for short lists of names.

    >>> nearest_of("acuracy", ["accuracy", "f1"])
    "; did you mean 'accuracy'? Known: accuracy, f1"
    """
    names = sorted(map(str, known))  # members of an enumeration in the spelling of files
    close = suggest(name, names)
    return f"{close} Known: {', '.join(names)}" if close else nearest(name, names)


def suggest(name: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for a close match, else nothing.

    >>> suggest("TOPIKS", ["topics"])
    "; did you mean 'topics'?"
    """
    folded = {str(each).casefold(): str(each) for each in known}
    matches = difflib.get_close_matches(name.casefold(), sorted(folded), n=1)
    return f"; did you mean {folded[matches[0]]!r}?" if matches else ""
