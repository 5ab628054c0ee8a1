"""The slope chart: what both arms have right without an attack and under each, as SVG in the page's colours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from robustness.reports.page.first_screen.labels import Box, Obstacles, Point, choose_place, text_width, wrap
from robustness.reports.page.first_screen.places import TestsetPlaces
from robustness.reports.summaries.arms import Arms
from robustness.reports.summaries.kept import Both
from robustness.reports.summaries.wording import percent
from robustness.reports.visible import visible

WIDTH = 390.0
"""Units of the drawing, each about a pixel; charts of many columns are wider."""
PLOT_TOP, PLOT_HEIGHT = 30.0, 190.0
AXIS = 34.0
"""Left of the first column, the scale."""
RIGHT = 40.0
MIN_GAP = 60.0
SIZE = 12.0
VALUE_SIZE = 12.5
VALUE_HEIGHT = 13.0
FAR = 30.0
"""Between the points of a column from which each has a label of its own."""
LINE_HEIGHT = 14.0
MARK = 6.5
"""Half the height of a point's mark."""
TILT = math.radians(38)
MAX_LINES = 3
TILTED_WIDTH = 150.0
"""Of a tilted name's line; longer names take a second."""


@dataclass(frozen=True, slots=True)
class SlopeColumn:
    """One column of the chart."""

    name: str
    values: Both
    hint: str
    """What its tooltip says beside the numbers."""


@dataclass(frozen=True, slots=True)
class NameLabel:
    """A column's name below the axis."""

    lines: tuple[str, ...]
    x: float
    is_tilted: bool


@dataclass(frozen=True, slots=True)
class ValueLabel:
    """One number, or both of a column: beside each other, or where columns are close, the upper number on top."""

    lines: tuple[tuple[tuple[str, str], ...], ...]
    """Lines of numbers, each with its arm's style."""
    box: Box


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything of a slope chart lies."""

    width: float
    height: float
    left: float
    points: tuple[tuple[Point, Point], ...]
    """Of each column, the reference's and the candidate's."""
    names: tuple[NameLabel, ...]
    values: tuple[ValueLabel, ...]


def slope_columns(places: TestsetPlaces) -> list[SlopeColumn]:
    """Returns the columns of a chart: clean accuracy where it is known, then what was compared."""
    start = [] if places.clean is None else [SlopeColumn("no attack", places.clean, "clean texts")]
    return start + [SlopeColumn(visible(p.name), p.values, f"{p.n:,} examples") for p in places.compared]


def draw_slopes(columns: Sequence[SlopeColumn], arms: Arms, label: str) -> Markup:
    """Returns the chart; every point has its numbers as a tooltip.

    Args:
        columns: At least two.
        arms: What to call the arms.
        label: What a screen reader says.
    """
    laid = lay_out(columns)
    parts = [*_scale(laid), *_lines(laid), *_marks(laid, columns, arms), *_names(laid), *_values(laid)]
    head = (
        f'<svg class="slopes" role="img" aria-label="{escape(label)}" viewBox="0 0 {laid.width:g} {laid.height:g}" '
        f'style="max-width:{1.2 * laid.width:g}px;min-width:{max(280.0, 0.72 * laid.width):g}px">'
    )
    return Markup(head + "".join(parts) + "</svg>")  # names are escaped where they are written


def lay_out(columns: Sequence[SlopeColumn]) -> Layout:
    """Returns where the points and labels of a chart lie, no label on another label or on a point."""
    gap = max(MIN_GAP, (WIDTH - AXIS - RIGHT - 20) / max(1, len(columns) - 1))
    straight = [wrap(column.name, gap - 8, SIZE) for column in columns]
    fits = all(len(lines) <= MAX_LINES and _widest(lines) <= gap - 6 for lines in straight)
    lines = straight if fits else [wrap(column.name, TILTED_WIDTH, SIZE) for column in columns]
    left = max(AXIS + 20, _widest(lines[0]) / 2 + 2)
    if not fits:  # names reach to the left of their columns
        reach = (_widest(each) * math.cos(TILT) - place * gap for place, each in enumerate(lines))
        left = max(left, *reach) + 4
    half = 0.0 if not fits else _widest(lines[-1]) / 2 + 4
    width = left + gap * (len(columns) - 1) + max(RIGHT, half)
    below = (
        LINE_HEIGHT * max(map(len, lines)) + 8
        if fits
        else max(_widest(each) * math.sin(TILT) + LINE_HEIGHT * len(each) for each in lines) + 12
    )
    points = tuple(((x, _y(c.values[0])), (x, _y(c.values[1]))) for x, c in _placed(columns, left, gap))
    names = tuple(NameLabel(tuple(each), x, not fits) for each, (x, _) in zip(lines, points_x(points), strict=True))
    height = PLOT_TOP + PLOT_HEIGHT + below + 6
    return Layout(width, height, left, points, names, tuple(_place_values(columns, points, width, gap)))


def points_x(points: Sequence[tuple[Point, Point]]) -> Iterator[tuple[float, int]]:
    """Yields the place of each column, and its number."""
    for number, ((x, _), _) in enumerate(points):
        yield x, number


def _placed(columns: Sequence[SlopeColumn], left: float, gap: float) -> Iterator[tuple[float, SlopeColumn]]:
    for number, column in enumerate(columns):
        yield left + gap * number, column


def _y(value: float) -> float:
    return PLOT_TOP + PLOT_HEIGHT * (1 - value)


def _widest(lines: Sequence[str]) -> float:
    return max(text_width(line, SIZE) for line in lines)


def _place_values(
    columns: Sequence[SlopeColumn], points: Sequence[tuple[Point, Point]], width: float, gap: float
) -> Iterator[ValueLabel]:
    room = Box(AXIS - 8, 1, width - 1, PLOT_TOP + PLOT_HEIGHT + 1)
    marks = [Box(x - MARK, y - MARK, x + MARK, y + MARK) for both in points for x, y in both]
    lines = [(before[arm], after[arm]) for before, after in pairwise(points) for arm in (0, 1)]
    taken: list[Box] = []
    for column, both in zip(columns, points, strict=True):
        for near, spelled in _group_values(column.values, both, gap):
            wide = max(text_width(" / ".join(text for _, text in line), VALUE_SIZE) for line in spelled)
            size = wide + 4, VALUE_HEIGHT * len(spelled) + 2
            box = choose_place(_candidates(near, size), Obstacles(room, [*marks, *taken], lines))
            taken.append(box)
            yield ValueLabel(spelled, box)


Spelled = tuple[tuple[tuple[str, str], ...], ...]


def _group_values(values: Both, both: tuple[Point, Point], gap: float) -> Iterator[tuple[Sequence[Point], Spelled]]:
    """Both numbers in one label where the points are close, in two lines where columns are; else two labels."""
    styled = [("ref", f"{100 * values[0]:.0f}"), ("cand", f"{100 * values[1]:.0f}")]
    if abs(both[0][1] - both[1][1]) > FAR:
        for point, each in zip(both, styled, strict=True):
            yield [point], ((each,),)
        return
    ordered = styled if both[0][1] <= both[1][1] else styled[::-1]
    beside = text_width(" / ".join(text for _, text in styled), VALUE_SIZE) + 4
    yield both, (tuple(styled),) if beside <= gap - 8 else tuple((each,) for each in ordered)


def _candidates(near: Sequence[Point], size: tuple[float, float]) -> Iterator[Box]:
    """Above, to the right, below, to the left; then higher and lower, as far as the room goes."""
    x, heights = near[0][0], [y for _, y in near]
    top, bottom = min(heights), max(heights)
    wide, high = size
    clear = MARK + 1
    for far in range(0, 200, 6):
        for left in (x - wide / 2, x - 2, x - wide + 2):
            yield Box(left, top - clear - far - high, left + wide, top - clear - far)
        for left in (x + clear, x - clear - wide):
            middle = (top + bottom) / 2
            for at in (middle - far, middle + far):
                yield Box(left, at - high / 2, left + wide, at + high / 2)
        for left in (x - wide / 2, x - wide + 2, x - 2):
            yield Box(left, bottom + clear + far, left + wide, bottom + clear + far + high)


def _scale(laid: Layout) -> Iterator[str]:
    for value in (0, 25, 50, 75, 100):
        y = _y(value / 100)
        yield f'<line class="rule" x1="{AXIS:g}" x2="{laid.width - 8:g}" y1="{y:g}" y2="{y:g}"/>'
        yield f'<text class="tick" x="{AXIS - 6:g}" y="{y + 4:g}" text-anchor="end">{value}</text>'


def _lines(laid: Layout) -> Iterator[str]:
    for arm, style in enumerate(("ref", "cand")):
        path = " ".join(f"{both[arm][0]:.1f},{both[arm][1]:.1f}" for both in laid.points)
        yield f'<polyline class="{style}" points="{path}"/>'


def _marks(laid: Layout, columns: Sequence[SlopeColumn], arms: Arms) -> Iterator[str]:
    for column, ((x, y0), (_, y1)) in zip(columns, laid.points, strict=True):
        reference, candidate = (
            f"<title>{escape(f'{column.name}: {visible(arm.short)} {percent(value)}, {column.hint}')}</title>"
            for arm, value in zip((arms.reference, arms.candidate), column.values, strict=True)
        )
        yield f'<circle class="ref" cx="{x:.1f}" cy="{y0:.1f}" r="4.5">{reference}</circle>'
        yield f'<path class="cand" d="M{x:.1f},{y1 - 6:.1f}l5.5,10h-11Z">{candidate}</path>'


def _names(laid: Layout) -> Iterator[str]:
    for name in laid.names:
        y = PLOT_TOP + PLOT_HEIGHT + 18
        turn = f' transform="rotate({-math.degrees(TILT):.0f} {name.x:.1f} {y:.1f})"' if name.is_tilted else ""
        anchor = "end" if name.is_tilted else "middle"
        lines = "".join(
            f'<tspan x="{name.x:.1f}" dy="{LINE_HEIGHT if number else 0:g}">{escape(line)}</tspan>'
            for number, line in enumerate(name.lines)
        )
        yield f'<text class="name" y="{y:.1f}" text-anchor="{anchor}"{turn}>{lines}</text>'


def _values(laid: Layout) -> Iterator[str]:
    for label in laid.values:
        x = (label.box.left + label.box.right) / 2
        for number, line in enumerate(label.lines):
            y = label.box.top + 11.5 + VALUE_HEIGHT * number
            joined = '<tspan class="slash"> / </tspan>'.join(
                f'<tspan class="{style}">{text}</tspan>' for style, text in line
            )
            yield f'<text class="value" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{joined}</text>'
