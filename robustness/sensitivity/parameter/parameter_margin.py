"""The smallest change of the merged weights found that changes an answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from pydantic import PositiveInt

from robustness.recipes.embedding.minimal_norm import anneal
from robustness.sensitivity.batching import measure_batches
from robustness.sensitivity.convergence import GATE, not_converged
from robustness.sensitivity.measurement import (
    Direction,
    Kind,
    Measurement,
    MeasurementStatus,
    Quantity,
    Space,
    Target,
    measure,
)
from robustness.sensitivity.parameter.weights import (
    WeightSpace,
    block_parameters,
    inner_product,
    squared_norm,
    sum_squares,
)
from robustness.sensitivity.probe import Reading, Subject
from robustness.tasks.abilities import Ability
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import EmbeddedBatch, margins

DISTANCE = Quantity("parameter-distance", "frobenius", Direction.ROBUST, scale_free=True)
FIRST_ORDER = Quantity("first-order-parameter-radius", "frobenius", Direction.ROBUST, scale_free=True)
STILL_SHRINKING = "the search ended while every step still halved the radius"
LARGEST_GROWTH, LARGEST_SHRINK = 2.0, 0.5
"""Largest factors of the radius in one step, because the slope of a curved margin leads too far."""
PROGRESS = 0.8
"""A proposed inward step longer than this share of the last shows that the slope does not help."""
FLATTEST = 0.3
"""The least share of the gradient's norm that counts as the slope along the ray, which may vanish."""
SLACK = 0.02
"""First overshoot of a radius beyond the boundary, because no wrong answer is found on it."""
STEP = 0.5
"""Length of the first step, in radii."""
FINAL_SHARE = 0.02
"""Ratio of the last to the first step and slack."""


@final
@dataclass(frozen=True, slots=True)
class ParameterMargin:
    """r(x) = min |delta|_F over the blocks' merged weights such that the answer to x is wrong: an upper bound of it.

    Descends on the margin in weight space, one example at a time, from the first-order radius |m| / |grad m|. That
    radius has its own row as an estimate. 0 where the answer is already wrong.
    """

    steps: PositiveInt
    space: Space = Space.PARAMETER
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.SCORES})
    copies: ClassVar[int] = 2
    """Copies of the blocks' weights beside the model: the gradient, and the originals."""

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""
        readings = list(self._search(subject))
        again = replace(subject, examples=GATE.choose(readings, DISTANCE))
        longer = replace(self, steps=2 * self.steps)._search(again)
        return GATE.check(readings, longer, [DISTANCE])

    def _search(self, subject: Subject) -> Iterator[Reading]:
        weights = WeightSpace(block_parameters(subject.victim.model))

        def of_example(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
            def margin() -> torch.Tensor:
                return margins(batch.logits(batch.embeddings), batch.labels).sum()

            with weights:
                found = smallest_change(weights, margin, self.steps)
            return [Reading(each, examples[0]) for each in _measurements(found, self.steps)]

        return measure_batches(subject, DISTANCE, of_example, singly=True)


@dataclass(frozen=True, slots=True)
class SmallestChange:
    """The result of a search in weight space."""

    distance: float
    """Infinite if nothing was found, 0 if the answer was already wrong."""
    first_order: float
    is_at_floor: bool = False
    """Whether the search ended while it still reduced the radius at the maximum rate."""


def smallest_change(weights: WeightSpace, margin: Callable[[], torch.Tensor], steps: int) -> SmallestChange:
    """Returns the norm of the smallest change found after which the margin is negative.

    Each step descends on the margin, then moves onto the sphere where a margin linear along the ray would vanish. FMN
    (arXiv 2102.12827) does the same before its first success. The move is inwards from a wrong answer, outwards from
    a right one. The radius may halve at every step and converges quadratically to the boundary. A cosine anneals the
    steps.

    Args:
        weights: entered; unchanged afterwards.
        margin: of one example, as a function of the weights.
        steps: forward and backward passes, after one at the origin.
    """
    value, slope = weights.add_slope(margin), weights.slope
    steepness = math.sqrt(squared_norm(slope))
    if value < 0:
        return SmallestChange(0.0, 0.0)
    first = radius = float(value) / steepness if steepness > 0 else math.inf
    best, along_ray = math.inf, RayBracket()
    for name, each in slope.items() if math.isfinite(radius) else ():
        weights.place(name, each.mul_(-radius / steepness))
    for number in range(steps if math.isfinite(radius) else 0):
        weights.clear()
        value, slope = weights.add_slope(margin), weights.slope
        if value < 0:
            best = min(best, math.sqrt(sum_squares(map(weights.offset, slope))))
        share = anneal(1.0, FINAL_SHARE, number / steps)
        steepness = math.sqrt(squared_norm(slope))
        along = -sum(inner_product(each, weights.offset(name)) for name, each in slope.items()) / radius
        wanted = along_ray.next_radius(float(value), max(along, FLATTEST * steepness), radius, SLACK * share)
        step = STEP * share * wanted / steepness if steepness > 0 else 0.0
        reached = math.sqrt(radius**2 + 2 * step * along * radius + (step * steepness) ** 2)
        for name, each in slope.items():
            moved = weights.offset(name).mul_(wanted / reached)
            weights.place(name, moved.add_(each, alpha=-step * wanted / reached))
        radius = wanted
    weights.restore()
    return SmallestChange(best, first, along_ray.is_shrinking)


@dataclass(slots=True)
class RayBracket:
    """Radii between which the margin changes its sign, each seen in its own direction."""

    right: float = 0.0
    wrong: float = math.inf
    predicted: float = 0.0
    """The slope's last proposed inward step, as a share of the radius."""
    is_shrinking: bool = False
    """Whether the last inward step was the longest allowed."""

    def next_radius(self, margin: float, steepness: float, radius: float, slack: float) -> float:
        """The radius where a linear margin would vanish, or halfway if that has proved not to converge."""
        linear = radius + margin / max(steepness, 1e-30)
        self.is_shrinking = False
        if margin < 0:
            self.wrong = radius
            self.right = self.right if self.right < radius else 0.0
            before, self.predicted = self.predicted, min(1 - linear / radius, LARGEST_SHRINK)
            if before and self.predicted > PROGRESS * before:
                linear = (self.right + radius) / 2
            self.is_shrinking = linear <= radius * (1 - LARGEST_SHRINK)
            return max(linear, radius * (1 - LARGEST_SHRINK))
        self.right, self.predicted = radius, 0.0
        if linear > self.wrong > radius:
            return (radius + self.wrong) / 2
        return min(linear, LARGEST_GROWTH * radius) * (1 + slack)


def _measurements(found: SmallestChange, steps: int) -> Iterator[Measurement]:
    paid = {"forwards": steps + 1, "backwards": steps + 1}
    labels = {"target": Target.THETA, "norm": "frobenius", "scope": "blocks"} | paid
    if math.isfinite(found.distance):
        measured = measure(DISTANCE, found.distance, Kind.UPPER, **labels)
        yield not_converged(measured, STILL_SHRINKING) if found.is_at_floor else measured
    else:
        reason = f"no change of the weights found in {steps} steps changes the answer"
        yield Measurement(DISTANCE, None, Kind.UPPER, status=MeasurementStatus.NOT_CONVERGED, reason=reason, **labels)  # type: ignore[arg-type]
    yield measure(FIRST_ORDER, found.first_order, Kind.ESTIMATE, **labels)
