"""The gate: what twice the steps may still gain."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from robustness.sensitivity.convergence import GATE, not_converged
from robustness.sensitivity.measurement import Kind, Measurement, MeasurementStatus, Quantity
from robustness.sensitivity.probe import Reading
from robustness.testsets.example import Example

FOUND, OTHER = Quantity("found"), Quantity("other")


def readings(values: Sequence[float | None], kind: Kind = Kind.UPPER, norm: str = "l2") -> list[Reading]:
    status = {True: MeasurementStatus.NOT_CONVERGED, False: MeasurementStatus.OK}
    return [
        Reading(Measurement(FOUND, value, kind, norm=norm, status=status[value is None]), Example(str(n), ("a",), 0))
        for n, value in enumerate(values)
    ]


def verdict(before: Sequence[Reading], after: Sequence[Reading]) -> tuple[set[str], dict[str, float | None]]:
    checked = list(GATE.check(before, after, [FOUND]))
    statuses = {str(each.measurement.status) for each in checked if each.example is not None}
    return statuses, {r.measurement.quantity.name: r.measurement.value for r in checked if r.example is None}


@pytest.mark.parametrize(
    ("after", "status", "gains"),
    [
        ([0.981] * 8, "ok", (0.019, 0.019)),
        ([0.97] * 8, "not-converged", (0.03, 0.03)),
        ([1.0] * 7 + [0.86], "ok", (0, 0.14)),
        ([1.0] * 7 + [0.84], "not-converged", (0, 0.16)),
        ([1.1] * 8, "ok", (0, 0)),
    ],
)
def test_an_upper_bound_may_fall_by_two_percent_at_the_median_and_fifteen_at_most(
    after: list[float], status: str, gains: tuple[float, float]
) -> None:
    statuses, found = verdict(readings([1.0] * 8), readings(after))

    assert statuses == {status}
    assert list(found.values()) == pytest.approx(list(gains), abs=1e-9)


def test_a_lower_bound_gains_where_it_rises() -> None:
    low = readings([2.0] * 8, Kind.LOWER)

    assert verdict(low, readings([1.0] * 8, Kind.LOWER))[0] == {"ok"}
    statuses, found = verdict(low, readings([2.1] * 8, Kind.LOWER))
    assert statuses == {"not-converged"}
    assert found["check-gain-of-twice-the-steps"] == pytest.approx(0.05)


def test_what_only_twice_the_steps_find_is_a_whole_gain() -> None:
    statuses, found = verdict(readings([1.0] * 7 + [None]), readings([1.0] * 8))

    assert statuses == {"not-converged"}
    assert found["check-worst-gain-of-twice-the-steps"] == 1


def test_each_norm_is_judged_by_itself() -> None:
    both = readings([1.0] * 8) + readings([1.0] * 8, norm="linf")
    after = readings([1.0] * 8) + readings([0.5] * 8, norm="linf")

    checked = list(GATE.check(both, after, [FOUND]))

    statuses = {(r.measurement.norm, str(r.measurement.status)) for r in checked if r.example is not None}
    assert statuses == {("l2", "ok"), ("linf", "not-converged")}
    assert "50.0%" in next(r.measurement.reason for r in checked if r.measurement.reason)


def test_the_search_runs_again_on_the_first_eight_examples_with_a_number_above_zero() -> None:
    found = [each.id for each in GATE.choose(readings([0.0, None] + [1.0] * 9), FOUND)]

    assert found == [str(n) for n in range(2, 10)]
    assert GATE.choose(readings([1.0]), OTHER) == []


def test_a_status_that_says_more_is_kept() -> None:
    vacuous = Measurement(FOUND, 1.0, Kind.UPPER, status=MeasurementStatus.VACUOUS)

    assert not_converged(vacuous, "why") is vacuous
