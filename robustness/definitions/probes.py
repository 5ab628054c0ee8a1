"""What a probe definition file may say."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

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


class Smoothing(Definition):
    """Certified radii of the classifier under Gaussian noise on the embeddings."""

    kind: Literal["smoothing"]
    sigmas: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    """In median token norms; the level is chosen on examples that are not measured."""
    selection_samples: PositiveInt
    samples: PositiveInt
    alpha: float = Field(gt=0, lt=1)
    radii: tuple[PositiveFloat, ...]
    """Of the certified-accuracy curve, in median token norms."""
    calibration_examples: PositiveInt
    calibration_samples: PositiveInt


SynonymTable = Literal["counter-fitted", "wordnet"]


class OneSubstitution(Definition):
    """Every substitution of one word by a synonym."""

    kind: Literal["one-substitution"]
    table: SynonymTable


class Safer(Definition):
    """What voting over random synonyms certifies."""

    kind: Literal["safer"]
    table: SynonymTable
    samples: PositiveInt
    alpha: float = Field(gt=0, lt=1)


class Reachability(Definition):
    """The share of gradients that lies in a PEFT method's directions."""

    kind: Literal["reachability"]
    attack_steps: PositiveInt
    """Of the attack that finds the adversarial points."""


class Sharpness(Definition):
    """The largest rise of the loss within balls of weights."""

    kind: Literal["sharpness"]
    frobenius: PositiveFloat
    """Radius over all the blocks' weights jointly."""
    module_relative: PositiveFloat
    """Radius of each module, in Frobenius norms of its own weights."""
    adaptive: PositiveFloat
    """Radius in the l2 norm of relative changes of single weights."""
    steps: PositiveInt


class ParameterMargin(Definition):
    """The smallest change of the weights that changes an answer."""

    kind: Literal["parameter-margin"]
    steps: PositiveInt


class WeightRounding(Definition):
    """Answers under weights rounded to few bits."""

    kind: Literal["weight-rounding"]
    bits: Annotated[tuple[Annotated[int, Field(ge=2, le=16)], ...], Field(min_length=1)]


class LipschitzLower(Definition):
    """The largest Jacobian norm or secant found in a ball."""

    kind: Literal["lipschitz-lower"]
    radius: PositiveFloat
    """In median token norms."""
    steps: PositiveInt
    restarts: PositiveInt


class Curvature(Definition):
    """Extreme eigenvalues and trace of the loss's Hessian over the weights."""

    kind: Literal["curvature"]
    iterations: PositiveInt
    """Of Lanczos."""
    draws: PositiveInt
    """Random sign vectors of the trace's estimate."""


class Clever(Definition):
    """An estimate of the distance from the largest gradients of random points."""

    kind: Literal["clever"]
    radius: PositiveFloat
    """Of the ball, in median token norms."""
    batches: Annotated[int, Field(ge=2)]
    samples: PositiveInt
    """A batch."""


class BlockJacobians(Definition):
    """Spectral norms of each block's Jacobian."""

    kind: Literal["block-jacobians"]
    steps: PositiveInt
    """Of Golub and Kahan's bidiagonalisation."""


class ModuleTransplant(Definition):
    """Distances of each arm with one module of its partner."""

    kind: Literal["module-transplant"]
    steps: PositiveInt
    """Of DDN."""
    distance_examples: PositiveInt
    """On which distances are measured; clean accuracy is measured on all."""
    max_accuracy_loss: float = Field(ge=0, le=1)
    """Beyond which a hybrid is discarded, as a fraction."""


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
    Margin
    | MarginGradient
    | JacobianNorm
    | ConditionProfile
    | FirstOrderRadius
    | AdversarialDistance
    | Smoothing
    | OneSubstitution
    | Safer
    | Reachability
    | Sharpness
    | ParameterMargin
    | WeightRounding
    | LipschitzLower
    | Curvature
    | Clever
    | BlockJacobians
    | ModuleTransplant
    | UpdateStructure
    | UpdateGain
    | UpdatePath,
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
