"""Lower bounds of the local Lipschitz constant over a ball around each example."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from pydantic import PositiveFloat, PositiveInt

from robustness.errors import ProbeError
from robustness.recipes.embedding.balls import Norm, project, random_in_ball, rescale, sizes
from robustness.sensitivity.attention import twice_differentiable
from robustness.sensitivity.batching import measure_batches, torch_generator
from robustness.sensitivity.convergence import GATE
from robustness.sensitivity.input.ball_ascent import BallAscent
from robustness.sensitivity.input.jacobian import logit_jacobians, spectral_norms
from robustness.sensitivity.input.units import PER_EMBEDDING, TokenUnits
from robustness.sensitivity.measurement import Direction, Kind, Quantity, Space, measure
from robustness.sensitivity.probe import Reading, Subject
from robustness.tasks.abilities import Ability
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import EmbeddedBatch, margins

LIPSCHITZ = Quantity("local-lipschitz-lower", PER_EMBEDDING, Direction.FRAGILE)


PATIENCE = 6
"""An ascent ends when a sixth of its steps gained less than a thousandth."""
SMALLEST = 1e-30
"""Least norm in a logarithm."""
DESCENT_STEPS, DESCENT_SHARE = 12, 0.2
"""Steps towards the nearest other answer, and their length in radii."""


@final
@dataclass(frozen=True, slots=True)
class LipschitzLower:
    """max over visited x' in B(x, r) of |J(x')|_2: a lower bound of the Lipschitz constant over the ball.

    The ball is of l2 perturbations of the content. It is convex, so the constant is the supremum of |J|. The ascent
    maximises this norm by products with second derivatives. It starts at the steepest point on the way from x to
    another answer (slopes peak near the boundary), and at random points. The value starts from |J(x)|, so it is never
    below the probe jacobian-norm, and has the same units.
    """

    radius: PositiveFloat
    """In median token norms."""
    steps: PositiveInt
    """Maximum for each ascent."""
    restarts: PositiveInt
    """Ascents, the first from the steepest point on the way to another answer."""
    space: Space = Space.INPUT
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.LOGITS})

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""
        readings = list(self._search(subject))
        again = replace(subject, examples=GATE.choose(readings, LIPSCHITZ))
        checked = GATE.check(readings, replace(self, steps=2 * self.steps)._search(again), [LIPSCHITZ])
        units = TokenUnits.of(subject.deciding_victim)
        return (each for reading in checked for each in units.add(reading))

    def _search(self, subject: Subject) -> Iterator[Reading]:
        def of_batch(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
            generators = [torch_generator(subject, example) for example in examples]
            with twice_differentiable(subject.deciding_victim, batch):
                found = lipschitz_lower(batch, self.radius * batch.unit, self.steps, self.restarts, generators)
            labels = {"norm": "l2", "radius": self.radius}
            return [
                Reading(
                    measure(LIPSCHITZ, value, Kind.LOWER, forwards=passes, backwards=2 * passes, **labels), example
                )
                for example, value, passes in zip(examples, found.values.tolist(), found.passes.tolist(), strict=True)
            ]

        return measure_batches(subject, LIPSCHITZ, of_batch)


@final
@dataclass(frozen=True, slots=True)
class LargestNorms:
    """The ascents' results, row by row."""

    values: torch.Tensor
    """(batch,), double precision."""
    passes: torch.Tensor
    """(batch,): points evaluated, each by a forward pass, a backward pass and one through both."""


def lipschitz_lower(
    batch: EmbeddedBatch, radius: float, steps: int, restarts: int, generators: Sequence[torch.Generator]
) -> LargestNorms:
    """Returns the largest Jacobian norm found in each row's ball.

    Args:
        batch: the centres; their logits must be twice differentiable.
        radius: of the balls, in embedding units.
        steps: maximum for each ascent.
        restarts: ascents, the first from the steepest point of a descent on the margin, the others from random ones.
        generators: one for each row, on the CPU.

    Raises:
        ProbeError: a radius of 0 or less.
    """
    if not radius > 0:
        raise ProbeError(f"lipschitz-lower: radius {radius}; expected more than 0")
    jacobian, _ = logit_jacobians(batch)
    best, passes = spectral_norms(jacobian), torch.ones_like(batch.labels) + DESCENT_STEPS
    limits = torch.full((len(batch.labels),), radius, device=best.device, dtype=batch.embeddings.dtype)
    start = _steepest_on_descent(batch, limits)
    for _ in range(restarts):
        ascent = BallAscent(start, limits, patience=max(1, steps // PATIENCE))
        directions = _leading_direction(jacobian).to(limits.dtype)
        for _ in range(steps):
            rows = ascent.open_rows()
            if not len(rows):
                break
            part = batch.select(rows)
            values, slopes, directions[rows] = _norm_along(part, ascent.points[rows], directions[rows])
            passes[rows] += 1
            ascent.advance(rows, values, slopes)
        there = replace(batch, embeddings=batch.embeddings + ascent.best_points)
        best, passes = torch.fmax(best, spectral_norms(logit_jacobians(there)[0])), passes + 1
        start = random_in_ball(batch.content, start.shape[2], limits, Norm.L2, generators).to(start.dtype)
    return LargestNorms(best, passes)


def _steepest_on_descent(batch: EmbeddedBatch, limits: torch.Tensor) -> torch.Tensor:
    """The point of the largest margin gradient on the way from the centre to another answer, shaped as embeddings."""
    with torch.no_grad():
        answers = batch.logits(batch.embeddings).argmax(dim=1)
    delta = best_points = torch.zeros_like(batch.embeddings)
    best = torch.full_like(limits, -1.0)
    for _ in range(DESCENT_STEPS):
        with torch.enable_grad():
            point = (batch.embeddings + delta).detach().requires_grad_()
            (slope,) = torch.autograd.grad(margins(batch.logits(point), answers).sum(), point)
        slope = slope.masked_fill(~batch.content[:, :, None], 0.0).nan_to_num()
        norms = sizes(slope, Norm.L2)
        best_points = torch.where((norms > best)[:, None, None], delta, best_points)
        best = torch.maximum(best, norms)
        delta = project(delta - rescale(slope, DESCENT_SHARE * limits), limits, Norm.L2)
    return best_points


def _leading_direction(jacobian: torch.Tensor) -> torch.Tensor:
    """The left singular vector of the largest singular value, shape (batch, labels)."""
    flat = jacobian.flatten(2).double().nan_to_num()
    vectors: torch.Tensor = torch.linalg.eigh(flat @ flat.mT).eigenvectors
    return vectors[:, :, -1]


def _norm_along(
    batch: EmbeddedBatch, delta: torch.Tensor, directions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns log |J^T u| at the moved points, its gradient over the content, and the next directions.

    |J^T u| is at most |J|, since |u| = 1. Its gradient in u is J J^T u / |J^T u|: a step of power iteration without
    further passes.
    """
    with torch.enable_grad():
        point = (batch.embeddings + delta).detach().requires_grad_()
        along = directions.detach().requires_grad_()
        (row,) = torch.autograd.grad((batch.logits(point) * along).sum(), point, create_graph=True)
        norms = torch.linalg.vector_norm(row.masked_fill(~batch.content[:, :, None], 0.0).flatten(1), dim=1)
        values = norms.clamp_min(SMALLEST).log()
        slopes, turned = torch.autograd.grad(values.sum(), [point, along], allow_unused=True, materialize_grads=True)
    lengths = torch.linalg.vector_norm(turned, dim=1, keepdim=True)
    turned = torch.where(lengths > 0, turned / lengths.clamp_min(SMALLEST), directions)
    return values.detach(), slopes.masked_fill(~batch.content[:, :, None], 0.0).nan_to_num(), turned
