"""Parts of a test set in which the arms can differ: by text, by label, by what the attack may spend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustness.definitions.tasks import TASKS
from robustness.engine.outcome import Status

SHARES = (0.1, 0.25)
"""Shares of changed words at which budgets are cut."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """Some of the paired examples, and whether each arm withstands there."""

    where: str
    what: str
    full_robust: pd.Series
    peft_robust: pd.Series


def split_strata(both: pd.DataFrame, task: str) -> Iterator[Stratum]:
    """Yields thirds by text length and clean margin, the labels, and AdvGLUE's methods and constructions."""
    texts = both["original_text_full"].fillna(both["adversarial_text_full"])
    words = texts.str.count(r"\S+").astype(float)
    yield from _thirds(both, words, "text length", ("short", "middling", "long"), "words")
    margins = both[["clean_score_full", "clean_score_peft"]].astype(float).mean(axis=1)
    yield from _thirds(both, margins, "clean margin", ("narrow", "middling", "wide"), "mean score")
    names = _label_names(task)
    labels = both.groupby("label_full", sort=True)
    for label, part in labels if labels.ngroups > 1 else ():
        index = int(label)
        yield _of(both, part.index, "label", names[index] if index < len(names) else str(index))
    for column in ("method", "construction"):
        if f"{column}_full" in both:
            for name, part in both.groupby(f"{column}_full", sort=False):
                yield _of(both, part.index, column, str(name))


def split_budgets(both: pd.DataFrame) -> Iterator[Stratum]:
    """Yields all examples under smaller budgets: three of queries or epsilon, two of changed words.

    An example withstands budget b if it was right before the attack and nothing that cost at most b broke it; the
    cuts are quartiles of what successes on either arm cost.
    """
    kinds = {"distance": "epsilon"} if both["distance_full"].notna().any() else {"queries": "queries"}
    for column, noun in kinds.items():
        spent = pd.concat([_costs(both, column, arm).dropna() for arm in ("full", "peft")])
        if len(spent):
            cuts = np.quantile(spent, [0.25, 0.5, 0.75], method="lower")
            for cut in np.unique(cuts):
                yield _within(both, column, float(cut), f"{noun} <= {cut:.4g}")
    if both["modified_share_full"].notna().any():
        for cut in SHARES:
            yield _within(both, "modified_share", cut, f"words changed <= {cut:.0%}")


def _costs(both: pd.DataFrame, column: str, arm: str) -> pd.Series:
    broken = both[f"status_{arm}"] == Status.SUCCEEDED
    return both[f"{column}_{arm}"].astype(float).where(broken)


def _within(both: pd.DataFrame, column: str, cut: float, what: str) -> Stratum:
    robust = {
        arm: (both[f"status_{arm}"] != Status.SKIPPED) & ~(_costs(both, column, arm) <= cut + 1e-9)
        for arm in ("full", "peft")
    }
    return Stratum("budget", what, robust["full"], robust["peft"])


def _thirds(
    both: pd.DataFrame, values: pd.Series, where: str, names: tuple[str, str, str], unit: str
) -> Iterator[Stratum]:
    known = values.dropna()
    if known.nunique() < 3:
        return
    first, second = np.quantile(known, [1 / 3, 2 / 3])
    parts = (known <= first, (known > first) & (known <= second), known > second)
    bounds = (f"up to {first:.3g}", f"{first:.3g} to {second:.3g}", f"over {second:.3g}")
    for name, part, bound in zip(names, parts, bounds, strict=True):
        yield _of(both, known.index[part], where, f"{name} ({bound} {unit})")


def _of(both: pd.DataFrame, index: pd.Index, where: str, what: str) -> Stratum:
    return Stratum(where, what, both.loc[index, "robust_right_full"], both.loc[index, "robust_right_peft"])


def _label_names(task: str) -> tuple[str, ...]:
    return next((known.labels for known in TASKS if known.name == task), ())
