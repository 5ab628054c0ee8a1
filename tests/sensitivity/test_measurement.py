from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

import robustness.sensitivity
from robustness.errors import ProbeError
from robustness.sensitivity.measurement import (
    Bracket,
    Kind,
    Measurement,
    MeasurementStatus,
    Quantity,
    Target,
    measure,
)

RADIUS = Quantity("radius", "embedding")


def number(value: float, kind: Kind, target: Target = Target.F, norm: str = "l2") -> Measurement:
    alpha = 0.001 if kind is Kind.CERT_PROB else None
    return Measurement(RADIUS, value, kind, target=target, norm=norm, alpha=alpha)


def test_a_measurement_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        number(1.0, Kind.EXACT).value = 2.0  # type: ignore[misc]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_is_not_finite(value: float) -> None:
    with pytest.raises(ProbeError, match="not finite"):
        Measurement(RADIUS, value, Kind.EXACT)

    errored = measure(RADIUS, value, Kind.EXACT)
    assert errored.value is None and errored.status is MeasurementStatus.ERRORED and errored.reason


def test_what_has_no_value_says_why() -> None:
    with pytest.raises(ProbeError, match="without a value"):
        Measurement(RADIUS, None, Kind.EXACT)
    with pytest.raises(ProbeError, match="needs a reason"):
        Measurement(RADIUS, None, Kind.EXACT, status=MeasurementStatus.UNSUPPORTED)
    with pytest.raises(ProbeError, match="with a value"):
        Measurement(RADIUS, 1.0, Kind.EXACT, status=MeasurementStatus.ERRORED, reason="x")


def test_a_radius_of_zero_or_less_and_a_certificate_without_alpha_are_refused() -> None:
    with pytest.raises(ProbeError, match="expected more than 0"):
        Measurement(RADIUS, 1.0, Kind.LOWER, radius=0.0)
    with pytest.raises(ProbeError, match="needs an alpha"):
        Measurement(RADIUS, 1.0, Kind.CERT_PROB)


@pytest.mark.parametrize("certificate", [Kind.CERT_DET, Kind.CERT_PROB, Kind.LOWER, Kind.EXACT])
def test_a_planted_violation_raises(certificate: Kind) -> None:
    with pytest.raises(ProbeError, match=r"exceeds the upper 1 .*one is wrong"):
        Bracket(number(1.01, certificate), number(1.0, Kind.UPPER))
    Bracket(number(1.0, certificate), number(1.0, Kind.UPPER))


def test_bounds_of_different_classifiers_or_norms_stand_side_by_side() -> None:
    for lower in (number(2.0, Kind.CERT_PROB, Target.SMOOTHED), number(2.0, Kind.CERT_DET, norm="linf")):
        assert not Bracket(lower, number(1.0, Kind.UPPER)).comparable


def test_a_side_that_is_no_such_bound_is_refused() -> None:
    with pytest.raises(ProbeError, match="no lower bound"):
        Bracket(lower=number(1.0, Kind.ESTIMATE))
    with pytest.raises(ProbeError, match="no upper bound"):
        Bracket(upper=number(1.0, Kind.LOWER))


@pytest.mark.parametrize("certificate", [Kind.CERT_DET, Kind.CERT_PROB])
def test_a_certificate_of_a_largest_slope_bounds_it_from_above(certificate: Kind) -> None:
    Bracket(number(1.0, Kind.EXACT), number(1.0, certificate))
    with pytest.raises(ProbeError, match=r"the exact 1.01 exceeds the cert-\w+ 1 "):
        Bracket(number(1.01, Kind.EXACT), number(1.0, certificate))


def test_a_bracket_a_thousand_wide_is_vacuous() -> None:
    assert Bracket(number(1e-3, Kind.LOWER), number(1.1, Kind.UPPER)).is_vacuous
    assert not Bracket(number(1e-3, Kind.LOWER), number(0.9, Kind.UPPER)).is_vacuous
    assert not Bracket(upper=number(0.9, Kind.UPPER)).is_vacuous


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_that_is_listed_is_that_of_some_shipped_number(kind: Kind) -> None:
    package = Path(robustness.sensitivity.__file__).parent

    makers = [path for path in package.rglob("*.py") if path.name != "measurement.py"]

    assert any(f"Kind.{kind.name}" in path.read_text(encoding="utf-8") for path in makers)
