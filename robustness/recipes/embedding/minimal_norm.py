"""Minimal-norm attacks on embeddings: the smallest perturbation found that changes the answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, final

import torch

from robustness.recipes.embedding.balls import Norm, project, rescale, sizes, unit_direction
from robustness.recipes.embedding.trial import EmbeddingResult, Loss, Slope, Trial
from robustness.victims.heads.embedded_batch import EmbeddedBatch

FINAL_SHARE = 0.01
"""Ratio of the last to the first step size, in both attacks."""


class MinimalAttack(Protocol):
    """Looks for the smallest perturbation that changes the answer."""

    @property
    def norm(self) -> Norm:
        """The norm that it minimises."""
        ...

    def perturb(self, batch: EmbeddedBatch) -> EmbeddingResult:
        """Attacks the rows with right answers, all for the full number of steps; draws nothing."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Ddn:
    """Decoupled direction and norm (arXiv 1811.09600), minimal in l2.

    The direction follows the gradient, delta + size * g / |g|. The norm is radius. It is multiplied by 1 + gamma at
    a point that is still right and by 1 - gamma at a wrong one. The size is annealed to 1 % by a cosine.
    """

    steps: int = 100
    gamma: float = 0.05
    initial_radius: float = 0.25
    """First norm and first step, in median token norms; the paper's 1 is for images."""
    bisections: int = 8
    """Bisections of the length found, which leave an error of 1/256; 0 as in the paper."""
    loss: Loss = Loss.MARGIN

    @property
    def norm(self) -> Norm:
        """Always l2."""
        return Norm.L2

    def perturb(self, batch: EmbeddedBatch, start: torch.Tensor | None = None) -> EmbeddingResult:
        """See MinimalAttack.

        Args:
            batch: what to attack.
            start: (batch,), first norms and steps in embedding units, in place of `initial_radius`.
        """
        trial = Trial(batch, self.loss)
        rows = trial.open_rows()
        if not len(rows):
            return trial.result()
        delta = trial.delta[rows]
        given = torch.full_like(delta[:, 0, 0], self.initial_radius * batch.unit) if start is None else start[rows]
        radius, first = given, given[:, None, None]
        for number in range(self.steps):
            slope = trial.slope(rows, delta)
            trial.propose_smaller(rows, delta, slope.fooled, self.norm)
            radius = radius * torch.where(slope.fooled, 1 - self.gamma, 1 + self.gamma)
            size = first * anneal(1.0, FINAL_SHARE, number / self.steps)
            delta = rescale(delta + size * unit_direction(slope.gradient), radius)
        trial.propose_smaller(rows, delta, trial.fooled(rows, delta), self.norm)
        trial.shorten(self.bisections, self.norm)
        return trial.result()


@final
@dataclass(frozen=True, slots=True)
class Fmn:
    """Fast minimum-norm (arXiv 2102.12827), minimal in l2 or linf.

    Until a wrong answer is found, the radius is |delta| + |m| / |grad|_dual, a linear model's distance to the
    boundary. From then on it grows or shrinks by gamma, annealed to 0.001. At a wrong point it never exceeds the best
    perturbation found. Steps of l2 norm `step_size`, annealed to 1 %, are projected onto that ball. Unlike in the
    paper, the first radii are larger by 1 + gamma too. Otherwise they would approach the boundary from one side for
    ever, as Newton's method does.
    """

    norm: Norm
    steps: int = 100
    gamma: float = 0.05
    step_size: float = 0.25
    """In median token norms; the paper's 1 is for images."""
    bisections: int = 8
    """Bisections of the length found, which leave an error of 1/256; 0 as in the paper."""

    def perturb(self, batch: EmbeddedBatch) -> EmbeddingResult:
        """See MinimalAttack."""
        trial = Trial(batch, Loss.MARGIN)
        rows = trial.open_rows()
        if not len(rows):
            return trial.result()
        first = self.step_size * batch.unit
        delta = trial.delta[rows]
        radius = torch.full((len(rows),), torch.inf, device=delta.device)
        found = torch.zeros_like(rows, dtype=torch.bool)
        for number in range(self.steps):
            slope = trial.slope(rows, delta)
            trial.propose_smaller(rows, delta, slope.fooled, self.norm)
            found = found | slope.fooled
            gamma = anneal(self.gamma, 0.001, number / self.steps)
            best = sizes(trial.delta[rows], self.norm)
            shrunk = torch.minimum(radius * (1 - gamma), best)
            grown = torch.where(found, radius, self._reach(delta, slope)) * (1 + gamma)
            radius = torch.where(slope.fooled, shrunk, grown)
            size = anneal(first, FINAL_SHARE * first, number / self.steps)
            delta = project(delta + size * unit_direction(slope.gradient), radius, self.norm)
        trial.propose_smaller(rows, delta, trial.fooled(rows, delta), self.norm)
        trial.shorten(self.bisections, self.norm)
        return trial.result()

    def _reach(self, delta: torch.Tensor, slope: Slope) -> torch.Tensor:
        """The norm of delta plus the distance to the boundary of the model's linearisation, shape (rows,)."""
        steepness = torch.linalg.vector_norm(slope.gradient.flatten(1), ord=self.norm.dual, dim=1)
        distance = torch.where(steepness > 0, slope.margins.abs() / steepness, 0.0)
        return sizes(delta, self.norm) + distance


def anneal(first: float, last: float, progress: float) -> float:
    """Returns the cosine's value between first (progress 0) and last (progress 1).

    >>> anneal(1.0, 0.0, 0.5)
    0.5
    """
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2
