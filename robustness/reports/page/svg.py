"""Figures as SVG that takes the colours and the font of the page around it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
WIDE = 9.4
"""Inches of a figure on a screen: 677 points."""
NARROW = 4.1
"""On a telephone."""
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
        label: What a screen reader says.
    """
    buffer = io.StringIO()
    with rc_context(_STYLE):  # type: ignore[arg-type]
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style type=\"text/css\">.*?</style>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"(font: [^;\"']*?px)[^;\"]*", r"\1 var(--sans)", svg)
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    width, height = (float(size) for size in re.findall(r'(?:width|height)="([\d.]+)pt"', svg)[:2])
    head = (
        f'<svg class="figure" role="img" aria-label="{escape(label)}" viewBox="0 0 {width:g} {height:g}" '
        f'style="max-width:{width * 4 / 3:.0f}px" preserveAspectRatio="xMinYMin meet">'
    )
    return Markup(head + svg[svg.index(">") + 1 :])  # our own markup; matplotlib escaped the labels


def soften(axes: Axes, *, grid: Literal["both", "x", "y"] = "x") -> None:
    """Leaves of an axes frame what helps to read values."""
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0)
    axes.grid(axis=grid, color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
