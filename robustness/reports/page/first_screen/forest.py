"""The forest of comparisons: rows of names, intervals on two bands, and numbers, that stretch with the window."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from robustness.reports.page.first_screen.places import Place
from robustness.reports.summaries.arms import Arms, spell_verdict
from robustness.reports.summaries.wording import percent, points, signed, signed_points, span
from robustness.reports.visible import visible
from robustness.stats import CANDIDATE_FRAGILE, REFERENCE_FRAGILE, Verdict

HEIGHT = 34
"""Pixels of a row's strip."""
SHAPES = {
    "candidate": "M-5,-6L7,0L-5,6Z",
    "reference": "M5,-6L-7,0L5,6Z",
    "less": "M0,-7L7,0L0,7L-7,0Z",
    "equal": "M-5.5,-5.5H5.5V5.5H-5.5Z",
    "open": "M-5.5,0a5.5,5.5 0 1,0 11,0a5.5,5.5 0 1,0 -11,0Z",
}
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5)
MOST_TICKS = 3
"""On either side of 0."""


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One comparison as the template shows it."""

    name: str
    note: str
    """Below the name: a test set, a pair; empty where all rows share it."""
    is_planned: bool
    strip: Markup
    number: str
    interval: str
    verdict: str
    """Empty where the comparison leaves it open."""
    style: str
    """Of the number and the verdict: the arm that is worse off, `equal` or nothing."""


@dataclass(frozen=True, slots=True)
class Forest:
    """Rows, and the scale below them."""

    rows: tuple[ForestRow, ...]
    axis: Markup
    left: str
    """What it means to lie on the left."""
    right: str
    unit: str
    equal: str = ""
    """The band that counts as equal, in words; empty without one."""
    unseen: str = ""
    """The band that is too small to be found, in words; empty without one."""


@dataclass(frozen=True, slots=True)
class Scale:
    """From a number to a place across the strip."""

    reach: float
    """The number at the right edge; the left edge is its negative."""

    def across(self, value: float) -> str:
        """In percent of the width, ends included.

        >>> Scale(0.2).across(0.1)
        '75%'
        """
        share = 50 + 50 * max(-1.0, min(1.0, value / self.reach))
        return f"{share:.2f}".rstrip("0").rstrip(".") + "%"


def make_forest(places: Sequence[tuple[Place, str]], arms: Arms, margin: float) -> Forest:
    """Returns the forest of these comparisons.

    Args:
        places: Each with the note below its name.
        arms: What to call the arms; to the right the candidate is worse off.
        margin: The difference that counts as equal, a fraction.
    """
    scale = Scale(_reach([place for place, _ in places], margin))
    rows = tuple(_row(place, note, arms, margin, scale) for place, note in places)
    unseen = [place.detectable for place, _ in places if not math.isnan(place.detectable)]
    seeds = {place.n_seeds for place, _ in places}
    over = f" over {max(seeds)} seeds" if max(seeds) > 1 else ""
    return Forest(
        rows,
        _axis(scale),
        f"{arms.reference.short} worse off",
        f"{arms.candidate.short} worse off",
        f"{visible(arms.reference.short)} \u2212 {visible(arms.candidate.short)}, percentage points of accuracy, "
        f"95 % interval{over if len(seeds) == 1 else ', over seeds where a name has them'}",
        f"counts as equal (\u00b1{_bare(margin)})",
        f"too small for this run to find ({_range(unseen)})" if unseen else "",
    )


def _reach(places: Sequence[Place], margin: float) -> float:
    ends = [abs(end) for p in places for end in (p.low, p.high, p.detectable) if not math.isnan(end)]
    return min(1.0, 1.1 * max(2 * margin, *ends)) if ends else max(0.05, 2 * margin)


def _range(unseen: Sequence[float]) -> str:
    low, high = _bare(min(unseen)), _bare(max(unseen))
    return f"\u00b1{low}" if low == high else f"\u00b1{low} to \u00b1{high}"


def _bare(value: float) -> str:
    return points(value).split(" ")[0]


def _row(place: Place, note: str, arms: Arms, margin: float, scale: Scale) -> ForestRow:
    kind, style = _kind(place)
    verdict = _word(place, arms)
    values = " and ".join(
        f"{visible(arm.short)} {percent(value)}"
        for arm, value in zip((arms.reference, arms.candidate), place.values, strict=True)
    )
    interval = f"95 % interval {span(place.low, place.high)}, {place.n:,} examples"
    spoken = f"{visible(place.name)}: {values}; {signed_points(place.difference)}, {interval}"
    spoken += f"; {verdict}" if verdict else ""
    bands = [_band("equal", margin, scale)]
    if not math.isnan(place.detectable):
        bands.insert(0, _band("unseen", place.detectable, scale))
    body = [*bands, *_interval(place.low, place.high, scale, style), _mark(kind, place.difference, scale, style)]
    return ForestRow(
        name=visible(place.name),
        note=visible(note),
        is_planned=place.is_planned,
        strip=_strip(body, spoken),
        number=signed(place.difference),
        interval=span(place.low, place.high),
        verdict=verdict,
        style=style,
    )


def _kind(place: Place) -> tuple[str, str]:
    """The shape of a mark, and whose colour it has."""
    worse = "cand" if place.difference > 0 else "ref"
    if place.verdict in CANDIDATE_FRAGILE:
        return "candidate", "cand"
    if place.verdict in REFERENCE_FRAGILE:
        return "reference", "ref"
    if place.verdict is Verdict.LESS_ACCURATE:
        return "less", worse
    return ("equal", "same") if place.verdict is Verdict.EQUIVALENT else ("open", "")


def _word(place: Place, arms: Arms) -> str:
    if place.verdict is None or place.verdict is Verdict.INCONCLUSIVE:
        return ""
    if place.verdict is Verdict.EQUIVALENT:
        return "equal"
    return visible(spell_verdict(place.verdict, arms, place.difference))


def draw_strip(ends: tuple[float, float, float], scale: Scale, kind: str, style: str, spoken: str) -> Markup:
    """Returns an interval without bands; its ends are the lower end, the value and the upper end."""
    low, value, high = ends
    return _strip([*_interval(low, high, scale, style), _mark(kind, value, scale, style)], spoken)


def _strip(body: Sequence[str], spoken: str) -> Markup:
    zero = f'<line class="zero" x1="50%" x2="50%" y1="0" y2="{HEIGHT}"/>'
    first = len([part for part in body if part.startswith("<rect")])
    inside = "".join([*body[:first], zero, *body[first:]])
    said = escape(spoken)
    return Markup(
        f'<svg class="strip" role="img" aria-label="{said}" width="100%" height="{HEIGHT}"><title>{said}</title>'
        f"{inside}</svg>"
    )


def _band(style: str, half: float, scale: Scale) -> str:
    left, right = (float(scale.across(side * half).rstrip("%")) for side in (-1, 1))
    return f'<rect class="{style}" x="{left:g}%" width="{right - left:g}%" y="0" height="{HEIGHT}"/>'


def _interval(low: float, high: float, scale: Scale, style: str) -> Iterator[str]:
    if not math.isnan(low + high):
        y = HEIGHT / 2
        ends = f'x1="{scale.across(low)}" x2="{scale.across(high)}"'
        yield f'<line class="interval {style}" {ends} y1="{y:g}" y2="{y:g}"/>'


def _mark(kind: str, value: float, scale: Scale, style: str) -> str:
    shape = f'<path class="mark {kind} {style}" d="{SHAPES[kind]}"/>'
    return f'<svg x="{scale.across(value)}" y="{HEIGHT / 2:g}" overflow="visible">{shape}</svg>'


def _axis(scale: Scale) -> Markup:
    step = next((each for each in STEPS if scale.reach / each < MOST_TICKS), 0.5)
    count = int(0.94 * scale.reach / step)
    return draw_axis([step * tick for tick in range(-count, count + 1)], scale, lambda tick: f"{100 * tick:+.0f}")


def draw_axis(ticks: Sequence[float], scale: Scale, spell: Callable[[float], str]) -> Markup:
    """Returns the numbers below the strips."""
    words = ("0" if spell(tick) in ("+0", "-0") else spell(tick).replace("-", "\u2212") for tick in ticks)
    marks = (
        f'<text x="{scale.across(tick)}" y="14" text-anchor="middle">{escape(word)}</text>'
        for tick, word in zip(ticks, words, strict=True)
    )
    return Markup(f'<svg class="axis" aria-hidden="true" width="100%" height="18">{"".join(marks)}</svg>')
