"""The smallest change of the merged weights that is found to change an answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch

from robustness.sensitivity.batching import measure_batches
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
from robustness.sensitivity.parameter.weights import Delta, WeightSpace, block_parameters, scaled, squared_norm
from robustness.sensitivity.probe import Reading, Subject
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import EmbeddedBatch, margins

DISTANCE = Quantity("parameter-distance", "frobenius", Direction.ROBUST, scale_free=True)
FIRST_ORDER = Quantity("first-order-parameter-radius", "frobenius", Direction.ROBUST, scale_free=True)
GROWTH = 1.5
"""Of the radius at a right answer before the first find; afterwards 1 + gamma, as at a wrong one 1 - gamma."""
GAMMA = 0.1


@final
@dataclass(frozen=True, slots=True)
class ParameterMargin:
    """r(x) = min |delta|_F over the blocks' merged weights such that the answer to x is wrong: an upper bound of it.

    By DDN (arXiv 1811.09600) in weight space, one example at a time, from the first-order radius |m| / |grad m| on,
    which stands beside it as an estimate. 0 where the answer is wrong already.
    """

    steps: int
    space: Space = Space.PARAMETER

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""
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
    """What a search in weight space found."""

    distance: float
    """Infinite where nothing was found, 0 where the answer was wrong already."""
    first_order: float


def smallest_change(weights: WeightSpace, margin: Callable[[], torch.Tensor], steps: int) -> SmallestChange:
    """Returns the norm of the smallest change found after which the margin is negative.

    Args:
        weights: entered; left where they were.
        margin: of one example, as a function of the weights.
        steps: forward and backward passes.
    """
    value, slope = weights.gradient(margin)
    steepness = math.sqrt(squared_norm(slope))
    if value < 0:
        return SmallestChange(0.0, 0.0)
    radius = float(value) / steepness if steepness > 0 else math.inf
    best, delta, first = math.inf, dict[str, torch.Tensor](), radius
    for number in range(steps if math.isfinite(radius) else 0):
        size = first * (0.01 + 0.99 * (1 + math.cos(math.pi * number / steps)) / 2)
        delta = _step(delta, slope, size, radius)
        weights.place(delta)
        value, slope = weights.gradient(margin)
        if value < 0:
            best = min(best, math.sqrt(squared_norm(delta)))
            radius *= 1 - GAMMA
        else:
            radius *= 1 + GAMMA if math.isfinite(best) else GROWTH
    weights.place({})
    return SmallestChange(best, first)


def _step(delta: Delta, slope: Delta, size: float, radius: float) -> dict[str, torch.Tensor]:
    """Down the margin by `size`, then onto the sphere of that radius."""
    factor = -size / max(math.sqrt(squared_norm(slope)), 1e-30)
    moved = {name: delta[name] + factor * value if delta else factor * value for name, value in slope.items()}
    return scaled(moved, radius / max(math.sqrt(squared_norm(moved)), 1e-30))


def _measurements(found: SmallestChange, steps: int) -> Iterator[Measurement]:
    labels = {"target": Target.THETA, "norm": "frobenius", "scope": "blocks", "forwards": steps, "backwards": steps}
    if math.isfinite(found.distance):
        yield measure(DISTANCE, found.distance, Kind.UPPER, **labels)
    else:
        reason = f"no change of the weights was found in {steps} steps that changes the answer"
        yield Measurement(DISTANCE, None, Kind.UPPER, status=MeasurementStatus.NOT_CONVERGED, reason=reason, **labels)  # type: ignore[arg-type]
    yield measure(FIRST_ORDER, found.first_order, Kind.ESTIMATE, **labels)
