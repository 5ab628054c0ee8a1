"""Durations in words."""

from __future__ import annotations

UNITS = (("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, 172_800.0), ("days", 86_400.0, float("inf")))
"""Unit, its seconds, and the seconds from which the next unit is used."""


def spell_duration(seconds: float) -> str:
    """Returns a duration in two digits, the accuracy of an estimate.

    >>> [spell_duration(seconds) for seconds in (0.2, 99.6, 754, 12_600, 400_000)]
    ['1 s', '100 s', '13 min', '3.5 h', '4.6 days']
    """
    unit, length, _ = next(each for each in UNITS if seconds < each[2])
    value = max(1.0, float(f"{seconds / length:.2g}"))
    return f"{value:,g} {unit}" if unit in ("h", "days") else f"{value:,.0f} {unit}"
