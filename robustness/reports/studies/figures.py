"""The figures of a study: each measure against trainable parameters or rows, and differences on the noise floor."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from robustness.reports.comparisons.methods import FULL as FULL_METHOD
from robustness.reports.page.panels import Panel
from robustness.reports.page.svg import FULL, INK, LINE, MUTED, PAPER, PEFT, SAME, explain, page_style, soften, to_svg
from robustness.reports.studies.layouts import short_count
from robustness.reports.studies.measures import Measure
from robustness.reports.studies.scores import Column
from robustness.reports.studies.trends import Dose, DoseTrend
from robustness.reports.summaries.wording import signed, span
from robustness.reports.visible import visible
from robustness.stats import CANDIDATE_FRAGILE, REFERENCE_FRAGILE, Verdict

WIDTH, HEIGHT = 4.9, 3.1
"""Inches: a telephone's width, and a third of a screen's."""
DIFFERENCES_WIDTH = 4.1
LEGEND_ACROSS, LEGEND_LINE = 4, 0.2
"""Names in a line of the legend below the axes, and its height in inches."""
MARKERS = "^sDvP*Xph<>d"
"""Of families, in order of appearance."""
MOST_ROWS = 14
"""Methods in one figure of differences."""


@dataclass(frozen=True, slots=True)
class _Group:
    """The points of one family or, over rows, of one method."""

    name: str
    doses: Column
    values: Column
    hints: tuple[str, ...]
    is_full: bool


def draw_doses(doses: pd.DataFrame, trends: Sequence[DoseTrend], name: str) -> Panel:
    """Returns one measure of one block against trainable parameters: seeds as points, slopes with their interval.

    Args:
        doses: Rows of doses.csv of one block and measure, pooled.
        trends: Of the same block and measure.
        name: Letters and digits, unlike those of other figures.
    """
    first = doses.iloc[0]
    groups = [_group(family, part, "trainable_parameters") for family, part in doses.groupby("family", sort=False)]
    axis = "trainable parameters, log scale"
    return _draw(groups, trends, Measure(first["measure"]), str(first["unit"]), axis, name)


def draw_rows(doses: pd.DataFrame, trends: Sequence[DoseTrend], name: str) -> Panel:
    """Returns one measure of one task and matching against training rows, a line for each method."""
    first = doses.iloc[0]
    groups = [_group(method, part, "rows") for method, part in doses.groupby("method", sort=False)]
    return _draw(groups, trends, Measure(first["measure"]), str(first["unit"]), "training rows, log scale", name)


def _group(name: object, part: pd.DataFrame, dose: str) -> _Group:
    return _Group(
        name=str(name),
        doses=part[dose].to_numpy(dtype=float),
        values=part["value"].to_numpy(dtype=float),
        hints=tuple(f"{row.method}, seed {row.train_seed:.0f}" for row in part.itertuples()),
        is_full=bool((part["family"] == FULL_METHOD).all()),
    )


def _draw(
    groups: Sequence[_Group], trends: Sequence[DoseTrend], measure: Measure, unit: str, axis: str, name: str
) -> Panel:
    factor = 1.0 if measure.is_ratio else 100.0
    with page_style():
        lines = -(-len(groups) // LEGEND_ACROSS)
        figure = Figure(figsize=(WIDTH, HEIGHT + LEGEND_LINE * lines), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log", base=2)
        if measure.is_ratio:
            axes.set_yscale("log", base=2)
        _floor_band(axes, groups, factor)
        for trend in trends:
            _line(axes, trend, factor)
        for group, marker in zip(groups, _markers(groups), strict=True):
            _points(axes, group, marker, factor)
        _finish(axes, groups, measure, axis)
        figure.legend(
            loc="outside lower left",
            ncols=LEGEND_ACROSS,
            frameon=False,
            fontsize=9,
            labelcolor=INK,
            handletextpad=0.2,
        )
        title = f"{measure.words} ({unit})" if measure.is_ratio else _axis(measure)
        return Panel(title, to_svg(figure, name, f"{title} against {axis}"))


def _axis(measure: Measure) -> str:
    return measure.words if measure.is_ratio else f"{measure.words}, %"


def _markers(groups: Sequence[_Group]) -> Iterator[str]:
    others = iter(MARKERS * (len(groups) // len(MARKERS) + 1))
    for group in groups:
        yield "o" if group.is_full else next(others)


def _floor_band(axes: Axes, groups: Iterable[_Group], factor: float) -> None:
    """Mean of full fine-tuning, and how far its seeds are apart: the root mean square of two."""
    for group in groups:
        if group.is_full and len(set(group.doses.tolist())) == 1:
            mean = float(group.values.mean()) * factor
            axes.axhline(mean, color=FULL, linewidth=0.8, linestyle=(0, (2, 2)))
            if len(group.values) > 1:
                apart = math.sqrt(2) * float(group.values.std(ddof=1)) * factor
                band = axes.axhspan(mean - apart, mean + apart, color=FULL, alpha=0.1, linewidth=0)
                explain(band, "two full checkpoints that only the seed distinguishes are this far apart")


def _points(axes: Axes, group: _Group, marker: str, factor: float) -> None:
    colour = FULL if group.is_full else PEFT
    varies = len(set(group.doses.tolist())) > 1
    for dose, value, hint in zip(group.doses, group.values * factor, group.hints, strict=True):
        point = axes.plot(
            dose,
            value,
            marker,
            color=colour,
            markerfacecolor=colour if varies or group.is_full else PAPER,
            markersize=5.5,
            markeredgewidth=1.1,
        )[0]
        explain(point, f"{hint}: {value:.3g}")
    handle = axes.plot([], [], marker, color=colour, markerfacecolor=colour if varies or group.is_full else PAPER)[0]
    handle.set_label(visible(group.name))


def _line(axes: Axes, trend: DoseTrend, factor: float) -> None:
    """The fitted line through the mean, and what its interval allows; none without an interval."""
    if not trend.slope.estimate.parts:
        return
    interval, doses = trend.slope.estimate.interval(), np.unique(trend.doses)
    middle, mean = trend.doses.mean(), trend.measured.scaled.mean()
    is_ratio = trend.measured.measure.is_ratio
    lines = [
        mean + slope * (doses - middle) for slope in (trend.slope.estimate.difference, interval.low, interval.high)
    ]
    shown = [np.exp2(line) if is_ratio else line * factor for line in lines]
    colour = FULL if all(arm.is_full for arm in trend.measured.arms) else PEFT
    axes.fill_between(np.exp2(doses), *shown[1:], color=colour, alpha=0.12, linewidth=0)
    line = axes.plot(np.exp2(doses), shown[0], color=colour, linewidth=1.4)[0]
    explain(line, f"{trend.series.name}: {trend.verdict.replace('-', ' ')}")


def _finish(axes: Axes, groups: Sequence[_Group], measure: Measure, axis: str) -> None:
    soften(axes, grid="y")
    doses = _apart(np.log2(np.unique(np.concatenate([group.doses for group in groups]))))
    axes.xaxis.set_major_locator(FixedLocator(list(np.exp2(doses))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([short_count(float(2**dose)) for dose in doses])
    if measure.is_ratio:  # a logarithmic axis has ticks at powers of two, of which a plot may have one
        low, high = axes.get_ylim()
        ticks = [tick for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high]
        axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}".replace("-", "\u2212"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(axis)
    axes.set_ylabel(_axis(measure))


def _apart(places: Column, share: float = 0.11) -> list[float]:
    """Places of which none is closer to the one before than a share of the whole."""
    kept = [float(places[0])]
    reach = float(places[-1] - places[0]) or 1.0
    for place in places[1:]:
        if place - kept[-1] >= share * reach:
            kept.append(float(place))
    return kept


def draw_differences(rows: pd.DataFrame, title: str, name: str) -> Panel:
    """Returns full minus each method on one cell, on the noise floor of full against full.

    Args:
        rows: Rows of study_table.csv of one block and cell, without full itself.
        title: Of the cell.
        name: Letters and digits, unlike those of other figures.
    """
    shown = rows.head(MOST_ROWS).iloc[::-1]
    places = np.arange(len(shown))
    first = shown.iloc[0]
    with page_style():
        figure = Figure(figsize=(DIFFERENCES_WIDTH, 0.8 + 0.27 * len(shown)), layout="constrained")
        axes = figure.subplots()
        if not pd.isna(first["noise_floor"]):
            reach = 100 * float(first["noise_floor"])
            band = axes.axvspan(-reach, reach, color=FULL, alpha=0.12, linewidth=0)
            explain(band, f"noise floor: two full checkpoints are {reach:.1f} points apart")
        axes.axvline(0, color=LINE, linewidth=1)
        for place, row in zip(places, shown.itertuples(), strict=True):
            is_tested = not pd.isna(row.p_adjusted)
            colour = _COLOURS.get(row.verdict, MUTED) if is_tested else MUTED
            axes.plot([100 * row.low, 100 * row.high], [place, place], color=colour, linewidth=2)
            point = axes.plot(100 * row.difference, place, "o", color=colour, markersize=5.5)[0]
            explain(point, f"{row.method}: {signed(row.difference)} points, {span(row.low, row.high)}")
        soften(axes)
        axes.set_yticks(places, [visible(text) for text in shown["method"]])
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.set_xlabel("full minus method, points", fontsize=9.5)
        return Panel(title, to_svg(figure, name, f"differences to full fine-tuning, {title}"))


_COLOURS = {
    **dict.fromkeys(CANDIDATE_FRAGILE, PEFT),
    **dict.fromkeys(REFERENCE_FRAGILE, FULL),
    Verdict.EQUIVALENT: SAME,
}


def trends_of(trends: Sequence[DoseTrend], dose: Dose, measure: Measure) -> list[DoseTrend]:
    """Returns the pooled trends of a dose and a measure."""
    return [
        each
        for each in trends
        if each.series.dose is dose and each.measured.measure is measure and each.measured.is_pooled
    ]
