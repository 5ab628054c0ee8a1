"""The comparisons that the first screen draws: no attack, each attack, and the strongest of several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from robustness.reports.comparisons.comparison import Family
from robustness.reports.comparisons.controls import IDENTITY
from robustness.reports.summaries.kept import Both, Kept, find_clean
from robustness.runs.cells import NO_ATTACK, WORST_CASE
from robustness.stats import Verdict

RATES = ("robust_accuracy", "accuracy", "exact_match")
MAX_ATTACKS = 6
"""Of one test set, the strongest."""
STRONGEST = "strongest"


@dataclass(frozen=True, slots=True)
class Place:
    """One comparison of both arms; fractions."""

    name: str
    testset: str
    n: int
    values: Both
    difference: float
    low: float
    high: float
    detectable: float
    """nan where no difference would have been found, or none was computed."""
    verdict: Verdict | None
    is_planned: bool
    """Whether it counts in the answer."""
    n_seeds: int = 1


@dataclass(frozen=True, slots=True)
class TestsetPlaces:
    """What was compared on one test set, or on several adversarial ones as they stand."""

    __test__ = False  # the name is the field's word, not a pytest class

    title: str
    clean: Both | None
    """Both arms' clean accuracy; None where it is unknown."""
    compared: tuple[Place, ...]
    """By the accuracy under attack, the strongest attack last."""
    n_attacks: int = 0
    """With weaker ones that are not drawn."""
    metric: str = "accuracy"


def find_places(rows: pd.DataFrame, kept: Sequence[Kept], *, chosen: bool) -> list[TestsetPlaces]:
    """Returns what is drawn of one pair or method: a test set each, and adversarial test sets together.

    Args:
        rows: Its rows of pairs.csv.
        kept: What the strongest attack on each test set leaves.
        chosen: Whether the run attacked only rows that both arms of a pair have right.
    """
    known = {each.testset: each for each in kept}
    found: list[TestsetPlaces] = []
    static: list[Place] = []
    for testset, here in rows[rows["aggregation"] == "mean"].groupby("testset", sort=False):
        attacked = here[(here["metric"] == "robust_accuracy") & (here["population"] == "all")]
        attacked = attacked[attacked["attack"] != IDENTITY]
        as_it_stands = _planned(here[here["attack"] == NO_ATTACK])
        static += [_place(row, str(testset)) for row in as_it_stands.itertuples()]
        if len(attacked):
            best = known.get(str(testset))
            before = None if best is None or best.attack == NO_ATTACK else best.clean
            found.append(_attacked(str(testset), attacked, before or find_clean(here, chosen=chosen)))
    if static:
        clean = next((each.clean for each in kept if each.attack == NO_ATTACK), None)
        metric = "f1" if (_planned(rows[rows["attack"] == NO_ATTACK])["metric"] == "f1").all() else "accuracy"
        found.append(TestsetPlaces("adversarial test sets", clean, _sort(static), metric=metric))
    return found


def clean_place(rows: pd.DataFrame, testset: str) -> Place | None:
    """Returns the comparison of a clean test set as it stands; None where there is none."""
    here = rows[(rows["testset"] == testset) & (rows["attack"] == NO_ATTACK) & (rows["population"] == "all")]
    here = here[here["metric"].isin(RATES) & (here["aggregation"] == "mean") & (here["family"] != Family.PLANNED)]
    return next((_place(row, "no attack") for row in here.itertuples()), None)


def _attacked(testset: str, attacked: pd.DataFrame, clean: Both | None) -> TestsetPlaces:
    names = {WORST_CASE: STRONGEST}
    places = [_place(row, names.get(str(row.attack), str(row.attack))) for row in attacked.itertuples()]
    single, worst = [p for p in places if p.name != STRONGEST], [p for p in places if p.name == STRONGEST]
    ordered = _sort(single)
    hidden = max(0, len(ordered) - MAX_ATTACKS)
    return TestsetPlaces(testset, clean, (*ordered[hidden:], *worst), len(ordered))


def _sort(places: Sequence[Place]) -> tuple[Place, ...]:
    return tuple(sorted(places, key=lambda place: -sum(place.values)))


def _planned(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["family"] == Family.PLANNED]


def _place(row: Any, name: str) -> Place:
    verdict = Verdict(row.verdict) if isinstance(row.verdict, str) and row.verdict else None
    return Place(
        name=name,
        testset=str(row.testset),
        n=int(row.n),
        values=(float(row.reference_value), float(row.candidate_value)),
        difference=float(row.difference),
        low=float(row.low),
        high=float(row.high),
        detectable=math.nan if pd.isna(row.detectable) else float(row.detectable),
        verdict=verdict,
        is_planned=row.family == Family.PLANNED,
        n_seeds=int(row.n_seeds),
    )
