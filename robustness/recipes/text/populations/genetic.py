"""A genetic search over word substitutions."""

from __future__ import annotations

from typing import Annotated, final

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from robustness.engine.attack import Access, Answer, BudgetExhausted, Losses, Search
from robustness.recipes.text.edits import WordEdits
from robustness.recipes.text.populations.genes import Genes, express, fittest, is_allowed, list_forms, mutants
from robustness.recipes.text.ranking import error_probabilities, worst_reached
from robustness.testsets.example import Example


@final
class Genetic:
    """Breeds texts: parents are drawn by fitness, children mix their words and change one more (arXiv 1804.07998).

    The word to change is drawn in proportion to its number of candidates; its most harmful candidate is taken. The
    fittest member survives. Fitness is the error probability 1 - p(gold).

    Args:
        edits: the possible substitutions.
        population: members.
        generations: after the first.
        temperature: parents are drawn by softmax(fitness / temperature).
    """

    access = Access.SCORES

    def __init__(
        self,
        edits: WordEdits,
        *,
        population: Annotated[int, Field(ge=2)],
        generations: PositiveInt,
        temperature: PositiveFloat,
    ) -> None:
        self._edits = edits
        self._population = population
        self._generations = generations
        self._temperature = temperature

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Stops at the first generation with a member that reaches the objective."""
        forms = list_forms(self._edits, example, rng)
        best = example
        if not forms:
            return example
        members: list[Genes] = [{} for _ in range(self._population)]
        elite: list[tuple[Genes, float]] = []
        try:
            for _ in range(self._generations + 1):
                families = [mutants(self._edits, example, genes, forms, rng) for genes in members]
                asked = [express(example, genes) for each in families for genes in each]
                answer: Answer = yield Losses(asked)
                fitness = error_probabilities(answer.losses)
                if (reached := (yield from worst_reached(asked, answer, fitness))) is not None:
                    return asked[reached]
                generation = [*elite, *fittest(families, fitness)]
                elite = [max(generation, key=lambda member: member[1])]
                best = express(example, elite[0][0])
                members = self._breed(example, generation, rng)
        except BudgetExhausted:
            pass
        return best

    def _breed(
        self, example: Example, generation: list[tuple[Genes, float]], rng: np.random.Generator
    ) -> list[Genes]:
        fitness = np.array([value for _, value in generation]) / self._temperature
        weights = np.exp(fitness - fitness.max())
        parents = rng.choice(len(generation), size=(self._population - 1, 2), p=weights / weights.sum())
        return [self._cross(example, generation[a][0], generation[b][0], rng) for a, b in parents]

    def _cross(self, example: Example, first: Genes, second: Genes, rng: np.random.Generator) -> Genes:
        """Takes each word from either parent; returns the first parent if the child would break a constraint."""
        indices = sorted({*first, *second})
        from_first = rng.random(len(indices)) < 0.5
        chosen = zip(indices, from_first, strict=True)
        child = {
            index: parent[index]
            for index, mine in chosen
            for parent in [first if mine else second]
            if index in parent
        }
        return child if is_allowed(self._edits, example, child) else first
