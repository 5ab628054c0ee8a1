"""Lower bounds of the local Lipschitz constant over a ball around each example."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from pydantic import PositiveFloat, PositiveInt

from robustness.errors import ProbeError
from robustness.recipes.embedding.balls import Norm, project, random_in_ball, rescale
from robustness.sensitivity.batching import measure_batches, torch_generator
from robustness.sensitivity.input.jacobian import logit_jacobians, spectral_norms
from robustness.sensitivity.measurement import Direction, Kind, Quantity, Space, measure
from robustness.sensitivity.probe import Reading, Subject
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import EmbeddedBatch

LIPSCHITZ = Quantity("local-lipschitz-lower", "logits / embedding", Direction.FRAGILE)


@final
@dataclass(frozen=True, slots=True)
class LipschitzLower:
    """max over visited x' in B(x, r) of |J(x')|_2: a lower bound of the Lipschitz constant over the ball.

    The ball is of l2 perturbations of the content, convex, so that the constant is the supremum of |J|. The points
    visited are x, and those of an ascent of the secant |f(x + d) - f(x)| / |d|, which needs first derivatives alone;
    each secant is a lower bound itself. The value starts from |J(x)|, so it is never below the probe jacobian-norm.
    """

    radius: PositiveFloat
    """In median token norms."""
    steps: PositiveInt
    restarts: PositiveInt
    space: Space = Space.INPUT

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""

        def of_batch(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
            generators = [torch_generator(subject, example) for example in examples]
            values = lipschitz_lower(batch, self.radius * batch.unit, self.steps, self.restarts, generators)
            passes = self.restarts * self.steps
            labels = {"norm": "l2", "radius": self.radius, "forwards": 2 * passes + 1, "backwards": passes}
            return [
                Reading(measure(LIPSCHITZ, value, Kind.LOWER, **labels), example)
                for example, value in zip(examples, values.tolist(), strict=True)
            ]

        return measure_batches(subject, LIPSCHITZ, of_batch)


def lipschitz_lower(
    batch: EmbeddedBatch, radius: float, steps: int, restarts: int, generators: Sequence[torch.Generator]
) -> torch.Tensor:
    """Returns the largest Jacobian norm or secant found in each row's ball, shape (batch,), double precision.

    Args:
        batch: the centres.
        radius: of the balls, in embedding units.
        steps: of each ascent.
        restarts: ascents from random points of the ball.
        generators: one a row, on the CPU.

    Raises:
        ProbeError: a radius of 0 or less.
    """
    if not radius > 0:
        raise ProbeError(f"lipschitz-lower: radius {radius}; expected more than 0")
    jacobian, clean = logit_jacobians(batch)
    best = spectral_norms(jacobian)
    limit = torch.full((len(batch.labels),), radius, device=best.device, dtype=batch.embeddings.dtype)
    for _ in range(restarts):
        delta = random_in_ball(batch.content, batch.embeddings.shape[2], limit, Norm.L2, generators)
        delta = delta.to(batch.embeddings.dtype)
        for _ in range(steps):
            with torch.enable_grad():
                moved = delta.detach().requires_grad_()
                gap = torch.linalg.vector_norm(batch.logits(batch.embeddings + moved) - clean, dim=1)
                secants = gap / torch.linalg.vector_norm(moved.flatten(1), dim=1).clamp_min(1e-12)
                (slope,) = torch.autograd.grad(secants.sum(), moved)
            best = torch.maximum(best, secants.detach().double())
            slope = slope.masked_fill(~batch.content[:, :, None], 0.0).nan_to_num()
            delta = project(delta + rescale(slope, limit / 4), limit, Norm.L2)
        there = EmbeddedBatch(
            batch.embeddings + delta, batch.content, batch.labels, batch.unit, batch.inputs, batch.forward
        )
        best = torch.maximum(best, spectral_norms(logit_jacobians(there)[0]))
    return best
