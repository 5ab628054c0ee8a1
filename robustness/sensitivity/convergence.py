"""Convergence of a search: its gain from twice the steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import final

from robustness.sensitivity.measurement import Kind, Measurement, MeasurementStatus, Quantity
from robustness.sensitivity.probe import Reading
from robustness.testsets.example import Example

MEDIAN_GAIN = Quantity("check-gain-of-twice-the-steps", "share")
WORST_GAIN = Quantity("check-worst-gain-of-twice-the-steps", "share")


@final
@dataclass(frozen=True, slots=True)
class ConvergenceGate:
    """Voids a search's results on an arm if twice the steps find clearly more.

    The gain of an upper bound is 1 - after / before; the gain of a lower bound is after / before - 1. Both are at
    least 0, so a search that happens to find less gains nothing. A result found only with twice the steps gains
    everything.
    """

    examples: int = 8
    """Examples on which the search runs again; a reading of the whole covers at least as many."""
    max_median: float = 0.02
    max_worst: float = 0.15

    def choose(self, readings: Iterable[Reading], quantity: Quantity) -> list[Example]:
        """Returns the first examples on which the search found a number above 0, once each."""
        chosen = {
            reading.example.id: reading.example
            for reading in readings
            if reading.example is not None and reading.measurement.quantity == quantity and reading.measurement.value
        }
        return list(chosen.values())[: self.examples]

    def check(
        self, readings: Sequence[Reading], longer: Iterable[Reading], searched: Sequence[Quantity]
    ) -> Iterator[Reading]:
        """Yields the readings, those searched for `not-converged` where the gains are too large, then the gains.

        Numbers of different norm, scope and radius come from different searches and are judged separately.

        Args:
            readings: the results of one arm's search, among other readings.
            longer: its results with twice the steps, on some of the examples.
            searched: the compared quantity, and the quantities derived from it.
        """
        after = {_place(reading): reading.measurement.value for reading in longer}
        gains: dict[tuple[object, ...], list[float]] = {}
        for reading in readings:
            if reading.measurement.quantity == searched[0] and _place(reading) in after:
                gain = _gain(reading.measurement, after[_place(reading)])
                gains.setdefault(_search(reading), []).append(gain)
        for reading in readings:
            reason = self._reason(gains.get(_search(reading), [])) if reading.measurement.quantity in searched else ""
            yield replace(reading, measurement=not_converged(reading.measurement, reason)) if reason else reading
        for place, found in gains.items():
            first = next(reading.measurement for reading in readings if _search(reading) == place)
            for quantity, value in ((MEDIAN_GAIN, median(found)), (WORST_GAIN, max(found))):
                yield Reading(
                    Measurement(
                        quantity, value, Kind.ESTIMATE, first.target, first.norm, first.scope, radius=first.radius
                    )
                )

    def _reason(self, gains: Sequence[float]) -> str:
        if not gains or (median(gains) <= self.max_median and max(gains) <= self.max_worst):
            return ""
        if len(gains) == 1:
            return f"twice the steps gain {gains[0]:.1%}: at most {self.max_median:.0%} counts as converged"
        return (
            f"twice the steps gain {median(gains):.1%} at the median and {max(gains):.1%} at most, of {len(gains)} "
            f"examples: at most {self.max_median:.0%} and {self.max_worst:.0%} count as converged"
        )


GATE = ConvergenceGate()


def not_converged(measured: Measurement, reason: str) -> Measurement:
    """Returns an ok measurement as `not-converged`: a bound is still valid, but may be far from tight."""
    if measured.status is not MeasurementStatus.OK:
        return measured
    return replace(measured, status=MeasurementStatus.NOT_CONVERGED, reason=reason)


def _gain(before: Measurement, after: float | None) -> float:
    if before.value is None:
        return 0.0 if after is None else 1.0
    if after is None or before.value == 0:
        return 0.0 if not after else 1.0
    ratio = after / before.value
    return max(0.0, 1 - ratio if before.kind is Kind.UPPER else ratio - 1)


def _search(reading: Reading) -> tuple[object, ...]:
    measured = reading.measurement
    return measured.norm, measured.scope, measured.radius


def _place(reading: Reading) -> tuple[object, ...]:
    example = None if reading.example is None else reading.example.id
    return (*_search(reading), reading.measurement.quantity, example)
