"""Robust accuracy against the budget of an attack, as a figure for a paper or a notebook."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustness.definitions.naming import nearest_of
from robustness.errors import UsageError
from robustness.reports.summaries.arms import arms_of_pair
from robustness.reports.visible import visible
from robustness.runs.storage.record import PairRecord, RunRecord

UNITS = {"queries": "queries", "modified_share": "share of words changed", "epsilon": "epsilon, median token norms"}
"""Budgets that an attack spends, by their names in curves.csv; others there are of probes."""
COLORS = ("#0072b2", "#d55e00")
"""Colours of reference and candidate, distinguishable by colour-blind readers (Okabe and Ito)."""
LINES = ("-", "--")
COLUMNS = 3
WIDTH, HEIGHT = 3.2, 2.7
"""Inches of a panel."""
LONG_BUDGET = 60
"""Queries from which on the axis is logarithmic."""


@final
class ShownFigure(Figure):
    """A figure that a notebook shows whether pyplot is in use or not."""

    def _repr_png_(self) -> bytes:
        drawn = io.BytesIO()
        self.savefig(drawn, format="png", dpi=110)
        return drawn.getvalue()


def draw_budgets(curves: pd.DataFrame, record: RunRecord, wanted: dict[str, str | None]) -> Figure:
    """Returns a panel for each pair, test set, attack and kind of budget that is wanted.

    Args:
        curves: Rows of curves.csv.
        record: The run's.
        wanted: What to keep of `pair`, `testset`, `attack` and `budget_kind`; None keeps everything.

    Raises:
        UsageError: The run has no such name, or no curve.
    """
    pairs = [pair for pair in record.pairs if wanted["pair"] in (None, pair.name)]
    if not pairs:
        raise _unknown("pair", wanted["pair"], [pair.name for pair in record.pairs])
    rows = curves[curves["budget_kind"].isin(list(UNITS))]
    for name in ("testset", "attack", "budget_kind"):
        if wanted[name] is not None:
            known = list(dict.fromkeys(rows[name]))
            rows = rows[rows[name] == wanted[name]]
            if rows.empty:
                raise _unknown(name, wanted[name], known)
    panels = [
        (pair, place, part)
        for pair in pairs
        for place, part in rows[rows["checkpoint"].isin([pair.reference, pair.candidate])].groupby(
            ["testset", "attack", "budget_kind"], sort=False
        )
    ]
    if not panels:
        raise UsageError("plot_budget: this run has no budget curve: none of its attacks changes an answer")
    figure, grid = _lay_out(len(panels))
    for axes, (pair, place, part) in zip(grid, panels, strict=True):
        _draw_panel(axes, part, pair, record)
        title = [pair.name] if len(pairs) > 1 else []
        axes.set_title("\n".join(visible(each) for each in (*title, f"{place[1]}, {place[0]}")), fontsize=9)
    return figure


def _unknown(name: str, given: str | None, known: Sequence[str]) -> UsageError:
    return UsageError(f"plot_budget: {name} {given!r}: no such curve{nearest_of(str(given), known)}")


def _lay_out(count: int) -> tuple[Figure, Sequence[Axes]]:
    columns = count if count <= COLUMNS else 2 if count == 4 else COLUMNS  # no panel stands alone
    lines = -(-count // columns)
    figure = ShownFigure(figsize=(WIDTH * columns, HEIGHT * lines), layout="constrained")
    grid: Any = figure.subplots(lines, columns, squeeze=False)
    panels = list(grid.flat)
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, panels[:count]


def _draw_panel(axes: Axes, curves: pd.DataFrame, pair: PairRecord, record: RunRecord) -> None:
    """Both arms: a step line each, its 95 % interval behind it."""
    reach = float(curves["budget"].max())
    for checkpoint, label, color, line in zip(
        (pair.reference, pair.candidate), arms_of_pair(pair, record).shorts, COLORS, LINES, strict=True
    ):
        curve = curves[curves["checkpoint"] == checkpoint].sort_values("budget")
        if curve.empty:
            continue
        budgets = np.append(curve["budget"].to_numpy(dtype=float), reach)
        value, low, high = (
            100 * np.append(curve[name].to_numpy(dtype=float), float(curve[name].iloc[-1]))
            for name in ("robust_accuracy", "low", "high")
        )
        axes.fill_between(budgets, low, high, step="post", color=color, alpha=0.15, linewidth=0)
        axes.step(budgets, value, where="post", color=color, linestyle=line, label=visible(label))
    kind = str(curves["budget_kind"].iloc[0])
    if kind == "queries" and reach > LONG_BUDGET:
        axes.set_xscale("symlog", linthresh=10)
    axes.set(ylim=(0, 100), xlim=(0, reach or 1), xlabel=UNITS[kind], ylabel="robust accuracy, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
