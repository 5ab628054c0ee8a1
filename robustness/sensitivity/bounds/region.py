"""The region around a text in which a certificate's forms must be valid."""

from __future__ import annotations

REACH = 0.5
"""The largest stacked length X of the deviations: every form dominates wherever X is at most this."""
SMALLEST = 1e-12
"""Least weight in a form, so that weights can be divided by."""


def least_weight(cap: float) -> float:
    """Returns the weight w at which w t^2 <= REACH^2 keeps |t| within a cap."""
    return (REACH / cap) ** 2
