"""Figures of one line a row: names that wrap, and a picture that takes the width there is."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator


@dataclass(frozen=True, slots=True)
class Mark:
    """A shape on a line."""

    at: float
    """Percent of the width."""
    shape: str
    """One of the page's symbols: circle, ring, up, left, right, square, diamond."""
    colour: str
    """A class of the page: full, peft, same or muted."""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Strip:
    """One row."""

    name: str
    marks: tuple[Mark, ...]
    title: str
    ends: tuple[float, float] | None = None
    """Of the interval, percent of the width."""
    shown: str = ""
    """The numbers in words, to the right."""
    is_planned: bool = True


@dataclass(frozen=True, slots=True)
class Tick:
    """A number below the rows."""

    at: float
    """Percent of the width."""
    shown: str


@dataclass(frozen=True, slots=True)
class Strips:
    """Rows on one axis."""

    name: str
    """Of the pair."""
    rows: tuple[Strip, ...]
    ticks: tuple[Tick, ...]
    zero: float
    """Where 0 is, percent of the width."""
    axis: str
    """What the axis is."""
    sides: tuple[str, str] = ("", "")
    """Who is worse off to the left and to the right."""
    band: tuple[float, float] | None = None
    """What counts as equal."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Scale:
    """A symmetric axis around 0."""

    reach: float

    def place(self, value: float) -> float:
        """Percent of the width.

        >>> Scale(10.0).place(5.0)
        75.0
        """
        return round(50 + 50 * value / self.reach, 2)

    def span(self, low: float, high: float) -> tuple[float, float]:
        """Both ends of an interval."""
        return self.place(low), self.place(high)

    def ticks(self, most: int = 6) -> tuple[Tick, ...]:
        """Round numbers within the axis."""
        values = [float(value) for value in MaxNLocator(most).tick_values(-self.reach, self.reach)]
        inside = [value for value in values if abs(value) <= 0.96 * self.reach]
        shown = [f"{value:+g}".replace("-", "\u2212") if value else "0" for value in inside]
        return tuple(Tick(self.place(value), text) for value, text in zip(inside, shown, strict=True))
