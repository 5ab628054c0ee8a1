"""How well probes tell the effort that breaks an example, a line for each number."""

from __future__ import annotations

import pandas as pd

from robustness.reports.page.strips import Mark, Scale, Strip, Strips
from robustness.reports.tables.probes.predictions import NUMBER
from robustness.reports.visible import visible

MOST = 16
"""Numbers drawn, by the size of their correlation."""
IDENTITY = [name for name in NUMBER if name != "checkpoint"]


def draw_predictions(predictions: pd.DataFrame, roles: dict[str, str], name: str) -> Strips:
    """Rank correlations with the effort to break: a line for each number, a mark for each arm and attack.

    Args:
        predictions: predictions.csv's rows of one pair that have a rank correlation.
        roles: `full` or `peft` by checkpoint.
        name: Of the pair.
    """
    groups = list(predictions.groupby(IDENTITY, sort=False, dropna=False))
    groups.sort(key=lambda group: -abs(float(group[1]["rank_correlation"].median())))
    scale = Scale(1.05)
    rows = tuple(_strip(dict(zip(IDENTITY, names, strict=True)), part, roles, scale) for names, part in groups[:MOST])
    note = f"The {MOST} of {len(groups)} numbers with the largest correlations; predictions.csv has all."
    return Strips(
        name=name,
        rows=rows,
        ticks=scale.ticks(),
        zero=scale.place(0.0),
        axis="rank correlation with the effort to break",
        note=note if len(groups) > MOST else "",
    )


def _strip(identity: dict[str, object], part: pd.DataFrame, roles: dict[str, str], scale: Scale) -> Strip:
    marks = []
    for row in part.itertuples():
        role, where = roles[row.checkpoint], visible(f"{row.checkpoint}, {row.attack}")
        said = f"{where}: {row.rank_correlation:+.2f}, n = {int(row.n)}"
        marks.append(Mark(scale.place(row.rank_correlation), "circle" if role == "full" else "up", role, said))
    return Strip(name=name_number(identity), marks=tuple(marks), title="")


def name_number(identity: dict[str, object]) -> str:
    """A number by what tells it from others; the probe's name where its quantity does not hold it."""
    probe, quantity = str(identity["probe"]), str(identity["quantity"])
    words = [quantity if probe in quantity else f"{probe}: {quantity}"]
    words += [str(identity["norm"])] if pd.notna(identity["norm"]) else []
    words += [f"{size} {identity[size]:g}" for size in ("radius", "sigma") if pd.notna(identity[size])]
    return visible(", ".join(words))
