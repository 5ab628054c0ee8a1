"""Edits: the candidates that a recipe's transformations make under its constraints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robustness.recipes.constraints import Constraints
from robustness.recipes.transformations import Transformation
from robustness.testsets.example import Example


@dataclass(frozen=True, slots=True)
class WordEdits:
    """The candidates of a recipe: its transformations under its constraints."""

    transformations: Sequence[Transformation]
    constraints: Constraints

    def candidates(self, clean: Example, current: Example, index: int, rng: np.random.Generator) -> list[Example]:
        """Returns the distinct allowed forms of `current` with word `index` transformed, in order."""
        word = current.words[index]
        forms = dict.fromkeys(form for edit in self.transformations for form in edit(word, rng))
        edited = [
            current.replace_word(index, form) for form in forms if self.constraints.allows_word(clean, index, form)
        ]
        return [candidate for candidate in edited if self.constraints.allows(clean, candidate)]
