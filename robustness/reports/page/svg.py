"""Figures as SVG that takes the colours and the font of the page around it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustness.reports.visible import visible

INK = "#101112"
MUTED = "#606162"
LINE = "#d0d1d2"
FULL = "#0072b2"
PEFT = "#d55e00"
SAME = "#009e73"
PAPER = "#fefefd"
_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    LINE: "line",
    FULL: "full",
    PEFT: "peft",
    SAME: "same",
    PAPER: "paper",
}
_TIP = "tip:"
"""Begins the id of an artist that has a tooltip."""
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "robustness",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "figure.facecolor": "none",
    "path.simplify": True,
}


@contextmanager
def page_style() -> Iterator[None]:
    """Draws in the page's style; labels are never read as mathematics."""
    with rc_context(_STYLE):  # type: ignore[arg-type]
        yield


def to_svg(figure: Figure, name: str, label: str) -> Markup:
    """Returns the figure for use inside HTML.

    Args:
        figure: Drawn under `page_style`.
        name: Letters and digits; makes its ids unlike those of other figures.
        label: What a screen reader says, and a tooltip where an artist has none of its own.
    """
    buffer = io.StringIO()
    with rc_context(_STYLE):  # type: ignore[arg-type]
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style type=\"text/css\">.*?</style>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(rf'<g id="{_TIP}([^"]*)">', r"<g><title>\1</title>", svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"<(?:path|use|g|text)\b[^>]*>", _round_numbers, svg)
    svg = _slim(svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    width, height = (float(size) for size in re.findall(r'(?:width|height)="([\d.]+)pt"', svg)[:2])
    head = (
        f'<svg class="figure" role="img" viewBox="0 0 {width:g} {height:g}" preserveAspectRatio="xMinYMin meet">'
        f"<title>{escape(label)}</title>"
    )
    return Markup(head + svg[svg.index(">") + 1 :])  # our own markup; matplotlib escaped the labels


def explain(artist: Artist, text: str) -> None:
    """Gives part of a figure a tooltip."""
    artist.set_gid(_TIP + visible(text))


_SLIM = (
    (re.compile(r"<!--.*?-->", re.DOTALL), ""),
    (re.compile(r'<path d="[^"]*" style="fill: none"/>'), ""),  # the frames around figure and axes
    (re.compile(r"font-family: [^;\"]*;? ?"), ""),  # the page's own
    (re.compile(r' transform="rotate\(-0 [^"]*\)"'), ""),
    (re.compile(r'<g id="[^"]*"'), "<g"),
    (re.compile(r"\s*\n\s*"), " "),
    (re.compile(r"> <"), "><"),
)
"""What no reader sees: half of what matplotlib writes."""


def _slim(svg: str) -> str:
    for pattern, instead in _SLIM:
        svg = pattern.sub(instead, svg)
    before = ""
    while before != svg:
        before, svg = svg, re.sub(r"<(g|defs)>\s*</\1>|<g ?/>", "", svg)
    return svg


def _round_numbers(tag: re.Match[str]) -> str:
    """Places of a picture to a hundredth of a point: nobody sees more, and it is half of the size."""
    return re.sub(r"(\d\.\d\d)\d+", r"\1", tag.group())


def soften(axes: Axes, *, grid: Literal["both", "x", "y"] = "x") -> None:
    """Leaves of an axes frame what helps to read values."""
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0)
    axes.grid(axis=grid, color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
