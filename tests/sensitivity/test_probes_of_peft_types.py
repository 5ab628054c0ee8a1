"""Every probe of weights at every PEFT type of the installed peft: a number, or `unsupported` with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sensitivity.peft_types import KINDS, PROMPTS, VARIANTS, config_of

from robustness.sensitivity.measurement import MeasurementStatus
from robustness.sensitivity.parameter.curvature import Curvature
from robustness.sensitivity.parameter.parameter_margin import ParameterMargin
from robustness.sensitivity.parameter.reachability import Reachability
from robustness.sensitivity.parameter.rounding import WeightRounding
from robustness.sensitivity.parameter.sharpness import Sharpness
from robustness.sensitivity.parameter.transplant import ModuleTransplant
from robustness.sensitivity.probe import Probe, Unsupported
from robustness.sensitivity.structure.anatomy import UpdateStructure
from robustness.sensitivity.structure.gain import UpdateGain
from robustness.sensitivity.structure.paths import UpdatePath

PROBES: dict[str, Probe] = {
    "curvature": Curvature(1, 1),
    "parameter-margin": ParameterMargin(1),
    "reachability": Reachability(1),
    "sharpness": Sharpness(0.1, 0.01, 0.1, steps=1),
    "transplant": ModuleTransplant(1, 1, 1.0),
    "update-gain": UpdateGain(),
    "update-path": UpdatePath((0.5,), (1,), (), ()),
    "update-structure": UpdateStructure(draws=1),
    "weight-rounding": WeightRounding((8,)),
}
OF_NO_UPDATE = {"reachability", "transplant", "update-gain", "update-path", "update-structure"}
"""What says nothing of a method that changes no weight."""
OTHER_MODULES = {"LN_TUNING": ["LayerNorm"], "TRAINABLE_TOKENS": None}
NO_MATRIX = {"BEFT", "BITFIT", "LN_TUNING", "TRAINABLE_TOKENS"}
"""What leaves all matrices as they were."""
WITH_TRANSPLANTS = {"LN_TUNING", "LORA", "OFT", "dora"}
"""The probe that takes longest sees merged parameters alone, of whatever type."""
TYPES = [kind for kind in KINDS if kind not in VARIANTS or kind == "dora"]


def reasons_at(world: Any, kind: str) -> dict[str, str]:
    """Why probes measured nothing, by probe; a row that errors, or any other exception, fails."""
    targets = OTHER_MODULES.get(kind, ["query", "output.dense"])
    folder = world.adapter(config_of(kind, targets, task_type="SEQ_CLS"), kind.lower(), std=0.1)
    subject = world.subject(folder, world.full)
    subject = replace(subject, examples=subject.examples[:1])
    found = {}
    for name, probe in PROBES.items():
        if name == "transplant" and kind not in WITH_TRANSPLANTS | PROMPTS:
            continue
        try:
            readings = list(probe.measure(subject))
        except Unsupported as reason:
            found[name] = str(reason)
        else:
            assert readings, name
            assert not [r for r in readings if r.measurement.status is MeasurementStatus.ERRORED], name
    return found


@pytest.mark.parametrize("kind", TYPES)
def test_a_method_that_changes_weights_is_measured(kind: str, architecture: Callable[[str], Any]) -> None:
    reasons = reasons_at(architecture("one-block"), kind)

    reasons.pop("transplant", None)  # two arms of random weights need not answer anything alike
    assert reasons.keys() == ({"update-gain"} if kind in NO_MATRIX else set()) | (
        {"reachability"} if kind == "TRAINABLE_TOKENS" else set()
    )
    assert all(reasons.values())
    assert "moves no weight of the blocks" in reasons.get("reachability", "moves no weight of the blocks")


@pytest.mark.parametrize("kind", sorted(PROMPTS))
def test_a_method_that_changes_no_weights_says_so(kind: str, architecture: Callable[[str], Any]) -> None:
    reasons = reasons_at(architecture("one-block"), kind)

    assert set(reasons) == OF_NO_UPDATE
    assert "does not change the base's weights" in reasons["reachability"]
