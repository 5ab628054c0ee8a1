"""What a suite file may say."""

from __future__ import annotations

from pydantic import PositiveInt

from robustness.definitions.model import Definition


class SuiteDefinition(Definition):
    """Which test sets are evaluated as they stand, and which attacks run on them."""

    summary: str
    testsets: tuple[str, ...]
    attacks: tuple[str, ...] = ()
    limit: PositiveInt | None = None
    """At most so many examples of each test set; the command line's --limit replaces it."""
