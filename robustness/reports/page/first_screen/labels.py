"""Where labels of a chart go so that none lies on another: sizes of text, boxes, and the choice among places."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from robustness.reports.summaries.fitting import PIECES

Point = tuple[float, float]
Segment = tuple[Point, Point]
_STEPS = 24
"""Points of a segment that are looked at."""
_NARROW = frozenset("ijlftrI.,:;'|!()[]/ -\u2212")
_BROAD = frozenset("mwMW@%")


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, in the units of the chart; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Whether they have an area in common."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def is_crossed(self, segment: Segment) -> bool:
        """Whether a line runs through it."""
        (x0, y0), (x1, y1) = segment
        shares = (step / _STEPS for step in range(_STEPS + 1))
        return any(
            self.left <= x0 + share * (x1 - x0) <= self.right and self.top <= y0 + share * (y1 - y0) <= self.bottom
            for share in shares
        )

    def is_within(self, other: Box) -> bool:
        """Whether all of it lies in another."""
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.top <= self.top
            and self.bottom <= other.bottom
        )


def text_width(text: str, size: float) -> float:
    """Returns how wide a text is at most in the fonts that the page asks for, in the unit of its size.

    >>> text_width("ill", 10) < text_width("www", 10)
    True
    """
    return size * sum(map(_em, text))


def _em(character: str) -> float:
    """The widths of DejaVu Sans, the broadest of the page's fonts, rounded up."""
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    if character in _NARROW:
        return 0.42
    if character in _BROAD:
        return 1.0
    return 0.76 if character.isupper() else 0.66


def wrap(name: str, width: float, size: float) -> list[str]:
    """Returns a name in lines of at most that width where its pieces allow it, broken after hyphens and blanks.

    >>> wrap("universal-trigger", 70, 11)
    ['universal-', 'trigger']
    """
    lines = [""]
    for piece in PIECES.findall(name):
        if lines[-1] and text_width((lines[-1] + piece).rstrip(), size) > width:
            lines.append("")
        lines[-1] = (lines[-1] + piece).lstrip()
    return [line.rstrip() for line in lines if line.strip()]


@dataclass(frozen=True, slots=True)
class Obstacles:
    """What a label must keep clear of."""

    room: Box
    """It must lie in here,"""
    boxes: Sequence[Box]
    """must not lie on these,"""
    lines: Sequence[Segment]
    """and should not lie on these."""


def choose_place(places: Iterable[Box], obstacles: Obstacles) -> Box:
    """Returns the first place that is clear of everything, else of boxes with the fewest lines through it.

    Raises:
        ValueError: No place is clear of the boxes.
    """
    open_places = [
        (sum(map(place.is_crossed, obstacles.lines)), rank, place)
        for rank, place in enumerate(places)
        if place.is_within(obstacles.room) and not any(map(place.overlaps, obstacles.boxes))
    ]
    if not open_places:
        raise ValueError("expected a place that is clear of other labels and marks, found none")
    return min(open_places, key=lambda found: found[:2])[2]
