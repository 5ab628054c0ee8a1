"""What a recipe file may say of a search in embedding space."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from robustness.definitions.model import Definition


def _require_ascending(radii: tuple[float, ...]) -> tuple[float, ...]:
    if any(a >= b for a, b in pairwise(radii)):
        raise ValueError("radii must grow: each attacks what the smaller ones left standing")
    return radii


class EmbeddingBall(Definition):
    """Gradient steps within a ball of embeddings, at growing radii: each attacks what the smaller left standing."""

    kind: Literal["embedding-ball"]
    method: Literal["fgsm", "pgd", "apgd"]
    norm: Literal["l2", "linf"]
    radii: Annotated[tuple[PositiveFloat, ...], Field(min_length=1), AfterValidator(_require_ascending)]
    """In median token norms of the victim's embedding table, so that models compare; smallest first."""
    steps: PositiveInt = 1


class EmbeddingMinimal(Definition):
    """The smallest perturbation of embeddings that flips the label."""

    kind: Literal["embedding-minimal"]
    method: Literal["ddn", "fmn"]
    norm: Literal["l2", "linf"]
    steps: PositiveInt
