"""Constraints: which words may change, and how far a text may drift."""

from __future__ import annotations

from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from robustness.recipes.function_words import FUNCTION_WORDS
from robustness.testsets.example import Example


@dataclass(frozen=True, slots=True)
class Constraints:
    """All constraints of a recipe; what is absent does not bind."""

    skip_function_words: bool = False
    """Compared as written: "The" is not "the", as in TextAttack."""
    max_edit_distance: int | None = None
    """Levenshtein distance to the clean text, in characters."""

    def changeable(self, example: Example) -> list[int]:
        """Returns the indices of the words that may change, ascending."""
        words = enumerate(example.words)
        return [i for i, word in words if not (self.skip_function_words and word in FUNCTION_WORDS)]

    def allows(self, clean: Example, candidate: Example) -> bool:
        """Whether the candidate is still near enough to the clean text."""
        limit = self.max_edit_distance
        if limit is None:
            return True
        distance = sum(
            Levenshtein.distance(a, b, score_cutoff=limit) for a, b in zip(clean.texts, candidate.texts, strict=True)
        )
        return bool(distance <= limit)
