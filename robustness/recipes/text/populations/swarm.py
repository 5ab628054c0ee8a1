"""Particle swarm optimization over word substitutions."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from robustness.engine.attack import Access, Answer, BudgetExhausted, Losses, Question, Search
from robustness.recipes.text.edits import WordEdits
from robustness.recipes.text.populations.genes import Genes, express, fittest, is_allowed, list_forms, mutants
from robustness.recipes.text.ranking import error_probabilities, worst_reached
from robustness.testsets.example import Example

Fitness: TypeAlias = Generator[Question, Any, tuple[NDArray[np.float64], Example | None]]
"""Yields questions like a search; returns the members' fitness, and the fittest that reaches the objective."""


@final
class ParticleSwarm:
    """Moves texts word by word towards each text's own best and the best of all (arXiv 1910.12196).

    A particle is a text. Its velocity v in a word grows where it differs from the two bests and shrinks where it
    agrees. A move takes a best's word with probability sigmoid(v). Particles start as the clean text with one changed
    word. After each move, one more word changes in particles still near the clean text. Fitness is the error
    probability.

    Args:
        edits: the possible substitutions.
        particles: texts that move.
        iterations: moves of each particle.
    """

    access = Access.SCORES

    def __init__(self, edits: WordEdits, *, particles: PositiveInt, iterations: PositiveInt) -> None:
        self._edits = edits
        self._particles = particles
        self._iterations = iterations

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Stops at the first question with a candidate that reaches the objective."""
        swarm = _Swarm(self._edits, example, self._particles, rng)
        if not swarm.forms:
            return example
        try:
            clean: Answer = yield Losses([example])
            swarm.fitness[:] = error_probabilities(clean.losses)[0]
            for step in range(self._iterations + 1):
                if step:
                    swarm.move((step - 1) / self._iterations)
                    swarm.fitness, found = yield from _ask(example, swarm.particles)
                    if found is not None:
                        return found
                families = swarm.mutate(always=not step)
                if any(families):
                    fitness, found = yield from _ask(example, [genes for each in families for genes in each])
                    if found is not None:
                        return found
                    swarm.keep_better(families, fitness)
                swarm.remember()
        except BudgetExhausted:
            pass
        return express(example, swarm.leader)


@final
class _Swarm:
    """The particles of one example; constants are the paper's, or its code's where the paper has none."""

    INERTIA = (0.8, 0.2)
    """At the first and after the last iteration, like TO_OWN_BEST."""
    TO_OWN_BEST = (0.8, 0.2)
    """Probability of a move towards the own best; towards the best of all the order is reversed."""
    MAX_VELOCITY = 3.0
    MOST_FORMS = 10
    """More forms than this do not make a word likelier to be drawn."""

    def __init__(self, edits: WordEdits, example: Example, particles: int, rng: np.random.Generator) -> None:
        self._edits = edits
        self._example = example
        self._rng = rng
        self.forms = list_forms(edits, example, rng)
        self._places = list(self.forms)
        self.particles: list[Genes] = [{} for _ in range(particles)]
        self.fitness: NDArray[np.float64] = np.zeros(particles)
        start = rng.uniform(-self.MAX_VELOCITY, self.MAX_VELOCITY, (particles, 1))
        self._velocities = np.tile(start, (1, len(self._places)))
        """Shape (particles, changeable words)."""
        self._own: list[Genes] = list(self.particles)
        self._own_fitness: NDArray[np.float64] = np.full(particles, -np.inf)

    @property
    def leader(self) -> Genes:
        """The best text so far."""
        return self._own[int(self._own_fitness.argmax())]

    def move(self, elapsed: float) -> None:
        """Moves every particle towards its own best and towards the best of all, each with its probability.

        Args:
            elapsed: share of the iterations done.
        """
        leader = self.leader
        inertia = _between(self.INERTIA, elapsed)
        to_own = _between(self.TO_OWN_BEST, elapsed)
        to_leader = _between(self.TO_OWN_BEST[::-1], elapsed)
        for k, (particle, own) in enumerate(zip(self.particles, self._own, strict=True)):
            pull = self._differences(particle, own) + self._differences(particle, leader)
            self._velocities[k] = inertia * self._velocities[k] + (1 - inertia) * pull
            chances = 1 / (1 + np.exp(-self._velocities[k]))
            if self._rng.random() < to_own:
                particle = self._turn(particle, own, chances)
            if self._rng.random() < to_leader:
                particle = self._turn(particle, leader, chances)
            self.particles[k] = particle

    def mutate(self, *, always: bool) -> list[list[Genes]]:
        """Returns each particle's forms with one more changed word; far from the clean text, rarely any."""
        words = len(self._example.words)
        families = []
        for particle in self.particles:
            is_due = self._rng.random() < 1 - 2 * len(particle) / words
            made: list[Genes] = []
            if always or is_due:
                made = mutants(self._edits, self._example, particle, self.forms, self._rng, most=self.MOST_FORMS)
            families.append([genes for genes in made if genes != particle])
        return families

    def keep_better(self, families: list[list[Genes]], fitness: NDArray[np.float64]) -> None:
        """Replaces each particle by the fittest of its family if that is fitter."""
        best = iter(fittest([each for each in families if each], fitness))
        for k, family in enumerate(families):
            genes, value = next(best) if family else (self.particles[k], self.fitness[k])
            if value > self.fitness[k]:
                self.particles[k], self.fitness[k] = genes, value

    def remember(self) -> None:
        """Stores every particle that is better than its own best."""
        for k in np.flatnonzero(self.fitness > self._own_fitness):
            self._own[k], self._own_fitness[k] = self.particles[k], self.fitness[k]

    def _differences(self, particle: Genes, best: Genes) -> NDArray[np.float64]:
        is_other = np.array([particle.get(place) != best.get(place) for place in self._places])
        return np.where(is_other, self.MAX_VELOCITY, -self.MAX_VELOCITY)

    def _turn(self, particle: Genes, best: Genes, chances: NDArray[np.float64]) -> Genes:
        """Takes words of the best, unchanged words too; returns the particle if a constraint would break."""
        drawn = self._rng.random(len(self._places)) < chances
        sources = [(place, best if taken else particle) for place, taken in zip(self._places, drawn, strict=True)]
        moved = {place: source[place] for place, source in sources if place in source}
        return moved if is_allowed(self._edits, self._example, moved) else particle


def _ask(example: Example, members: Sequence[Genes]) -> Fitness:
    asked = [express(example, genes) for genes in members]
    answer: Answer = yield Losses(asked)
    fitness = error_probabilities(answer.losses)
    reached = yield from worst_reached(asked, answer, fitness)
    return fitness, None if reached is None else asked[reached]


def _between(ends: Sequence[float], elapsed: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * elapsed
