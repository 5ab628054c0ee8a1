"""The schema of an attack recipe file."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import PositiveInt, SerializeAsAny, model_validator

from robustness.definitions.model import Definition
from robustness.definitions.parts import Part


class Budget(Definition):
    """An attack's budget for one example; absent means unlimited."""

    max_queries: PositiveInt | None = None


class Deviation(Definition):
    """A difference from the paper or from another implementation."""

    against: str
    what: str
    why: str


class AttackDefinition(Definition):
    """One attack recipe as data."""

    summary: str
    paper: str | None = None
    family: Literal["character", "word", "sentence", "embedding", "baseline", "ensemble"]
    access: Literal["scores", "gradients"]
    goal: Literal["change-prediction", "keep-prediction"] = "change-prediction"
    words_left: PositiveInt | None = None
    """Maximum of words left for a kept prediction; unused otherwise."""
    mirrors: str | None = None
    """For a baseline: the attack whose edits it makes at random, and which it should not beat."""
    search: SerializeAsAny[Part]
    """`robustness.recipes.kinds` defines its kinds and their keys, as for the parts below."""
    transformations: tuple[SerializeAsAny[Part], ...] = ()
    constraints: tuple[SerializeAsAny[Part], ...] = ()
    budget: Budget = Budget()
    deviations: tuple[Deviation, ...] = ()

    COUNTED_WHERE_SET: ClassVar[frozenset[str]] = frozenset({"goal", "words_left"})

    @model_validator(mode="after")
    def _check_goal(self) -> Self:
        if (self.goal == "keep-prediction") != (self.words_left is not None):
            raise ValueError('goal = "keep-prediction" and words_left belong together: give both or neither')
        return self
