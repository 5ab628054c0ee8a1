"""The figure of how well probes tell the effort that breaks an example."""

from __future__ import annotations

from textwrap import shorten

import pandas as pd
from matplotlib.figure import Figure

from robustness.reports.page.plots import Draw
from robustness.reports.page.svg import FULL, INK, MUTED, PEFT, soften
from robustness.reports.tables.predictions import NUMBER
from robustness.reports.visible import visible

MOST = 24
"""Numbers drawn: those that tell most."""
IDENTITY = [name for name in NUMBER if name != "checkpoint"]


def draw_predictions(predictions: pd.DataFrame, arms: dict[str, str]) -> Draw:
    """Rank correlations with the effort to break: a line for each number, a mark for each arm and attack.

    Args:
        predictions: predictions.csv's rows of one pair that have a rank correlation.
        arms: `full` or `peft` by checkpoint.
    """
    groups = list(predictions.groupby(IDENTITY, sort=False, dropna=False))
    groups.sort(key=lambda group: -abs(float(group[1]["rank_correlation"].median())))
    shown = groups[:MOST]

    def draw(width: float) -> Figure:
        narrow = width < 6
        height = (0.42 if narrow else 0.27) * len(shown) + 0.75
        figure = Figure(figsize=(width, height))
        left, bottom = (0.02 if narrow else 0.42), 0.55 / height
        axes = figure.add_axes((left, bottom, 0.96 - left, 1 - bottom - 0.1 / height))
        soften(axes)
        axes.axvline(0, color=MUTED, linewidth=0.9)
        for y, (identity, part) in enumerate(shown):
            for checkpoint, arm in arms.items():
                values = part.loc[part["checkpoint"] == checkpoint, "rank_correlation"].to_numpy(dtype=float)
                place = y + (0.1 if arm == "peft" else -0.1)
                style, colour = ("o", FULL) if arm == "full" else ("^", PEFT)
                axes.plot(values, [place] * len(values), style, color=colour, markersize=5, alpha=0.7)
            name = _name(dict(zip(IDENTITY, identity, strict=True)))
            text = shorten(name, 60 if narrow else 52, placeholder=" ...")
            inside = axes.get_yaxis_transform()
            if narrow:
                axes.text(0, y - 0.22, text, transform=inside, fontsize=9.5, va="bottom", color=INK)
            else:
                axes.text(-0.015, y, text, transform=inside, ha="right", va="center", color=INK)
        axes.set_xlim(-1.05, 1.05)
        axes.set_ylim(len(shown) - 0.4, -0.75 if narrow else -0.6)
        axes.set_yticks([])
        axes.set_xlabel("rank correlation with the effort to break")
        return figure

    return draw


def _name(identity: dict[str, object]) -> str:
    """A number by what tells it from others; the probe's name where its quantity does not hold it."""
    probe, quantity = str(identity["probe"]), str(identity["quantity"])
    words = [quantity if probe in quantity else f"{probe}: {quantity}"]
    words += [str(identity["norm"])] if pd.notna(identity["norm"]) else []
    words += [f"{size} {identity[size]:g}" for size in ("radius", "sigma") if pd.notna(identity[size])]
    return visible(", ".join(words))
