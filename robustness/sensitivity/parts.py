"""The probes that definition files name, made from their parameters."""

from __future__ import annotations

from typing import assert_never

from robustness.definitions import probes as data
from robustness.recipes.embedding.balls import Norm
from robustness.sensitivity.input import jacobian
from robustness.sensitivity.input.block_jacobians import BlockJacobians
from robustness.sensitivity.input.clever import Clever
from robustness.sensitivity.input.condition import ConditionProfile
from robustness.sensitivity.input.distance import AdversarialDistance, FirstOrderRadius
from robustness.sensitivity.input.gradient_masking import Battery
from robustness.sensitivity.input.lipschitz import LipschitzLower
from robustness.sensitivity.input.smoothing import Smoothing
from robustness.sensitivity.input.substitution import OneSubstitution, Safer
from robustness.sensitivity.parameter.curvature import Curvature
from robustness.sensitivity.parameter.parameter_margin import ParameterMargin
from robustness.sensitivity.parameter.reachability import Reachability
from robustness.sensitivity.parameter.rounding import WeightRounding
from robustness.sensitivity.parameter.sharpness import Sharpness, WeightNorm
from robustness.sensitivity.parameter.transplant import ModuleTransplant
from robustness.sensitivity.probe import Probe
from robustness.sensitivity.structure.anatomy import UpdateStructure
from robustness.sensitivity.structure.gain import UpdateGain
from robustness.sensitivity.structure.paths import UpdatePath


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
        case data.FirstOrderRadius():
            return FirstOrderRadius(tuple(Norm(norm) for norm in part.norms))
        case data.AdversarialDistance():
            return AdversarialDistance(
                norms=tuple(Norm(norm) for norm in part.norms),
                steps=part.steps,
                shrinking_rounds=part.shrinking_rounds,
                shrinking_steps=part.shrinking_steps,
                battery=Battery(examples=part.checked_examples, directions=part.random_directions),
            )
        case data.Smoothing():
            return Smoothing(
                sigmas=part.sigmas,
                selection_samples=part.selection_samples,
                samples=part.samples,
                alpha=part.alpha,
                radii=part.radii,
                calibration_examples=part.calibration_examples,
                calibration_samples=part.calibration_samples,
            )
        case data.OneSubstitution():
            return OneSubstitution(part.table)
        case data.Safer():
            return Safer(part.table, part.samples, part.alpha)
        case data.Reachability():
            return Reachability(part.attack_steps)
        case data.Sharpness():
            radii = {
                WeightNorm.FROBENIUS: part.frobenius,
                WeightNorm.MODULE_RELATIVE: part.module_relative,
                WeightNorm.ADAPTIVE: part.adaptive,
            }
            return Sharpness(radii, part.steps)
        case data.ParameterMargin():
            return ParameterMargin(part.steps)
        case data.WeightRounding():
            return WeightRounding(part.bits)
        case data.LipschitzLower():
            return LipschitzLower(part.radius, part.steps, part.restarts)
        case data.Curvature():
            return Curvature(part.iterations, part.draws)
        case data.Clever():
            return Clever(part.radius, part.batches, part.samples)
        case data.BlockJacobians():
            return BlockJacobians(part.steps)
        case data.ModuleTransplant():
            return ModuleTransplant(part.steps, part.distance_examples, part.max_accuracy_loss)
        case data.UpdateStructure():
            return UpdateStructure(part.top, part.threshold, part.draws, part.rank)
        case data.UpdateGain():
            return UpdateGain()
        case data.UpdatePath():
            return UpdatePath(part.steps, part.ranks, part.tops, part.scales, part.radius)
        case _:
            assert_never(part)
