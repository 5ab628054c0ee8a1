"""Genes: a text represented by its changed words, for searches over populations of texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from robustness.recipes.text.edits import WordEdits
from robustness.testsets.example import Example

Genes: TypeAlias = Mapping[int, str]
"""Changed words by their index."""

Forms: TypeAlias = Mapping[int, list[str]]
"""Possible replacements of each changeable word, by its index; no entry is empty."""


def list_forms(edits: WordEdits, example: Example, rng: np.random.Generator) -> Forms:
    """Returns every substitution of one word of the clean text."""
    found = {}
    for index in edits.constraints.changeable(example):
        candidates = edits.candidates(example, example, index, rng)
        if candidates:
            found[index] = [candidate.words[index] for candidate in candidates]
    return found


def express(example: Example, genes: Genes) -> Example:
    """Returns the clean text with the changed words in it."""
    for index, word in genes.items():
        example = example.replace_word(index, word)
    return example


def is_allowed(edits: WordEdits, example: Example, genes: Genes) -> bool:
    """Whether the text is within the constraints' limits."""
    constraints = edits.constraints
    return not constraints.bounds_drift or constraints.allows(example, express(example, genes))


def mutants(
    edits: WordEdits,
    example: Example,
    genes: Genes,
    forms: Forms,
    rng: np.random.Generator,
    *,
    most: int | None = None,
) -> list[Genes]:
    """Returns all forms of a member with one more word changed; the member itself if no change is allowed.

    The word is drawn among unchanged words in proportion to its number of forms, counted up to `most`.
    """
    open_words = [index for index in forms if index not in genes]
    if not open_words:
        return [genes]
    counts = np.array([len(forms[index]) for index in open_words], dtype=np.float64)
    weights = counts if most is None else np.minimum(counts, most)
    index = open_words[int(rng.choice(len(open_words), p=weights / weights.sum()))]
    made: list[Genes] = [{**genes, index: form} for form in forms[index]]
    return [each for each in made if is_allowed(edits, example, each)] or [genes]


def fittest(families: list[list[Genes]], fitness: NDArray[np.float64]) -> list[tuple[Genes, float]]:
    """Returns each family's fittest member and its fitness; `fitness` has the values of all families in order."""
    found = []
    start = 0
    for each in families:
        own = fitness[start : start + len(each)]
        found.append((each[int(own.argmax())], float(own.max())))
        start += len(each)
    return found
