"""Checks whether the labels of a test set can belong to its texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MIN_ORIGINALS = 20
"""Fewer originals say nothing about their labels."""


@dataclass(frozen=True, slots=True)
class OriginalsTally:
    """One checkpoint's answers to the benign originals of one test set."""

    right: int
    """Originals answered with their label."""
    commonest: int
    """Originals with the commonest label."""
    n: int


def are_implausible(tallies: Iterable[OriginalsTally]) -> bool:
    """Whether every checkpoint is worse on the originals than a constant answer with the commonest label.

    The victims have passed the gate, so they know the task. If all of them fail on clean text, the labels are wrong.
    An example is a contrast set, whose rows have another label than their originals (arXiv 2004.02709).

    Args:
        tallies: one for each checkpoint; tallies of fewer than `MIN_ORIGINALS` are ignored.

    >>> full, peft = OriginalsTally(right=19, commonest=52, n=100), OriginalsTally(right=24, commonest=52, n=100)
    >>> are_implausible([full, peft]), are_implausible([full, OriginalsTally(right=52, commonest=52, n=100)])
    (True, False)
    """
    judged = [tally for tally in tallies if tally.n >= MIN_ORIGINALS]
    return bool(judged) and all(tally.right < tally.commonest for tally in judged)
