"""DeepFool on embeddings, and a search that shortens any attack's result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch

from robustness.recipes.embedding.ball_attacks import Pgd
from robustness.recipes.embedding.balls import Norm, sizes, steepest
from robustness.recipes.embedding.trial import EmbeddingResult, Loss, Trial
from robustness.victims.heads.embedded_batch import EmbeddedBatch

FIRST_SHARE, LAST_SHARE = 0.25, 0.01
"""By what share a ball is smaller than the best perturbation found: first and last value."""


@final
@dataclass(frozen=True, slots=True)
class DeepFool:
    """Steps repeatedly to the boundary of the margin's linearisation (arXiv 1511.04599).

    delta + (1 + overshoot) m / norm_q(g) * steepest(g), with the dual norm q. With more than two labels the boundary
    is that with the strongest other label, not the nearest of all. An example leaves at its first success.
    """

    norm: Norm
    steps: int = 10
    overshoot: float = 0.02
    longest_step: float = 4.0
    """In median token norms; where the model is flat, the linearised boundary is far away."""
    bisections: int = 8

    def perturb(self, batch: EmbeddedBatch) -> EmbeddingResult:
        """Attacks the rows that are right; draws nothing."""
        trial = Trial(batch, Loss.MARGIN)
        rows = trial.open_rows()
        delta = trial.delta[rows]
        for _ in range(self.steps):
            if not len(rows):
                break
            slope = trial.slope(rows, delta)
            trial.propose_smaller(rows, delta, slope.fooled, self.norm)
            going = ~slope.fooled
            rows, delta = rows[going], delta[going]
            gradient, margin = slope.gradient[going], slope.margins[going]
            steepness = torch.linalg.vector_norm(gradient.flatten(1), ord=self.norm.dual, dim=1)
            length = torch.where(steepness > 0, margin / steepness, 0.0) * (1 + self.overshoot)
            length = length.clamp_max(self.longest_step * batch.unit)
            delta = delta + steepest(gradient, self.norm) * length[:, None, None]
        trial.propose_smaller(rows, delta, trial.fooled(rows, delta), self.norm)
        trial.shorten(self.bisections, self.norm)
        return trial.result()


@final
@dataclass(frozen=True, slots=True)
class ShrinkingPgd:
    """PGD in a ball smaller than the best perturbation found, started from it after projection onto the ball.

    The ball is smaller by a share that starts at a quarter and is halved whenever no wrong answer is found. An
    example leaves once its share is below 1 %: these steps could then shorten its perturbation by less than 1 %.
    """

    norm: Norm
    rounds: int = 7
    """Maximum."""
    steps: int = 40
    """For each round; each is 1 / steps of the radius long."""

    def shorten(self, batch: EmbeddedBatch, result: EmbeddingResult) -> EmbeddingResult:
        """Returns the result with shorter perturbations where it finds any, and with its own costs added."""
        rows = result.found.nonzero().flatten()
        share = torch.full((len(rows),), FIRST_SHARE, device=batch.embeddings.device)
        pgd = Pgd(self.norm, steps=self.steps, step_size=1 / self.steps, random_start=False)
        for _ in range(self.rounds):
            going = share >= LAST_SHARE
            rows, share = rows[going], share[going]
            if not len(rows):
                break
            reached = sizes(result.delta[rows], self.norm)
            start = result.delta[rows] * (1 - share)[:, None, None]
            tried = pgd.perturb_from(batch.select(rows), reached * (1 - share), start)
            better = tried.found & (sizes(tried.delta, self.norm) < reached)
            delta = torch.where(better[:, None, None], tried.delta, result.delta[rows])
            result = replace(result, delta=result.delta.index_copy(0, rows, delta)).with_costs_of(tried, rows)
            share = torch.where(better, share, share / 2)
        return result


def best_of(results: Sequence[EmbeddingResult], norm: Norm) -> EmbeddingResult:
    """Returns each row's smallest perturbation found, with the costs of all; the results are of one batch."""
    best = results[0]
    rows = torch.arange(len(best.found), device=best.found.device)
    for other in results[1:]:
        better = other.distance(norm) < best.distance(norm)
        best = replace(
            best,
            delta=torch.where(better[:, None, None], other.delta, best.delta),
            found=best.found | other.found,
        ).with_costs_of(other, rows)
    return best
