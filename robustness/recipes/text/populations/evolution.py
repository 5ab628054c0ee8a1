"""Differential evolution over small sets of edits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from robustness.engine.attack import Access, Answer, BudgetExhausted, Losses, Search
from robustness.recipes.text.edits import WordEdits
from robustness.recipes.text.ranking import worst_reached
from robustness.testsets.example import Example

Vectors = NDArray[np.float64]
"""Shape (population, edits); each number in [0, 1) stands for one edit of the text, or none."""


@dataclass(frozen=True, slots=True)
class _Edit:
    index: int
    form: str


@final
class DifferentialEvolution:
    """Evolves sets of at most `changes` edits, at most one a word (arXiv 2106.09898; DE/best/1/bin).

    Args:
        edits: the possible edits.
        changes: numbers in a vector; each names one edit or none.
        population: vectors.
        generations: number after the first.
    """

    access = Access.SCORES
    RECOMBINATION = 0.7
    MUTATION = (0.5, 1.0)
    """Drawn anew each generation; both as in scipy.optimize.differential_evolution, which the paper calls."""

    def __init__(
        self, edits: WordEdits, *, changes: PositiveInt, population: PositiveInt, generations: PositiveInt
    ) -> None:
        self._edits = edits
        self._changes = changes
        self._population = population
        self._generations = generations

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Stops at the first generation with a candidate that reaches the objective."""
        edits = self._list_edits(example, rng)
        best = example
        if not edits:
            return example
        vectors = rng.random((self._population, self._changes))
        losses = np.full(self._population, -np.inf)
        trials = vectors
        try:
            for _ in range(self._generations + 1):
                candidates = [self._apply(example, edits, vector) for vector in trials]
                answer: Answer = yield Losses(candidates)
                if (reached := (yield from worst_reached(candidates, answer, answer.losses))) is not None:
                    return candidates[reached]
                better = answer.losses >= losses
                vectors = np.where(better[:, None], trials, vectors)
                losses = np.where(better, answer.losses, losses)
                leader = int(losses.argmax())
                if better[leader]:
                    best = candidates[leader]
                trials = self._next_generation(vectors, leader, rng)
        except BudgetExhausted:
            pass
        return best

    def _list_edits(self, example: Example, rng: np.random.Generator) -> list[_Edit]:
        found = []
        for index in self._edits.constraints.changeable(example):
            for candidate in self._edits.candidates(example, example, index, rng):
                found.append(_Edit(index, candidate.words[index]))
        return found

    def _apply(self, example: Example, edits: list[_Edit], vector: NDArray[np.float64]) -> Example:
        """Applies a vector's edits: the first of two edits of one word, and none that breaks a constraint."""
        current, edited = example, set()
        for number in vector:
            place = int(number * (len(edits) + 1))
            if place == len(edits) or edits[place].index in edited:
                continue
            candidate = current.replace_word(edits[place].index, edits[place].form)
            if self._edits.constraints.allows(example, candidate):
                current = candidate
                edited.add(edits[place].index)
        return current

    def _next_generation(self, vectors: Vectors, leader: int, rng: np.random.Generator) -> Vectors:
        size, length = vectors.shape
        scale = rng.uniform(*self.MUTATION)
        first, second = rng.integers(size, size=(2, size))
        mutants = vectors[leader] + scale * (vectors[first] - vectors[second])
        outside = (mutants < 0) | (mutants >= 1)
        mutants = np.where(outside, rng.random(vectors.shape), mutants)
        crossed = rng.random(vectors.shape) < self.RECOMBINATION
        crossed[np.arange(size), rng.integers(length, size=size)] = True
        return np.where(crossed, mutants, vectors)
