"""The largest rise of the loss when the merged weights move by a given norm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import ClassVar, Protocol, final

import torch
from pydantic import PositiveFloat, PositiveInt

from robustness.errors import ProbeError
from robustness.sensitivity.batching import FittingBatches, refusals_as_unsupported, require_float32
from robustness.sensitivity.convergence import GATE
from robustness.sensitivity.measurement import Direction, Kind, MeasurementStatus, Quantity, Space, Target, measure
from robustness.sensitivity.parameter.reachability import find_tangents
from robustness.sensitivity.parameter.tangent import Projection, Tangent
from robustness.sensitivity.parameter.weights import Delta, WeightSpace, block_parameters, squared_norm, sum_squares
from robustness.sensitivity.probe import Reading, Subject, Unsupported
from robustness.tasks.abilities import Ability
from robustness.victims.heads.embedded_batch import EmbeddedBatch, frozen

SHARPNESS = Quantity("sharpness", "loss", Direction.FRAGILE)
SUBSPACE_SHARPNESS = Quantity("sharpness-in-tangent", "loss")


NOT_STEEPEST = "a valid but loose lower bound: the projected direction is not the steepest in the adaptive norm"


FIRST_STEP, SHORTEST_STEP, LONGEST_STEP = 0.3, 0.05, 1.0
"""Lengths of a step along the steepest direction, in radii. Short ones average the directions of many steps."""
GROWN, SHRUNK = 1.3, 0.5
"""Factors of a step's length after a rise and after a fall: a zigzag needs short steps, a quadratic loss long."""


class WeightNorm(StrEnum):
    """The norm of a change of the weights."""

    FROBENIUS = "frobenius"
    """Over all weights jointly."""
    MODULE_RELATIVE = "module-relative"
    """The largest over modules of |delta| / |W|, both Frobenius, weight and bias together."""
    ADAPTIVE = "adaptive"
    """|delta / |w|| in l2, element by element (arXiv 2102.11600): the same after rescaling single weights."""


class Loss(Protocol):
    """A loss that can be differentiated."""

    def add_slope(self) -> float:
        """Returns the loss at the current weights, and adds its gradient to theirs."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Sharpness:
    """S_A(rho) = max over delta in A, |delta| <= rho, of L(theta + delta) - L(theta), at the merged weights theta.

    L is the mean cross-entropy over the examples. A is the whole space of the blocks' weights, or the tangent space
    of an adapter (at a full checkpoint, of its partner). Every value found by steepest ascent is a lower bound of the
    maximum. The whole space contains the subspace, so it also counts the subspace's solution: S_T <= S. Compare arms
    in the whole space, never one arm's subspace with another arm's whole space. Sharpness follows the learning rate
    and does not predict generalisation (arXiv 2302.07011). The loss rises faster for a more confident model, so S is
    not scale-free.
    """

    frobenius: PositiveFloat
    """Radius over all the blocks' weights jointly."""
    module_relative: PositiveFloat
    """Radius of each module, in Frobenius norms of its own weights."""
    adaptive: PositiveFloat
    """Radius in the l2 norm of relative changes of single weights."""
    steps: PositiveInt
    adaptive_in_tangent: bool = False
    """Whether to search subspaces in the adaptive norm too, where bounds are loose."""
    space: Space = Space.PARAMETER
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.SCORES})
    copies: ClassVar[int] = 2
    """Copies of the blocks' weights beside the model: the gradient, and the originals."""

    @property
    def radii(self) -> dict[WeightNorm, float]:
        """Radii by norm."""
        return {
            WeightNorm.FROBENIUS: self.frobenius,
            WeightNorm.MODULE_RELATIVE: self.module_relative,
            WeightNorm.ADAPTIVE: self.adaptive,
        }

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""
        victim = subject.victim
        require_float32(victim)
        if not subject.examples:
            return
        parameters = block_parameters(victim.model)
        tangents: list[tuple[str, Tangent]] = []
        with suppress(Unsupported):  # the whole space is defined nevertheless
            tangents = find_tangents(subject, parameters)
        with refusals_as_unsupported(), frozen(victim):
            fitting = FittingBatches([victim.embed(some) for some in victim.gradient_batches(subject.examples)])
        with refusals_as_unsupported(), frozen(victim), WeightSpace(parameters) as weights:
            for norm, radius in self.radii.items():
                search = Ascent(weights, MeanLoss(weights, fitting.batches), norm, radius, self.steps)
                is_loose = norm is WeightNorm.ADAPTIVE and not self.adaptive_in_tangent
                searched = [] if is_loose else tangents
                passes = (2 * self.steps + 1) * len(subject.examples)
                yield from _search_spaces(search, searched, fitting, forwards=passes)


def _search_spaces(
    search: Ascent, tangents: Sequence[tuple[str, Tangent]], fitting: FittingBatches, *, forwards: int
) -> Iterator[Reading]:
    """Searches the subspaces first: their results are candidates in the whole space as well."""

    def reading(quantity: Quantity, value: float, scope: str) -> Reading:
        measured = measure(
            quantity,
            value,
            Kind.LOWER,
            target=Target.THETA,
            norm=str(search.norm),
            radius=search.radius,
            scope=scope,
            forwards=forwards,
            backwards=forwards,
        )
        if quantity is SUBSPACE_SHARPNESS and search.norm is WeightNorm.ADAPTIVE and measured.value is not None:
            measured = replace(measured, status=MeasurementStatus.NOT_CONVERGED, reason=NOT_STEEPEST)
        return Reading(measured)

    rises: list[Rise] = []
    found, longer = list[Reading](), list[Reading]()
    for scope, tangent in tangents:
        with suppress(Unsupported):  # the whole space is defined nevertheless
            rises.append(fitting.run(partial(search.rise, tangent.project)))
            found.append(reading(SUBSPACE_SHARPNESS, rises[-1].found, scope))
            longer.append(reading(SUBSPACE_SHARPNESS, rises[-1].after_twice, scope))
    rises.append(fitting.run(search.rise))
    found.append(reading(SHARPNESS, max(each.found for each in rises), "blocks"))
    longer.append(reading(SHARPNESS, max(each.after_twice for each in rises), "blocks"))
    checked = list(GATE.check(found, longer, [SHARPNESS]))
    return GATE.check(checked, longer, [SUBSPACE_SHARPNESS])


@final
@dataclass(frozen=True, slots=True)
class MeanLoss:
    """The mean cross-entropy of some batches as a function of the weights."""

    weights: WeightSpace
    batches: Sequence[EmbeddedBatch]

    def add_slope(self) -> float:
        """See Loss."""
        count = sum(len(batch.labels) for batch in self.batches)
        return sum(float(self.weights.add_slope(partial(_summed_loss, batch, count))) for batch in self.batches)


def _summed_loss(batch: EmbeddedBatch, count: int) -> torch.Tensor:
    logits = batch.logits(batch.embeddings)
    return torch.nn.functional.cross_entropy(logits, batch.labels, reduction="sum") / count


@dataclass(frozen=True, slots=True)
class Rise:
    """The largest rises found, at least 0."""

    found: float
    """With the requested steps."""
    after_twice: float
    """With twice as many."""


@final
class Ascent:
    """Steepest ascent of a loss in a ball around the current weights.

    Holds the gradient and the original weights, and no third copy: the next change of the weights is made in the
    gradient's place.
    """

    def __init__(self, weights: WeightSpace, loss: Loss, norm: WeightNorm, radius: float, steps: int) -> None:
        if not radius > 0:
            raise ProbeError(f"sharpness: radius {radius} in {norm}; expected more than 0")
        self.norm, self.radius = norm, radius
        self._weights, self._loss, self._steps = weights, loss, steps

    def rise(self, project: Projection | None = None) -> Rise:
        """Returns the largest rises of the loss found; with a projection, in its linear subspace.

        Each step goes along the steepest direction, then onto the sphere. For a quadratic function this is power
        iteration on the Hessian, shifted so that it does not converge to a negative eigenvalue.
        """
        self._weights.restore()
        self._weights.clear()
        start = best = found = value = self._loss.add_slope()
        length = math.inf
        for number in range(2 * self._steps):
            found = best if number <= self._steps else found
            self._step(project, length)
            self._weights.clear()
            before, value = value, self._loss.add_slope()
            best = max(best, value)
            length = next_length(length, has_risen=value >= before)
        self._weights.restore()
        return Rise(found - start, best - start)

    def _step(self, project: Projection | None, length: float) -> None:
        """Turns the gradient into the next change of the weights, and makes it; infinitely long without the last."""
        change = self._weights.slope
        if project:
            project(change)
        if not any(value.any() for value in change.values()):
            self._draw(change, project)
        self._onto_sphere(self._steepest(change))
        if math.isfinite(length):
            for name, value in change.items():
                value.mul_(length).add_(self._weights.offset(name))
            if project:
                project(change)
            self._onto_sphere(change)
        for name, value in change.items():
            self._weights.place(name, value)

    def _draw(self, change: dict[str, torch.Tensor], project: Projection | None) -> None:
        """A fixed random direction, because at a stationary point no direction is better than another."""
        generator = torch.Generator().manual_seed(0)
        for value in change.values():
            value.copy_(torch.randn(value.shape, generator=generator))
        if project:
            project(change)

    def size(self, delta: Delta) -> float:
        """Returns the norm of a change of the weights."""
        if self.norm is WeightNorm.FROBENIUS:
            return math.sqrt(squared_norm(delta))
        if self.norm is WeightNorm.ADAPTIVE:
            return math.sqrt(
                sum_squares(_safe_ratio(value, self._weights.origin(name).abs()) for name, value in delta.items())
            )
        return max(self._relative_size(delta, names) for names in _by_module(delta).values())

    def _relative_size(self, delta: Delta, names: Sequence[str]) -> float:
        whole = math.sqrt(sum_squares(map(self._weights.origin, names)))
        return math.sqrt(sum_squares(delta[name] for name in names)) / max(whole, 1e-30)

    def _steepest(self, slope: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Turns a gradient, in place, into a direction along which a linear function rises most."""
        if self.norm is WeightNorm.ADAPTIVE:
            for name, value in slope.items():
                value.mul_(self._weights.origin(name).square())
        return slope

    def _onto_sphere(self, change: dict[str, torch.Tensor]) -> None:
        """Scales a change in place to the radius.

        Each module separately if the norm is the maximum over modules: the subspaces are products over them.
        """
        if self.norm is WeightNorm.MODULE_RELATIVE:
            for names in _by_module(change).values():
                factor = self.radius / max(self._relative_size(change, names), 1e-30)
                for name in names:
                    change[name].mul_(factor)
            return
        factor = self.radius / max(self.size(change), 1e-30)
        for value in change.values():
            value.mul_(factor)


def next_length(length: float, *, has_risen: bool) -> float:
    """Returns the length of the step after one of `length`.

    >>> next_length(math.inf, has_risen=True), next_length(0.5, has_risen=False), next_length(0.9, has_risen=True)
    (0.3, 0.25, 1.0)
    """
    if not math.isfinite(length):
        return FIRST_STEP
    return min(LONGEST_STEP, GROWN * length) if has_risen else max(SHORTEST_STEP, SHRUNK * length)


def _by_module(delta: Delta) -> dict[str, list[str]]:
    modules: dict[str, list[str]] = {}
    for name in delta:
        modules.setdefault(name.rpartition(".")[0], []).append(name)
    return modules


def _safe_ratio(value: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """A weight of zero cannot move in the adaptive norm."""
    return torch.where(scale > 0, value / scale.clamp_min(1e-30), torch.where(value == 0, 0.0, torch.inf))
