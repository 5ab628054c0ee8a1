"""Where gradients and distances say different things about the arms of a pair."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

DISTANCE = ("adversarial-distance", "relative-distance")
GRADIENTS = (
    ("margin-gradient", "margin-gradient"),
    ("jacobian-norm", "jacobian-norm"),
    ("first-order-radius", "first-order-radius"),
)
WORDS = {1: "that PEFT is more fragile", -1: "that the full checkpoint is more fragile", 0: "no difference"}


def find_disagreements(differences: pd.DataFrame) -> Iterator[str]:
    """Yields a sentence for each pair and test set whose gradients point another way than its adversarial distances.

    A number points somewhere where its whole 95 % interval lies on that side of 0. A norm of a gradient grows with
    the logits, so that it may differ threefold between arms whose nearest wrong answers lie equally far.

    Args:
        differences: as `build_probe_differences` makes them.
    """
    if differences.empty:
        return
    in_l2 = differences[(differences["norm"] == "l2") & differences["layer"].isna()]
    for (pair, testset), rows in in_l2.groupby(["pair", "testset"], sort=False):
        distance = _direction(rows, DISTANCE)
        if distance is None:
            continue
        for number in GRADIENTS:
            gradient = _direction(rows, number)
            if gradient not in (None, distance):
                yield (
                    f"{pair} | {testset}: {number[1]} shows {WORDS[int(gradient or 0)]}, the smallest adversarial "
                    f"distances found show {WORDS[distance]}: a gradient alone is no evidence of fragility"
                )


def _direction(rows: pd.DataFrame, number: tuple[str, str]) -> int | None:
    """1, -1 or 0 as the interval lies; None where the number was not measured on both arms."""
    found = rows[(rows["probe"] == number[0]) & (rows["quantity"] == number[1])].dropna(subset=["low", "high"])
    if found.empty:
        return None
    low, high = found["low"].iloc[0], found["high"].iloc[0]
    return 1 if low > 0 else -1 if high < 0 else 0
