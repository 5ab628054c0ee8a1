"""Whether the labels that texts are graded by can be theirs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MIN_ORIGINALS = 20
"""Fewer say nothing about their labels."""


@dataclass(frozen=True, slots=True)
class OriginalsTally:
    """One checkpoint's answers to the benign originals of one test set."""

    right: int
    """Answered as the label says that they are graded by."""
    commonest: int
    """Originals with the commonest of these labels."""
    n: int


def are_implausible(tallies: Iterable[OriginalsTally]) -> bool:
    """Whether every checkpoint does worse on the originals than one that always answers the commonest label.

    The victims have passed the gate: they know the task. Where all of them fail on plain text, the labels are wrong,
    as in a contrast set whose rows have another label than what they were made from (arXiv 2004.02709).

    Args:
        tallies: one a checkpoint; those of fewer than `MIN_ORIGINALS` are left out.

    >>> full, peft = OriginalsTally(right=19, commonest=52, n=100), OriginalsTally(right=24, commonest=52, n=100)
    >>> are_implausible([full, peft]), are_implausible([full, OriginalsTally(right=52, commonest=52, n=100)])
    (True, False)
    """
    judged = [tally for tally in tallies if tally.n >= MIN_ORIGINALS]
    return bool(judged) and all(tally.right < tally.commonest for tally in judged)
