"""The cells of a run, and the reserved names of its tables; a leaf that reports may import."""

from __future__ import annotations

from dataclasses import dataclass

NO_ATTACK = "none"
"""The attack column of a test set without attack."""
WORST_CASE = "worst-case"
"""The attack column of several attacks as one."""
RESERVED = (NO_ATTACK, WORST_CASE)
"""Reserved names of attacks and probes."""
UNTUNED = "untuned base"
"""The target of texts scored on the base, with the head of the arm on which they were found."""
BASELINE = "baseline"
"""The family of attacks without claims: `identity` and random edits."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The unit of work and of resuming: one checkpoint, test set and attack."""

    checkpoint: str
    testset: str
    attack: str


@dataclass(frozen=True, slots=True)
class ProbeCell:
    """One checkpoint, test set and probe; the test set is empty for a probe of structure."""

    checkpoint: str
    testset: str
    probe: str
