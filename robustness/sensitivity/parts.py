"""The kinds of probes that definition files name; the keys of each are its constructor's parameters."""

from __future__ import annotations

from robustness.definitions.parts import Kinds

PROBE_KINDS = Kinds(
    {
        "margin": "sensitivity.input.jacobian:Margin",
        "margin-gradient": "sensitivity.input.jacobian:MarginGradient",
        "jacobian-norm": "sensitivity.input.jacobian:JacobianNorm",
        "condition-profile": "sensitivity.input.condition:ConditionProfile",
        "first-order-radius": "sensitivity.input.distance:FirstOrderRadius",
        "adversarial-distance": "sensitivity.input.distance:AdversarialDistance",
        "smoothing": "sensitivity.input.smoothing:Smoothing",
        "one-substitution": "sensitivity.input.substitution:OneSubstitution",
        "safer": "sensitivity.input.substitution:Safer",
        "lipschitz-lower": "sensitivity.input.lipschitz:LipschitzLower",
        "lipschitz-upper": "sensitivity.input.certified:LipschitzUpper",
        "layer-product": "sensitivity.input.layer_product:LayerProduct",
        "clever": "sensitivity.input.clever:Clever",
        "block-jacobians": "sensitivity.input.block_jacobians:BlockJacobians",
        "reachability": "sensitivity.parameter.reachability:Reachability",
        "sharpness": "sensitivity.parameter.sharpness:Sharpness",
        "parameter-margin": "sensitivity.parameter.parameter_margin:ParameterMargin",
        "weight-rounding": "sensitivity.parameter.rounding:WeightRounding",
        "curvature": "sensitivity.parameter.curvature:Curvature",
        "module-transplant": "sensitivity.parameter.transplant:ModuleTransplant",
        "update-structure": "sensitivity.structure.anatomy:UpdateStructure",
        "update-gain": "sensitivity.structure.gain:UpdateGain",
        "update-path": "sensitivity.structure.paths:UpdatePath",
    },
    given=frozenset({"space"}),  # `space` is not an option
)
"""Each new probe needs its place here; looking one up imports torch."""
