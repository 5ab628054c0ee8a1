"""Where gradients and distances say different things about the arms of a pair."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from robustness.reports.comparisons.claims import Direction
from robustness.reports.summaries.arms import arms_of_pair
from robustness.runs.storage.record import RunRecord

DISTANCE = ("adversarial-distance", "relative-distance")


@dataclass(frozen=True, slots=True)
class Pointwise:
    """A number of the gradient at one point."""

    name: str
    """Of the probe and of its quantity."""
    suggests_fragile: int
    """Sign of the logarithm of a ratio that a reader would take for fragility of the candidate."""


POINTWISE = (Pointwise("margin-gradient", 1), Pointwise("jacobian-norm", 1), Pointwise("first-order-radius", -1))
SIGNS = {Direction.CANDIDATE: 1, Direction.REFERENCE: -1, Direction.NO_DIFFERENCE: 0}


def find_disagreements(compared: pd.DataFrame, record: RunRecord) -> Iterator[str]:
    """Yields a sentence for each pair and test set whose gradients point another way than its adversarial distances.

    A ratio of gradients points somewhere where its whole 95 % interval lies on that side of 1, distances where they
    have a direction. A norm of a gradient grows with the logits, so that it may differ threefold between arms whose
    nearest wrong answers lie equally far.

    Args:
        compared: sensitivity_pairs.csv's rows.
        record: The run's.
    """
    in_l2 = compared[(compared["norm"] == "l2") & compared["layer"].isna()]
    for pair in record.pairs:
        reference, candidate = arms_of_pair(pair, record).shorts
        for testset, rows in in_l2[in_l2["pair"] == pair.name].groupby("testset", sort=False):
            found = rows[(rows["probe"] == DISTANCE[0]) & (rows["quantity"] == DISTANCE[1])]
            if found.empty or found["direction"].iloc[0] == Direction.NEUTRAL:
                continue
            distance = SIGNS[Direction(found["direction"].iloc[0])]
            arm = {1: candidate, -1: reference}.get(distance)
            words = "show no clear difference" if arm is None else f"call {arm} more sensitive"
            for number in POINTWISE:
                gradient = _read(rows, number)
                if gradient is not None and gradient[0] != distance:
                    yield (
                        f"{pair.name} | {testset}: {number.name} of {candidate} is {gradient[1]:.2g} x that of "
                        f"{reference}, the smallest adversarial distances found {words}: a gradient alone "
                        "is no evidence of fragility"
                    )


def _read(rows: pd.DataFrame, number: Pointwise) -> tuple[int, float] | None:
    """The way a ratio points (1: at the candidate) and the ratio; None where it was not measured on both arms."""
    found = rows[(rows["probe"] == number.name) & (rows["quantity"] == number.name)]
    found = found.dropna(subset=["ratio", "low", "high"])
    if found.empty:
        return None
    first = found.iloc[0]
    side = 1 if first["low"] > 1 else -1 if first["high"] < 1 else 0
    return side * number.suggests_fragile, float(first["ratio"])
