"""What is right, where that is more than a label."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GoldSpan:
    """A gold answer to a question."""

    text: str
    start: int
    """Of its first character in the context, as the test set has it."""
