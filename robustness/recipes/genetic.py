"""A genetic search over word substitutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from robustness.engine.attack import Access, BudgetExhausted, Search
from robustness.recipes.edits import WordEdits
from robustness.recipes.ranking import error_probability
from robustness.testsets.example import Example

Genes: TypeAlias = Mapping[int, str]
"""Changed words by their index."""


@final
class Genetic:
    """Breeds texts: parents are drawn by fitness, children mix their words and change one more (arXiv 1804.07998).

    The word to change is drawn in proportion to its number of candidates, of which the most harmful is taken; the
    fittest member lives on. Fitness is the error probability 1 - p(label).

    Args:
        edits: the possible substitutions.
        population: members.
        generations: after the first.
        temperature: parents are drawn by softmax(fitness / temperature).
    """

    access = Access.SCORES

    def __init__(self, edits: WordEdits, *, population: int, generations: int, temperature: float) -> None:
        self._edits = edits
        self._population = population
        self._generations = generations
        self._temperature = temperature

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Stops at the first generation with a member that flips the label."""
        forms = self._list_forms(example, rng)
        best = example
        if not forms:
            return example
        members: list[Genes] = [{} for _ in range(self._population)]
        elite: list[tuple[Genes, float]] = []
        try:
            for _ in range(self._generations + 1):
                mutants = [self._mutants(example, genes, forms, rng) for genes in members]
                asked = [_express(example, genes) for each in mutants for genes in each]
                rows = yield asked
                fitness = error_probability(rows, example.label)
                flipped = np.flatnonzero(rows.argmax(axis=1) != example.label)
                if flipped.size:
                    return asked[int(flipped[fitness[flipped].argmax()])]
                generation = [*elite, *_fittest(mutants, fitness)]
                elite = [max(generation, key=lambda member: member[1])]
                best = _express(example, elite[0][0])
                members = self._breed(example, generation, rng)
        except BudgetExhausted:
            pass
        return best

    def _list_forms(self, example: Example, rng: np.random.Generator) -> dict[int, list[str]]:
        forms = {}
        for index in self._edits.constraints.changeable(example):
            candidates = self._edits.candidates(example, example, index, rng)
            if candidates:
                forms[index] = [candidate.words[index] for candidate in candidates]
        return forms

    def _mutants(
        self, example: Example, genes: Genes, forms: dict[int, list[str]], rng: np.random.Generator
    ) -> list[Genes]:
        """Returns the member with one more word changed, in all ways; the member itself where nothing may change."""
        open_words = [index for index in forms if index not in genes]
        if not open_words:
            return [genes]
        weights = np.array([len(forms[index]) for index in open_words], dtype=np.float64)
        index = open_words[int(rng.choice(len(open_words), p=weights / weights.sum()))]
        mutants: list[Genes] = [{**genes, index: form} for form in forms[index]]
        constraints = self._edits.constraints
        return [each for each in mutants if constraints.allows(example, _express(example, each))] or [genes]

    def _breed(
        self, example: Example, generation: list[tuple[Genes, float]], rng: np.random.Generator
    ) -> list[Genes]:
        fitness = np.array([value for _, value in generation]) / self._temperature
        weights = np.exp(fitness - fitness.max())
        parents = rng.choice(len(generation), size=(self._population - 1, 2), p=weights / weights.sum())
        return [self._cross(example, generation[a][0], generation[b][0], rng) for a, b in parents]

    def _cross(self, example: Example, first: Genes, second: Genes, rng: np.random.Generator) -> Genes:
        """Takes each word from either parent; the first parent where the child would break a constraint."""
        indices = sorted({*first, *second})
        from_first = rng.random(len(indices)) < 0.5
        chosen = zip(indices, from_first, strict=True)
        child = {
            index: parent[index]
            for index, mine in chosen
            for parent in [first if mine else second]
            if index in parent
        }
        return child if self._edits.constraints.allows(example, _express(example, child)) else first


def _express(example: Example, genes: Genes) -> Example:
    for index, word in genes.items():
        example = example.replace_word(index, word)
    return example


def _fittest(mutants: list[list[Genes]], fitness: NDArray[np.float64]) -> list[tuple[Genes, float]]:
    """Of each member's mutants the fittest, with its fitness."""
    found = []
    start = 0
    for each in mutants:
        own = fitness[start : start + len(each)]
        found.append((each[int(own.argmax())], float(own.max())))
        start += len(each)
    return found
