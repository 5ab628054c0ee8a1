"""Edits: the candidates that a recipe's transformations make under its constraints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from robustness.recipes.text.constraints import Constraints
from robustness.recipes.text.transformations.transformation import Transformation
from robustness.testsets.example import Example

if TYPE_CHECKING:  # a masked language model imports torch, which other recipes do not need
    from robustness.recipes.language_models.infilling import InContext


@dataclass(frozen=True, slots=True)
class WordEdits:
    """The candidates of a recipe: its transformations under its constraints."""

    transformations: Sequence[Transformation]
    constraints: Constraints
    in_context: Sequence[InContext] = ()
    """Transformations that read the surrounding words."""

    def candidates(self, clean: Example, current: Example, index: int, rng: np.random.Generator) -> list[Example]:
        """Returns the distinct allowed forms of `current` with word `index` transformed, in order.

        Checks constraints by cost: words, then distance to the clean text, then similarity.
        """
        word = current.words[index]
        forms = dict.fromkeys(form for edit in self.transformations for form in edit(word, rng))
        edited = [
            current.replace_word(index, form) for form in forms if self.constraints.allows_word(clean, index, form)
        ]
        if self.in_context:
            edited += self._in_context(clean, current, index)
        near = [candidate for candidate in edited if self.constraints.allows(clean, candidate)]
        return self.constraints.similar(clean, near, index)

    def _in_context(self, clean: Example, current: Example, index: int) -> list[Example]:
        changeable = self.constraints.changeable(clean)
        found = [
            candidate
            for source in self.in_context
            for candidate in source.candidates(clean, current, index, changeable)
            if not source.keeps_words or self.constraints.allows_word(clean, index, candidate.words[index])
        ]
        return list(dict.fromkeys(found))
