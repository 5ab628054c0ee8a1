"""A walk along the boundary of the right answers to its nearest point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from robustness.recipes.embedding.balls import Norm, rescale, sizes, unit_direction
from robustness.recipes.embedding.trial import EmbeddingResult, Loss, Trial
from robustness.sensitivity.input.ball_ascent import BallAscent
from robustness.victims.heads.embedded_batch import EmbeddedBatch

CROSSINGS = 3
"""Forward passes of a step to locate the boundary along its ray."""
FLATTEST = 0.05
"""The least share of the gradient's norm that counts as the slope along the ray."""
BEYOND = 1.1
"""Extra distance inwards of the first pass, beyond the slope's proposal, so that the boundary is enclosed."""
LARGEST_SHRINK = 0.5
PATIENCE = 4
"""A row ends when a fourth of its steps gained less than a thousandth."""


@final
@dataclass(frozen=True, slots=True)
class BoundaryWalk:
    """Minimises R(u), the l2 distance of the boundary in direction u, over directions.

    On the boundary, m(R u) = 0, the slope has a closed form: d log R = -g.du / (g.u), with the margin's gradient g. A
    step is a quasi-Newton step on log R, then forward passes that enclose the boundary along the new ray. It gives up
    a ray whose answer is still right at the best distance so far.
    """

    steps: int
    """Maximum."""

    def shorten(self, batch: EmbeddedBatch, result: EmbeddingResult) -> EmbeddingResult:
        """Returns the result with shorter perturbations where it finds any, and with its own costs added."""
        if not result.found.any():
            return result
        trial = Trial(batch, Loss.MARGIN)
        rows = torch.arange(len(batch.labels), device=batch.embeddings.device)
        trial.propose_smaller(rows, result.delta, result.found, Norm.L2)
        delta, crosses = result.delta, result.found
        nearest = reached = torch.where(crosses, sizes(delta, Norm.L2), batch.unit)
        ascent = BallAscent(delta, nearest, patience=max(1, self.steps // PATIENCE))
        for _ in range(self.steps):
            gradient = trial.slope(rows, delta).gradient
            outwards = unit_direction(delta)
            along = (gradient * outwards).flatten(1).sum(dim=1)
            steepness = along.maximum(FLATTEST * sizes(gradient, Norm.L2)).clamp_min(1e-30)
            uphill = (gradient - along[:, None, None] * outwards) / (steepness * reached)[:, None, None]
            ascent.advance(rows, torch.where(crosses, -reached.log(), -torch.inf), uphill, at=delta)
            nearest = torch.where(crosses, reached, nearest)
            if not len(ascent.open_rows()):
                break
            delta, reached, crosses = _cross(trial, ascent.points, nearest, steepness)
            crosses &= result.found
        return trial.result().with_costs_of(result, rows)


def _cross(
    trial: Trial, directions: torch.Tensor, nearest: torch.Tensor, steepness: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns wrong points along the rays, the boundaries' distances, and which are nearer than before."""
    rows = torch.arange(len(nearest), device=nearest.device)
    radius, high, low = nearest, nearest, torch.zeros_like(nearest)
    high_margin, low_margin = torch.zeros_like(nearest), torch.full_like(nearest, torch.inf)
    share = torch.ones_like(nearest)
    for _ in range(1 + CROSSINGS):
        points = rescale(directions, radius)
        margin = trial.margins(rows, points)
        wrong = margin < 0
        trial.propose_smaller(rows, points, wrong, Norm.L2)
        high, high_margin = torch.where(wrong, radius, high), torch.where(wrong, margin, high_margin)
        low, low_margin = torch.where(wrong, low, radius), torch.where(wrong, low_margin, margin)
        if not (low < nearest).any():
            break
        share = (low_margin / (low_margin - high_margin)).nan_to_num(1.0)
        inwards = torch.maximum(high + BEYOND * high_margin / steepness, LARGEST_SHRINK * high)
        radius = torch.where(low > 0, low + (high - low) * share.clamp(0.1, 0.9), inwards)
    boundary = torch.where(low > 0, low + (high - low) * share.clamp(0.0, 1.0), high)
    return rescale(directions, high), boundary, low < nearest
