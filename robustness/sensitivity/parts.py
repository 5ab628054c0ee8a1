"""The probes that definition files name, made from their parameters."""

from __future__ import annotations

from typing import assert_never

from robustness.definitions import probes as data
from robustness.sensitivity import jacobian
from robustness.sensitivity.condition import ConditionProfile
from robustness.sensitivity.probe import Probe
from robustness.sensitivity.structure import UpdateStructure
from robustness.sensitivity.structure_gain import UpdateGain
from robustness.sensitivity.structure_paths import UpdatePath


def build_probe(part: data.ProbePart) -> Probe:
    """Returns the probe that a definition describes."""
    match part:
        case data.Margin():
            return jacobian.Margin()
        case data.MarginGradient():
            return jacobian.MarginGradient()
        case data.JacobianNorm():
            return jacobian.JacobianNorm()
        case data.ConditionProfile():
            return ConditionProfile()
        case data.UpdateStructure():
            return UpdateStructure(part.top, part.threshold, part.draws, part.rank)
        case data.UpdateGain():
            return UpdateGain()
        case data.UpdatePath():
            return UpdatePath(part.steps, part.ranks, part.tops, part.scales, part.radius)
        case _:
            assert_never(part)
