"""Which probes run without being named."""

from __future__ import annotations

import pytest

from robustness.definitions.catalog import PROBES, SUITES
from robustness.sensitivity.building import find_probe
from robustness.sensitivity.input.jacobian import MarginGradient
from robustness.sensitivity.parameter.rounding import WeightRounding
from robustness.sensitivity.parameter.sharpness import Sharpness

QUICK = {
    "margin", "margin-gradient", "jacobian-norm", "first-order-radius", "adversarial-distance", "smoothing",
    "one-substitution", "condition-profile", "reachability", "sharpness", "parameter-margin", "lipschitz-lower",
    "weight-rounding", "update-structure", "update-gain",
}  # fmt: skip
BY_NAME = {"clever", "margin-gradient-l1", "weight-rounding-int8", "sharpness-adaptive-in-tangent"}


def test_the_quick_preset_is_what_tells_something_within_minutes() -> None:
    suite = SUITES.find("probes-quick").definition

    assert set(suite.probes) == QUICK and len(suite.probes) == len(QUICK)
    assert set(suite.parameters) <= QUICK


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_what_adds_little_runs_by_its_name_alone(name: str) -> None:
    assert not any(name in SUITES.find(suite).definition.probes for suite in SUITES.names())
    assert find_probe(name).name == name


def test_all_other_probes_are_in_the_large_preset() -> None:
    assert set(SUITES.find("probes").definition.probes) == set(PROBES.names()) - BY_NAME


def test_what_is_named_apart_is_not_measured_beside_it() -> None:
    for beside, alone, key, without in (
        ("margin-gradient", "margin-gradient-l1", "norms", ("l2",)),
        ("weight-rounding", "weight-rounding-int8", "bits", (4,)),
        ("sharpness", "sharpness-adaptive-in-tangent", "adaptive_in_tangent", False),
    ):
        first, second = (find_probe(name) for name in (beside, alone))
        assert getattr(first.probe, key) == without != getattr(second.probe, key)
        assert first.digest != second.digest
        assert isinstance(second.probe, MarginGradient | WeightRounding | Sharpness)
