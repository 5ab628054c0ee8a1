"""What a probe's number allows to say about the arms of a pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from robustness.stats import Interval


class Direction(StrEnum):
    """Which arm of a pair a number calls more sensitive."""

    CANDIDATE = "candidate-more-sensitive"
    REFERENCE = "reference-more-sensitive"
    NO_DIFFERENCE = "no-difference-found"
    """Not the same as no difference."""
    NEUTRAL = "neutral"
    """The number supports no claim; its row says why."""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Numbers that support no claim about fragility, by one label of theirs."""

    label: str
    values: frozenset[object]
    reason: str


EXCLUSIONS = (
    Exclusion("kind", frozenset({"estimate"}), "an estimate bounds nothing"),
    Exclusion(
        "quantity",
        frozenset(
            {
                *(
                    slope + per
                    for slope in ("margin-gradient", "margin-gradient-token", "jacobian-norm")
                    for per in ("", "-per-token-norm", "-per-neighbour")
                ),
                "condition",
                "peak-condition",
                "first-order-radius",
                "first-order-parameter-radius",
            }
        ),
        "a derivative at one point says nothing of how far the nearest wrong answer is",
    ),
    Exclusion("probe", frozenset({"update-path"}), "of weights that neither arm has"),
    Exclusion("direction", frozenset({"neutral"}), "neither a larger nor a smaller value means fragile"),
    Exclusion("scale_free", frozenset({0}), "it grows with the logits, so it does not compare between arms"),
)
"""In the order of naming. The rest are exact numbers, certificates and bounds, including distances that an attack
found, an upper bound on both arms."""
BROKEN = ("errored", "not-converged", "vacuous")
"""Statuses of which one is enough to withhold a direction; what is `unsupported` is left out and counted."""


def find_exclusion(labels: Mapping[str, object]) -> str | None:
    """Returns why a number supports no claim, None where it may.

    >>> find_exclusion({"kind": "estimate", "quantity": "clever", "probe": "clever"})
    'an estimate bounds nothing'
    """
    return next((each.reason for each in EXCLUSIONS if labels.get(each.label) in each.values), None)


def find_direction(worse: Interval, p_adjusted: float, alpha: float) -> Direction:
    """Returns what a directed number says: an arm only where its interval and its adjusted test agree.

    Args:
        worse: How much worse off the candidate is, 0 for not at all.
        p_adjusted: Of the paired test, within its family.
        alpha: The significance level.

    >>> find_direction(Interval(0.1, 0.3), 0.01, 0.05).value
    'candidate-more-sensitive'
    """
    if p_adjusted <= alpha and worse.low > 0:
        return Direction.CANDIDATE
    if p_adjusted <= alpha and worse.high < 0:
        return Direction.REFERENCE
    return Direction.NO_DIFFERENCE
