"""What an attack recipe file may say."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from robustness.definitions.model import Definition


class CharacterEdit(Definition):
    """One edit at one random place of a word."""

    kind: Literal["swap-neighbours", "substitute-character", "delete-character", "insert-character"]


class SkipFunctionWords(Definition):
    """Function words (articles, pronouns, auxiliaries ...) are never changed."""

    kind: Literal["skip-function-words"]


class MaxEditDistance(Definition):
    """Levenshtein distance between clean and adversarial text, in characters."""

    kind: Literal["max-edit-distance"]
    characters: PositiveInt


class GreedyWordRanking(Definition):
    """Ranks words by how much hiding them hurts, then edits them one after the other."""

    kind: Literal["greedy-word-ranking"]
    ranking: Literal["unknown-token"]
    unknown_token: str


class RandomOrder(Definition):
    """Edits words in random order without looking at scores, starting over `passes` times."""

    kind: Literal["random-order"]
    passes: PositiveInt


class ReturnClean(Definition):
    """Proposes the clean text."""

    kind: Literal["return-clean"]


SearchPart = Annotated[GreedyWordRanking | RandomOrder | ReturnClean, Field(discriminator="kind")]
ConstraintPart = Annotated[SkipFunctionWords | MaxEditDistance, Field(discriminator="kind")]


class Budget(Definition):
    """What an attack may spend on one example; absent means unlimited."""

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
    family: Literal["character", "word", "sentence", "embedding", "baseline"]
    access: Literal["scores"]
    search: SearchPart
    transformations: tuple[CharacterEdit, ...] = ()
    constraints: tuple[ConstraintPart, ...] = ()
    budget: Budget = Budget()
    deviations: tuple[Deviation, ...] = ()
