"""Small figures of one size, which the page sets side by side as its width allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from robustness.reports.page.svg import FULL, INK, PAPER, PEFT, explain, page_style, soften, to_svg

WIDTH = 4.1
"""Inches: 394 pixels, a telephone's width and a third of a screen's."""
SHOWN = 6
"""Panels of one kind that stand open; the others are folded."""
MAX_PANELS = 12
"""Of one kind and pair."""
PAGE_PANELS = 24
"""Of all pairs' panels of one kind together, but at least two a pair: drawing takes a tenth of a second each."""
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")
"""Powers of ten without mathematical type, which the page does not set."""
MAX_POINTS = 120
"""Values of one arm that are drawn: quantiles of more."""
Groups = Sequence[tuple[Any, pd.DataFrame]]


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure and its title, which the page sets and wraps."""

    title: str
    figure: Markup


@dataclass(frozen=True, slots=True)
class Panels:
    """The figures of one kind of a pair."""

    name: str
    """Of the pair."""
    panels: tuple[Panel, ...]
    note: str = ""

    @property
    def shown(self) -> tuple[Panel, ...]:
        """The panels that stand open."""
        return self.panels[:SHOWN]

    @property
    def folded(self) -> tuple[Panel, ...]:
        """The panels that a reader unfolds."""
        return self.panels[SHOWN:]


@dataclass(frozen=True, slots=True)
class ArmLine:
    """What an arm looks like in a figure, and what it is called there."""

    name: str
    colour: str
    marker: str
    dashes: Any


def arm_lines(names: tuple[str, str]) -> dict[str, ArmLine]:
    """By role in the page's colours, `full` for the reference and `peft` for the candidate."""
    return {"full": ArmLine(names[0], FULL, "o", "-"), "peft": ArmLine(names[1], PEFT, "^", (0, (5, 1.5)))}


def draw_panel(draw: Callable[[Axes], None], name: str, label: str, height: float = 1.75) -> Markup:
    """Draws one panel; `name` makes its ids unlike those of others, `label` is read aloud, `height` is in inches."""
    with page_style():
        figure = Figure(figsize=(WIDTH, height))
        left, right, top, bottom = 0.48, 0.14, 0.1, 0.44
        box = (left / WIDTH, bottom / height, 1 - (left + right) / WIDTH, 1 - (top + bottom) / height)
        draw(figure.add_axes(box))
        return to_svg(figure, name, label)


def limit_of(n_pairs: int) -> int:
    """Panels of each pair and kind."""
    return max(2, min(MAX_PANELS, PAGE_PANELS // max(1, n_pairs)))


def note_left_out(n: int, limit: int, source: str) -> str:
    """Says that a file has more; empty where it has not."""
    return f"The first {limit} of {n}; {source} has all." if n > limit else ""


KINDS = {"queries": "queries", "modified_share": "share of words changed", "epsilon": "epsilon, token norms"}
"""What budgets count, as axes name it."""


def draw_curve(curves: pd.DataFrame, arms: dict[str, str], names: tuple[str, str]) -> Callable[[Axes], None]:
    """Robust accuracy against the budget of one test set, attack and kind of budget.

    Args:
        curves: curves.csv's rows of one panel.
        arms: `full` or `peft` by checkpoint.
        names: Of reference and candidate.
    """
    reach, kind = float(curves["budget"].max()), str(curves["budget_kind"].iloc[0])
    lines = arm_lines(names)

    def draw(axes: Axes) -> None:
        soften(axes, grid="y")
        for checkpoint, curve in curves.groupby("checkpoint", sort=False):
            _curve(axes, curve, lines[arms[str(checkpoint)]], reach)
        if kind == "queries" and reach > 60:
            axes.set_xscale("symlog", linthresh=10)
        axes.xaxis.set_major_formatter(PLAIN)
        axes.set_ylim(0, 100)
        axes.set_xlim(0, reach or 1)  # all may break at a budget of none
        axes.set_xlabel(KINDS.get(kind, kind), fontsize=9)

    return draw


def _curve(axes: Axes, curve: pd.DataFrame, arm: ArmLine, reach: float) -> None:
    ordered = curve.sort_values("budget")
    x = np.append(ordered["budget"].to_numpy(dtype=float), reach)
    values = {
        name: 100 * np.append(ordered[name].to_numpy(dtype=float), ordered[name].iloc[-1])
        for name in ("robust_accuracy", "low", "high")
    }
    axes.fill_between(x, values["low"], values["high"], step="post", color=arm.colour, alpha=0.13, linewidth=0)
    (line,) = axes.step(
        x, values["robust_accuracy"], where="post", color=arm.colour, linewidth=1.7, linestyle=arm.dashes
    )
    left = values["robust_accuracy"]
    half = next((f"; half of that is gone at {b:g}" for b, v in zip(x, left, strict=True) if v <= left[0] / 2), "")
    explain(line, f"{arm.name}: {left[0]:.1f} % before, {left[-1]:.1f} % at {reach:g}{half}")


def draw_distribution(values: dict[str, Any], names: tuple[str, str]) -> Callable[[Axes], None]:
    """The values of both arms on the same examples, one above the other.

    Args:
        values: Finite and ascending, by `full` and `peft`.
        names: Of reference and candidate.
    """
    lines = arm_lines(names)
    columns = [column for column in values.values() if len(column)]
    is_wide = all(column[0] > 0 for column in columns) and any(column[-1] > 20 * column[0] for column in columns)

    def draw(axes: Axes) -> None:
        soften(axes)
        if is_wide:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(PLAIN)
        for height, (role, column) in enumerate(values.items()):
            place = axes.get_yaxis_transform()
            axes.text(-0.1, height - 0.42, lines[role].name, transform=place, va="bottom", color=lines[role].colour)
            _distribution(axes, column, height, lines[role])
        axes.set_ylim(1.5, -0.85)
        axes.set_yticks([])

    return draw


def _distribution(axes: Axes, column: Any, height: float, arm: ArmLine) -> None:
    if not len(column):
        return
    shown = column if len(column) <= MAX_POINTS else np.quantile(column, np.linspace(0, 1, MAX_POINTS))
    spread = height + 0.24 * np.sin(np.arange(len(shown)) * 2.399963)  # golden angle: even, and the same every time
    axes.plot(shown, spread, arm.marker, color=arm.colour, markersize=3, alpha=0.4, markeredgewidth=0)
    low, middle, high = np.quantile(column, [0.25, 0.5, 0.75])
    (bar,) = axes.plot([low, high], [height, height], color=INK, linewidth=2.4, solid_capstyle="round")
    (ring,) = axes.plot(middle, height, "o", color=PAPER, markeredgecolor=INK, markersize=6)
    for artist in (bar, ring):
        explain(artist, f"{arm.name}: median {middle:.3g}, middle half {low:.3g} to {high:.3g}, n = {len(column)}")


def draw_depth(layers: pd.DataFrame, arms: dict[str, str], names: tuple[str, str]) -> Callable[[Axes], None]:
    """One probe's value by depth, the mean over the modules of a layer.

    Args:
        layers: layers.csv's rows of one panel.
        arms: `full` or `peft` by checkpoint.
        names: Of reference and candidate.
    """
    lines = arm_lines(names)

    def draw(axes: Axes) -> None:
        soften(axes, grid="y")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(PLAIN)
        for checkpoint, role in arms.items():
            depth = layers[layers["checkpoint"] == checkpoint].groupby("layer")["value"].mean()
            if len(depth):
                arm, at = lines[role], depth.index.to_numpy(dtype=float)
                values = depth.to_numpy(dtype=float)
                (line,) = axes.plot(at, values, arm.marker, color=arm.colour, ls=arm.dashes, ms=4)
                said = "; ".join(f"layer {layer:g}: {value:.3g}" for layer, value in depth.items())
                explain(line, f"{arm.name}, {said}")
        axes.set_xlabel("layer", fontsize=9)

    return draw
