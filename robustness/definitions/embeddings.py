"""What a recipe file may say of a search in embedding space."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from robustness.definitions.model import Definition, SparseDefinition


def _require_ascending(radii: tuple[float, ...]) -> tuple[float, ...]:
    if any(a >= b for a, b in pairwise(radii)):
        raise ValueError("radii must grow: each attacks what the smaller ones left standing")
    return radii


LossName = Literal["margin", "cross-entropy", "dlr"]
"""What an attack increases; dlr (arXiv 2003.01690) needs at least three labels."""


class EmbeddingBall(SparseDefinition):
    """Gradient steps within a ball of embeddings, at growing radii: each attacks what the smaller left standing."""

    kind: Literal["embedding-ball"]
    method: Literal["fgsm", "pgd", "apgd"]
    norm: Literal["l2", "linf"]
    radii: Annotated[tuple[PositiveFloat, ...], Field(min_length=1), AfterValidator(_require_ascending)]
    """In median token norms of the victim's embedding table, so that models compare; smallest first."""
    steps: PositiveInt = 1
    loss: LossName | None = None
    """Absent: margin."""
    restarts: PositiveInt | None = None
    """Of pgd and apgd, at each radius; absent: 1, a single run."""
    step_size: PositiveFloat | None = None
    """Of pgd, in radii; absent: 2.5 / steps."""
    random_start: bool | None = None
    """Of pgd; absent: true. apgd always starts at random."""

    @model_validator(mode="after")
    def _refuse_foreign_options(self) -> Self:
        known = {"fgsm": set(), "pgd": {"restarts", "step_size", "random_start"}, "apgd": {"restarts"}}
        return _refuse_options(self, self.method, known)


class EmbeddingMinimal(SparseDefinition):
    """The smallest perturbation of embeddings that flips the label."""

    kind: Literal["embedding-minimal"]
    method: Literal["ddn", "fmn"]
    norm: Literal["l2", "linf"]
    steps: PositiveInt
    loss: LossName | None = None
    """Of ddn; absent: margin, which is what fmn's radius is made of."""
    gamma: Annotated[float, Field(gt=0, lt=1)] | None = None
    """By what share the radius grows and shrinks; absent: 0.05."""
    initial_radius: PositiveFloat | None = None
    """Of ddn: its first norm and step, in median token norms; absent: 0.25."""
    step_size: PositiveFloat | None = None
    """Of fmn: its first step, in median token norms; absent: 0.25."""
    bisections: NonNegativeInt | None = None
    """Of the find's length; absent: 8."""

    @model_validator(mode="after")
    def _refuse_foreign_options(self) -> Self:
        return _refuse_options(self, self.method, {"ddn": {"loss", "initial_radius"}, "fmn": {"step_size"}})


class TokenDistributions(SparseDefinition):
    """Learns a distribution over tokens at every place, then draws texts from it."""

    kind: Literal["token-distributions"]
    steps: PositiveInt
    samples: PositiveInt
    """Soft texts a step."""
    draws: PositiveInt
    """Texts drawn in the end, at most so many of them asked about."""
    step_size: PositiveFloat
    """Of Adam, in logits of the distribution."""
    temperature: PositiveFloat
    """Of the Gumbel-softmax."""
    margin: PositiveFloat
    """By how much the loss wants the answer wrong, in logits."""
    start: PositiveFloat
    """The first logit of each place's own token; those of all others are 0."""
    candidates: PositiveInt | None = None
    """Tokens a place may take, the nearest by cosine in the victim's embeddings; absent: the whole vocabulary."""
    look_every: PositiveInt | None = None
    """Steps between two looks at as many drawn texts as samples, the first of which that flips the label ends the
    learning; absent: all steps are made."""
    similarity_weight: NonNegativeFloat = 0.0
    perplexity_weight: NonNegativeFloat = 0.0
    language_model: str | None = None
    """Folder or hub id of a causal model with the victim's own vocabulary, which the perplexity term needs."""

    @model_validator(mode="after")
    def _perplexity_needs_a_model(self) -> Self:
        if (self.perplexity_weight > 0) != (self.language_model is not None):
            raise ValueError("perplexity_weight and language_model belong together: give both, or neither")
        return self


D = TypeVar("D", bound=Definition)


def _refuse_options(part: D, method: str, options: Mapping[str, set[str]]) -> D:
    """Refuses an option that belongs to other methods alone."""
    for name in set().union(*options.values()) - options[method]:
        if name in part.model_fields_set:
            owners = " and ".join(owner for owner, own in options.items() if name in own)
            raise ValueError(f"{name} is an option of {owners}, not of {method}")
    return part
