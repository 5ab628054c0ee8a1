"""Where the arms differ: attacks, test sets and parts of them, the planned ones first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

from robustness.reports.comparisons.methods import pairs_of_methods
from robustness.reports.page.cells import PageTable
from robustness.reports.page.pagetables import fragility_table, pairs_table
from robustness.reports.page.strips import Mark, Scale, Strip, Strips
from robustness.reports.places import EXPLORING, PLANNED
from robustness.reports.summaries.arms import Arms, arms_of_pair, arms_of_run, spell_verdict
from robustness.reports.summaries.wording import signed, span
from robustness.reports.tables.columns import Table
from robustness.reports.visible import visible
from robustness.runs.storage.record import PairRecord, RunRecord
from robustness.stats import CANDIDATE_FRAGILE, REFERENCE_FRAGILE, Verdict

MAX_ROWS = 20
"""Drawn; the table has all."""
DOT = "  \u00b7  "
AS_IT_STANDS = "as it stands"
THIRD = re.compile(r"\w+ \((.+) (?:words|mean score|bits)\)")
"""A third of a test set by length, margin or entropy, as fragility.csv names it."""


@dataclass(frozen=True, slots=True)
class SubgroupSection:
    """What the page says of places."""

    arms: Arms
    margin: str
    strips: tuple[Strips, ...]
    folded: tuple[Strips, ...]
    """Of the pairs whose methods have figures."""
    fragility: PageTable
    pairs: PageTable


def describe_subgroups(
    tables: dict[Table, pd.DataFrame], shown: tuple[PairRecord, ...], record: RunRecord
) -> SubgroupSection:
    """Returns the section; figures are of the pairs `shown`, and of methods over their seeds."""
    fragility, arms = tables[Table.FRAGILITY], arms_of_run(record.pairs, record)
    named = {pair.name: arms_of_pair(pair, record) for pair in record.pairs}
    behind = pairs_of_methods(tables[Table.PAIRS]["pair"].unique(), record)
    for name, pairs in behind.items():
        named.setdefault(name, arms_of_run(pairs, record))
    rates = fragility[fragility["low"].notna()]
    margin = record.statistics.margin
    methods = [name for name in named if name not in {pair.name for pair in record.pairs}]
    drawn = {
        name: draw_strips(name, rows, margin, named[name])
        for name in (*methods, *(pair.name for pair in shown))
        if len(rows := rates[rates["pair"] == name])
    }
    spoken_for = {pair.name for name in methods if name in drawn for pair in behind[name]}
    first = [name for name in drawn if name not in spoken_for]
    return SubgroupSection(
        arms=arms,
        margin=f"{100 * margin:g}",
        strips=tuple(drawn[name] for name in first),
        folded=tuple(figure for name, figure in drawn.items() if name not in first),
        fragility=fragility_table(fragility, arms),
        pairs=pairs_table(tables[Table.PAIRS], arms),
    )


def draw_strips(name: str, rows: pd.DataFrame, margin: float, arms: Arms) -> Strips:
    """Returns fragility.csv's rows of one pair as lines in points: to the right the candidate is worse off."""
    shown = _most_telling(rows)
    ends = 100 * shown[["low", "high"]].abs()
    scale = Scale(1.06 * max(5.0, *ends.max().fillna(0)))
    reference, candidate = arms.shorts
    sets = set(rows["testset"].dropna())
    prefix = f"{visible(str(sets.pop()))}{DOT}" if len(sets) == 1 else ""
    note = f"{len(shown)} of {len(rows)} places: the planned ones, and the clearest of the others."
    return Strips(
        name=name,
        rows=tuple(_strip(row, scale, arms, prefix) for row in shown.itertuples()),
        ticks=scale.ticks(),
        zero=scale.place(0.0),
        axis="difference in accuracy, percentage points",
        sides=(f"{reference} worse off", f"{candidate} worse off"),
        band=scale.span(-100 * margin, 100 * margin),
        note=note if len(shown) < len(rows) else "",
    )


def _strip(row: Any, scale: Scale, arms: Arms, prefix: str) -> Strip:
    verdict = Verdict(row.verdict) if isinstance(row.verdict, str) and row.verdict else Verdict.INCONCLUSIVE
    place, interval = spell_place(row), span(row.low, row.high)
    said = spell_verdict(verdict, arms, row.difference)
    numbers = f"{signed(row.difference)} points, 95 % interval {interval}"
    return Strip(
        name=place.removeprefix(prefix) if place != f"{prefix}{AS_IT_STANDS}" else place,
        marks=(Mark(scale.place(100 * row.difference), *_look(verdict, row.difference)),),
        title=f"{place}: {numbers}, n = {int(row.n):,}; {said}" if pd.notna(row.n) else f"{place}: {numbers}; {said}",
        ends=scale.span(100 * row.low, 100 * row.high),
        shown=signed(row.difference),
        is_planned=row.where in PLANNED,
    )


def _look(verdict: Verdict, difference: float) -> tuple[str, str]:
    """Shape and colour: that of the arm a verdict is about."""
    if verdict is Verdict.LESS_ACCURATE:
        return "diamond", "peft" if difference > 0 else "full"
    if verdict in CANDIDATE_FRAGILE:
        return "right", "peft"
    if verdict in REFERENCE_FRAGILE:
        return "left", "full"
    return ("square", "same") if verdict is Verdict.EQUIVALENT else ("ring", "muted")


def spell_place(row: Any) -> str:
    """A row of fragility.csv in words, so that a part of a test set tells what it is a part by."""
    if row.where == "attack family":
        return f"{visible(str(row.what))} attacks, all test sets"
    if row.where == "test set":
        return f"{visible(str(row.what))}{DOT}{AS_IT_STANDS}"
    *place, part = visible(str(row.what)).split(" | ")
    third = THIRD.fullmatch(part)
    if third and row.where == "text length":
        part = f"{third[1]} words"
    elif third and row.where == "clean margin":
        part = f"clean score {third[1]}"
    elif third and row.where == "label entropy":
        part = f"label entropy {third[1]} bits"
    elif row.where in EXPLORING:
        part = f"made by {part}" if row.where == "method" else f"{row.where} {part}"
    return DOT.join([*place, part]).replace("<=", "\u2264")


def _most_telling(rows: pd.DataFrame) -> pd.DataFrame:
    """Planned comparisons first, then the others; of these verdicts first, then what is large for its uncertainty."""
    width = (rows["high"] - rows["low"]).clip(lower=1e-9)
    order = pd.DataFrame(
        {
            "planned": ~rows["where"].isin(PLANNED),
            "inconclusive": rows["verdict"] == Verdict.INCONCLUSIVE,
            "weight": -(rows["difference"].abs() / width),
        }
    ).sort_values(["planned", "inconclusive", "weight"], kind="stable")
    kept = rows.loc[order.index[:MAX_ROWS]]
    return pd.concat([kept[kept["where"].isin(PLANNED)], kept[~kept["where"].isin(PLANNED)]])
