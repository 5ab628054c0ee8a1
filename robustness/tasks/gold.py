"""Golds other than labels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GoldSpan:
    """A gold answer to a question."""

    text: str
    start: int
    """Place of its first character in the context, from the test set."""
