"""The accuracy at every budget, and the effort to break an example."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustness.reports.page.cells import PageTable
from robustness.reports.page.pagetables import survival_table
from robustness.reports.page.panels import KINDS, Panel, Panels, draw_curve, draw_panel, limit_of, note_left_out
from robustness.reports.summaries.arms import Arms, arms_of_pair, arms_of_run
from robustness.reports.summaries.sentences import EFFORT, place
from robustness.reports.summaries.wording import p_text, percent
from robustness.reports.tables.columns import Table
from robustness.reports.visible import visible
from robustness.runs.storage.record import PairRecord, RunRecord


@dataclass(frozen=True, slots=True)
class BudgetSection:
    """Curves, and the effort an attack needs."""

    arms: Arms
    curves: tuple[Panels, ...]
    efforts: tuple[str, ...]
    """A sentence each."""
    survival: PageTable


def describe_budgets(
    tables: dict[Table, pd.DataFrame], shown: tuple[PairRecord, ...], record: RunRecord
) -> BudgetSection:
    """Returns the section; curves are of the pairs `shown`."""
    curves = tables[Table.CURVES]
    drawn = (_draw_pair(curves, pair, number, len(shown), record) for number, pair in enumerate(shown))
    arms = arms_of_run(record.pairs, record)
    return BudgetSection(
        arms=arms,
        curves=tuple(panels for panels in drawn if panels.panels),
        efforts=tuple(_efforts(tables[Table.PAIRS], shown, record)),
        survival=survival_table(tables[Table.SURVIVAL], arms),
    )


def _draw_pair(curves: pd.DataFrame, pair: PairRecord, number: int, n_pairs: int, record: RunRecord) -> Panels:
    arms, limit = {pair.reference: "full", pair.candidate: "peft"}, limit_of(n_pairs)
    names = arms_of_pair(pair, record).shorts
    mine = curves[curves["checkpoint"].isin(arms)]
    # An attack that broke nothing leaves the same at every budget: no curve.
    places = mine.groupby(["checkpoint", "testset", "attack", "budget_kind"], sort=False)["robust_accuracy"]
    falls = mine.assign(falls=places.transform("nunique") > 1).groupby(
        ["testset", "attack", "budget_kind"], sort=False
    )
    mine = mine[falls["falls"].transform("any").astype(bool)]
    groups = list(_by_kind(mine).groupby(["testset", "attack", "budget_kind"], sort=False))
    one_set = mine["testset"].nunique() == 1
    panels = []
    for place_, ((testset, attack, kind), part) in enumerate(groups[:limit]):
        title = visible(str(attack)) if one_set else visible(f"{attack} on {testset}")
        label = f"Robust accuracy, percent, by {KINDS.get(str(kind), str(kind))}: {title}"
        figure = draw_panel(draw_curve(part, arms, names), f"curve{number}x{place_}", label)
        panels.append(Panel(title, figure))
    return Panels(pair.name, tuple(panels), note_left_out(len(groups), limit, "curves.csv"))


def _by_kind(curves: pd.DataFrame) -> pd.DataFrame:
    """Panels of one kind of budget side by side."""
    testsets, kinds = list(dict.fromkeys(curves["testset"])), list(dict.fromkeys(curves["budget_kind"]))
    rank = curves["testset"].map(testsets.index) * len(kinds) + curves["budget_kind"].map(kinds.index)
    return curves.iloc[np.argsort(rank.to_numpy(), kind="stable")] if len(curves) else curves


def _efforts(pairs: pd.DataFrame, shown: tuple[PairRecord, ...], record: RunRecord) -> list[str]:
    """Which arm breaks with less effort, of each planned attack of each pair."""
    said = []
    for pair in shown:
        arms = arms_of_pair(pair, record)
        rows = pairs[(pairs["pair"] == pair.name) & (pairs["metric"] == EFFORT)]
        for row in rows.itertuples():
            words = (
                f"{place(row)}: {arms.candidate.name} breaks with less in {percent(row.candidate_value)} and "
                f"{arms.reference.name} in {percent(row.reference_value)} of {int(row.n):,} examples that both have "
                f"right (ties half; {p_text(row.p_adjusted if pd.notna(row.p_adjusted) else row.p_value)})."
            )
            said.append(f"{pair.name}, {words}" if len(shown) > 1 else words)
    return said
