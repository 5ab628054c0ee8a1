"""What a probe definition file may say."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from robustness.definitions.attacks import Deviation
from robustness.definitions.model import Definition


class Margin(Definition):
    """z_y minus the largest other logit."""

    kind: Literal["margin"]


class MarginGradient(Definition):
    """Norms of the margin's gradient with respect to the content's word embeddings."""

    kind: Literal["margin-gradient"]


class JacobianNorm(Definition):
    """Spectral norm of the Jacobian of the logits with respect to the content's word embeddings."""

    kind: Literal["jacobian-norm"]


class ConditionProfile(Definition):
    """Relative condition number of the margin at every depth."""

    kind: Literal["condition-profile"]


class UpdateStructure(Definition):
    """Anatomy of the weight update against the base."""

    kind: Literal["update-structure"]
    top: PositiveInt
    """Leading directions that are compared."""
    threshold: Annotated[float, Field(gt=0, lt=1)]
    """Largest cosine of an intruder direction."""
    draws: PositiveInt
    """Random updates that give the chance level of intruders."""
    rank: PositiveInt
    """Rank of the low-rank form that is fitted."""


class UpdateGain(Definition):
    """What the update makes of real activations."""

    kind: Literal["update-gain"]


class UpdatePath(Definition):
    """Accuracy with parts of the weight update changed."""

    kind: Literal["update-path"]
    steps: tuple[Annotated[float, Field(ge=0)], ...]
    """Values of t in W_0 + t dW."""
    ranks: tuple[PositiveInt, ...]
    """To which dW is cut."""
    tops: tuple[PositiveInt, ...]
    """Numbers of leading directions of W_0 that dW is projected into and out of."""
    scales: tuple[Annotated[float, Field(ge=0)], ...]
    """Factors of the intruder directions."""
    radius: PositiveFloat
    """Of the gradient step, in median token norms."""


ProbePart = Annotated[
    Margin | MarginGradient | JacobianNorm | ConditionProfile | UpdateStructure | UpdateGain | UpdatePath,
    Field(discriminator="kind"),
]


class ProbeDefinition(Definition):
    """One probe as data; a suite may replace `examples` and the parameters of `measure`."""

    summary: str
    paper: str | None = None
    measure: ProbePart
    examples: PositiveInt | None = None
    """At most so many examples of each test set; None: all that the run uses."""
    deviations: tuple[Deviation, ...] = ()
