"""Comparisons of two arms on the same examples."""

from __future__ import annotations

from enum import StrEnum


class Family(StrEnum):
    """Comparisons of one pair whose p-values are adjusted together."""

    PLANNED = "planned"
    """Test sets and attacks by their primary metric: the only family that a tally counts."""
    EFFORT = "effort"
    SECONDARY = "secondary"
    """Other metrics and populations: numbers beside the planned ones, without a verdict of their own."""
    CONTROL = ""
    """Clean test sets, `identity` and random baselines are in no family: their p-values stand alone."""
