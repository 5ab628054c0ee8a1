"""What a probe definition file may say."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

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


NormName = Literal["l2", "linf"]
Norms = Annotated[tuple[NormName, ...], Field(min_length=1)]


class FirstOrderRadius(Definition):
    """The margin over its gradient's dual norm."""

    kind: Literal["first-order-radius"]
    norms: Norms


class AdversarialDistance(Definition):
    """The smallest perturbation of embeddings that an ensemble of attacks finds."""

    kind: Literal["adversarial-distance"]
    norms: Norms
    steps: PositiveInt
    """Of DDN (l2) or FMN (linf)."""
    shrinking_rounds: NonNegativeInt
    """Of PGD, in balls smaller than the best find."""
    shrinking_steps: PositiveInt
    checked_examples: NonNegativeInt
    """On which the checks for masked gradients run; 0: no checks."""
    random_directions: PositiveInt
    """Of these checks, an example."""


ProbePart = Annotated[
    Margin | MarginGradient | JacobianNorm | ConditionProfile | FirstOrderRadius | AdversarialDistance,
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
