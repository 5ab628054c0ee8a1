"""The figures of the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from robustness.reports.page.svg import (
    FULL,
    INK,
    LINE,
    MUTED,
    NARROW,
    PAPER,
    PEFT,
    SAME,
    WIDE,
    page_style,
    soften,
    to_svg,
)
from robustness.reports.summaries.arms import Arms
from robustness.reports.visible import visible
from robustness.stats import CANDIDATE_FRAGILE, REFERENCE_FRAGILE, Verdict

PLANNED = ("test set", "attack")
"""Rows that are pairs.csv's own rows; all others explore."""
MARKERS = {
    **dict.fromkeys(CANDIDATE_FRAGILE, ">"),
    **dict.fromkeys(REFERENCE_FRAGILE, "<"),
    Verdict.LESS_ACCURATE: "D",
    Verdict.EQUIVALENT: "s",
    Verdict.INCONCLUSIVE: "o",
}
Draw = Callable[[float], Figure]


@dataclass(frozen=True, slots=True)
class Drawing:
    """One figure for wide and one for narrow windows."""

    wide: Markup
    narrow: Markup


def draw_both(draw: Draw, name: str, label: str) -> Drawing:
    """Draws a figure at both widths; `draw` takes inches."""
    with page_style():
        return Drawing(
            to_svg(draw(WIDE), f"{name}w", label),
            to_svg(draw(NARROW), f"{name}n", label),
        )


def draw_forest(rows: pd.DataFrame, margin: float, arms: Arms) -> Draw:
    """A forest plot of fragility.csv's rows, in points; first row on top, to the right the candidate is worse off."""
    sides = {-1: (arms.reference.short, FULL), 1: (arms.candidate.short, PEFT)}

    def draw(width: float) -> Figure:
        narrow = width < 6
        step = 0.42 if narrow else 0.27
        height = step * len(rows) + 0.95
        figure = Figure(figsize=(width, height))
        left = 0.02 if narrow else 0.47
        bottom = 0.55 / height
        axes = figure.add_axes((left, bottom, 0.96 - left, 1 - bottom - 0.3 / height))
        soften(axes)
        axes.axvspan(-100 * margin, 100 * margin, color=SAME, alpha=0.10, linewidth=0)
        axes.axvline(0, color=MUTED, linewidth=0.9)
        for y, row in enumerate(rows.itertuples()):
            _interval(axes, y, row)
            text = shorten(spell_place(row), 62 if narrow else 58, placeholder=" ...")
            colour = INK if row.where in PLANNED else MUTED
            inside = axes.get_yaxis_transform()
            if narrow:
                axes.text(0, y - 0.22, text, transform=inside, fontsize=9.5, va="bottom", color=colour)
            else:
                axes.text(-0.015, y, text, transform=inside, ha="right", va="center", color=colour)
        reach = 1.08 * max(5.0, *(100 * rows[["low", "high"]].abs().max()).fillna(0))
        axes.set_xlim(-reach, reach)
        axes.set_ylim(len(rows) - 0.4, -0.75 if narrow else -0.6)
        axes.set_yticks([])
        axes.set_xlabel("difference, percentage points")
        for side, (name, colour) in sides.items():
            label = f"{_clip(visible(name), 22)} worse off"
            axes.text(
                side * reach,
                1.005,
                f"{label} \u2192" if side > 0 else f"\u2190 {label}",
                transform=axes.get_xaxis_transform(),
                color=colour,
                fontsize=9.5,
                ha="right" if side > 0 else "left",
                va="bottom",
            )
        return figure

    return draw


THIRD = re.compile(r"\w+ \((.+) (?:words|mean score|bits)\)")
"""A third of a test set by length, margin or entropy, as fragility.csv names it."""


def spell_place(row: Any) -> str:
    """A row of fragility.csv in words, so that a part of a test set tells what it is a part by."""
    if row.where == "attack family":
        return f"{visible(str(row.what))} attacks, all test sets"
    if row.where == "test set":
        return f"{visible(str(row.what))}  \u00b7  as it stands"
    *place, part = visible(str(row.what)).split(" | ")
    third = THIRD.fullmatch(part)
    if third and row.where == "text length":
        part = f"{third[1]} words"
    elif third and row.where == "clean margin":
        part = f"clean score {third[1]}"
    elif third and row.where == "label entropy":
        part = f"label entropy {third[1]} bits"
    elif row.where in {"label", "method", "construction"}:
        part = f"made by {part}" if row.where == "method" else f"{row.where} {part}"
    return "  \u00b7  ".join([*place, part]).replace("<=", "\u2264")


def _interval(axes: Axes, y: float, row: Any) -> None:
    verdict = Verdict(row.verdict) if isinstance(row.verdict, str) and row.verdict else Verdict.INCONCLUSIVE
    colour = _colour(verdict, row.difference)
    axes.plot([100 * row.low, 100 * row.high], [y, y], color=colour, linewidth=1.6, solid_capstyle="round")
    face = PAPER if verdict is Verdict.INCONCLUSIVE else colour
    axes.plot(
        100 * row.difference,
        y,
        MARKERS[verdict],
        markersize=6.5,
        markerfacecolor=face,
        markeredgecolor=colour,
        markeredgewidth=1.4,
    )


def _clip(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "\u2026"


def _colour(verdict: Verdict, difference: float) -> str:
    """That of the arm a verdict is about."""
    if verdict is Verdict.LESS_ACCURATE:
        return PEFT if difference > 0 else FULL
    if verdict in CANDIDATE_FRAGILE:
        return PEFT
    if verdict in REFERENCE_FRAGILE:
        return FULL
    return SAME if verdict is Verdict.EQUIVALENT else MUTED


@dataclass(frozen=True, slots=True)
class ArmPoint:
    """One checkpoint at one place: clean and robust accuracy."""

    place: str
    arm: str
    """full or peft."""
    clean: float
    robust: float


def draw_scatter(points: Sequence[ArmPoint]) -> Draw:
    """Robust against clean accuracy, in percent; a line joins the two arms of a place."""

    def draw(width: float) -> Figure:
        size = min(width, 5.4)
        figure = Figure(figsize=(width if width < 6 else size + 2.4, size))
        right = 0.97 if width < 6 else size / (size + 2.4)
        axes = figure.add_axes((0.13 if width < 6 else 0.09, 0.13, right - 0.13, 0.84))
        soften(axes, grid="both")
        axes.plot([0, 100], [0, 100], color=LINE, linewidth=1)
        axes.text(
            97,
            98.5,
            "nothing lost",
            color=MUTED,
            fontsize=9,
            ha="right",
            va="bottom",
            rotation=45,
            rotation_mode="anchor",
        )
        labels: list[tuple[float, float, str]] = []
        for place in dict.fromkeys(point.place for point in points):
            here = [point for point in points if point.place == place]
            axes.plot([100 * p.clean for p in here], [100 * p.robust for p in here], color=MUTED, linewidth=0.8)
            for point in here:
                full = point.arm == "full"
                axes.plot(
                    100 * point.clean,
                    100 * point.robust,
                    "o" if full else "^",
                    color=FULL if full else PEFT,
                    markersize=7,
                    alpha=0.9,
                )
            last = max(here, key=lambda point: point.clean)
            labels.append((100 * last.clean, 100 * last.robust, place))
        if width >= 6:
            _spread_labels(axes, labels)
        axes.set_xlim(0, 101)
        axes.set_ylim(-3, 101)
        axes.set_xlabel("clean accuracy, %")
        axes.set_ylabel("robust accuracy, %")
        return figure

    return draw


def _spread_labels(axes: Axes, labels: list[tuple[float, float, str]]) -> None:
    """Names beside the axes, far enough apart to read, each with a line to its point."""
    gap = 4.2
    heights: list[float] = []
    ordered = sorted(labels, key=lambda label: (label[1], label[0]))
    for _, y, _ in ordered:
        heights.append(max(y, heights[-1] + gap if heights else -3))
    overflow = max(0.0, heights[-1] - 100) if heights else 0.0
    for (x, y, text), height in zip(ordered, heights, strict=True):
        axes.annotate(
            shorten(visible(text), 34, placeholder=" ..."),
            (x, y),
            (103, height - overflow),
            fontsize=9,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": LINE, "linewidth": 0.8},
        )


MAX_PANELS = 12
"""Of one figure."""
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")
"""Powers of ten without mathematical type, which the page does not set."""


def draw_curves(curves: pd.DataFrame, arms: dict[str, str], limit: int = MAX_PANELS) -> Draw:
    """Robust accuracy against the budget: a panel for each test set, attack and kind of budget.

    Args:
        curves: curves.csv's rows of one pair.
        arms: `full` or `peft` by checkpoint.
        limit: Panels drawn, the first.
    """
    kinds = {"queries": "queries", "modified_share": "share of words changed", "epsilon": "epsilon, token norms"}
    panels = list(_by_kind(curves).groupby(["testset", "attack", "budget_kind"], sort=False))[:limit]

    def draw(width: float) -> Figure:
        figure, grid = lay_out(len(panels), width, columns=3, height=2.25)
        for axes, ((testset, attack, kind), part) in zip(grid, panels, strict=True):
            soften(axes, grid="y")
            reach = float(part["budget"].max())
            for checkpoint, curve in part.groupby("checkpoint", sort=False):
                _curve(axes, curve, arms[str(checkpoint)], reach)
            if kind == "queries" and reach > 60:
                axes.set_xscale("symlog", linthresh=10)
                axes.xaxis.set_major_formatter(PLAIN)
            axes.set_ylim(0, 100)
            axes.set_xlim(0, reach or 1)
            axes.set_title(shorten(visible(f"{attack}, {testset}"), 40, placeholder=" ..."), fontsize=9.5)
            axes.set_xlabel(kinds.get(str(kind), str(kind)), fontsize=9)
        return figure

    return draw


def lay_out(count: int, width: float, *, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """Panels of one size, in one column on a telephone; margins in inches, which is faster than measuring text."""
    columns = 1 if width < 6 else min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width, height * rows))
    left, right, top, bottom = 0.5, 0.15, 0.34, 0.52
    axes = []
    for number in range(count):
        row, column = divmod(number, columns)
        box = (
            (column / columns) + left / width,
            1 - (row + 1) / rows + bottom / (height * rows),
            1 / columns - (left + right) / width,
            1 / rows - (top + bottom) / (height * rows),
        )
        axes.append(figure.add_axes(box))
    return figure, axes


def _by_kind(curves: pd.DataFrame) -> pd.DataFrame:
    """Panels of one kind of budget side by side."""
    testsets, kinds = list(dict.fromkeys(curves["testset"])), list(dict.fromkeys(curves["budget_kind"]))
    rank = curves["testset"].map(testsets.index) * len(kinds) + curves["budget_kind"].map(kinds.index)
    return curves.iloc[np.argsort(rank.to_numpy(), kind="stable")]


def _curve(axes: Axes, curve: pd.DataFrame, arm: str, reach: float) -> None:
    ordered = curve.sort_values("budget")
    x = np.append(ordered["budget"].to_numpy(dtype=float), reach)
    values = {
        name: 100 * np.append(ordered[name].to_numpy(dtype=float), ordered[name].iloc[-1])
        for name in ("robust_accuracy", "low", "high")
    }
    colour, style = (FULL, "-") if arm == "full" else (PEFT, (0, (5, 1.5)))
    axes.fill_between(x, values["low"], values["high"], step="post", color=colour, alpha=0.13, linewidth=0)
    axes.step(x, values["robust_accuracy"], where="post", color=colour, linewidth=1.7, linestyle=style)


def draw_probes(probed: pd.DataFrame, arms: dict[str, str], names: tuple[str, str], limit: int = MAX_PANELS) -> Draw:
    """Paired distributions: for each test set and probe, the values of both arms on the same examples.

    Args:
        probed: sensitivity_examples.csv's rows of one pair, with a column `quantity`.
        arms: `full` or `peft` by checkpoint.
        names: Of reference and candidate.
        limit: Panels drawn, the first.
    """
    panels = list(probed.groupby(["testset", "probe", "quantity"], sort=False, dropna=False))[:limit]

    def draw(width: float) -> Figure:
        figure, grid = lay_out(len(panels), width, columns=2, height=1.75)
        for axes, ((testset, probe, quantity), part) in zip(grid, panels, strict=True):
            soften(axes)
            values = {arm: _finite(part, checkpoint) for checkpoint, arm in arms.items()}
            positive = all((column > 0).all() for column in values.values() if len(column))
            if positive and any(len(column) and column.max() > 20 * column.min() for column in values.values()):
                axes.set_xscale("log")
                axes.xaxis.set_major_formatter(PLAIN)
                axes.xaxis.set_minor_formatter(NullFormatter())
            for height, (arm, column) in enumerate(values.items()):
                _distribution(axes, column, height, arm)
            axes.set_ylim(1.6, -0.6)
            axes.set_yticks([0, 1], list(map(visible, names)))
            name = str(probe) if pd.isna(quantity) else f"{probe}: {quantity}"
            axes.set_title(shorten(visible(f"{name}, {testset}"), 52, placeholder=" ..."), fontsize=9.5)
        return figure

    return draw


def _finite(part: pd.DataFrame, checkpoint: str) -> Any:
    column = part.loc[part["checkpoint"] == checkpoint, "value"].to_numpy(dtype=float)
    return np.sort(column[np.isfinite(column)])


def _distribution(axes: Axes, column: Any, height: float, arm: str) -> None:
    if not len(column):
        return
    colour = FULL if arm == "full" else PEFT
    shown = column if len(column) <= 200 else np.quantile(column, np.linspace(0, 1, 200))
    spread = height + 0.28 * np.sin(np.arange(len(shown)) * 2.399963)  # golden angle: even, and the same every time
    axes.plot(shown, spread, "o" if arm == "full" else "^", color=colour, markersize=3, alpha=0.35, markeredgewidth=0)
    low, middle, high = np.quantile(column, [0.25, 0.5, 0.75])
    axes.plot([low, high], [height, height], color=INK, linewidth=2.2, solid_capstyle="round")
    axes.plot(middle, height, "o", color=PAPER, markeredgecolor=INK, markersize=6)


def draw_layers(layers: pd.DataFrame, arms: dict[str, str], limit: int = MAX_PANELS) -> Draw:
    """Each probe's value by depth, over the modules of a layer.

    Args:
        layers: layers.csv's rows of one pair.
        arms: `full` or `peft` by checkpoint.
        limit: Panels drawn, the first.
    """
    panels = list(layers.groupby("probe", sort=False))[:limit]

    def draw(width: float) -> Figure:
        figure, grid = lay_out(len(panels), width, columns=2, height=2.2)
        for axes, (probe, part) in zip(grid, panels, strict=True):
            soften(axes, grid="y")
            for checkpoint, arm in arms.items():
                depth = part[part["checkpoint"] == checkpoint].groupby("layer")["value"].mean()
                colour, style = (FULL, "o-") if arm == "full" else (PEFT, "^--")
                axes.plot(depth.index.to_numpy(dtype=float), depth.to_numpy(dtype=float), style, color=colour)
            axes.set_title(shorten(visible(str(probe)), 52, placeholder=" ..."), fontsize=9.5)
            axes.set_xlabel("layer", fontsize=9)
        return figure

    return draw
