"""The curvature of the loss over the merged weights: extreme eigenvalues and trace of its Hessian."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

import numpy as np
import torch
from pydantic import PositiveInt
from scipy.linalg import eigh_tridiagonal
from scipy.special import stdtrit

from robustness.sensitivity.attention import twice_differentiable
from robustness.sensitivity.batching import FittingBatches, refusals_as_unsupported, require_float32
from robustness.sensitivity.convergence import not_converged
from robustness.sensitivity.measurement import Direction, Kind, Quantity, Space, Target, measure
from robustness.sensitivity.parameter.accumulation import add_parts_at_once
from robustness.sensitivity.parameter.reachability import find_tangents
from robustness.sensitivity.parameter.tangent import Projection
from robustness.sensitivity.parameter.weights import Delta, WeightSpace, block_parameters, squared_norm
from robustness.sensitivity.probe import Reading, Subject, Unsupported
from robustness.tasks.abilities import Ability
from robustness.victims.heads.embedded_batch import EmbeddedBatch, frozen

LARGEST = Quantity("largest-eigenvalue", "loss / weight^2", Direction.FRAGILE)
SMALLEST = Quantity("smallest-eigenvalue", "loss / weight^2")
TRACE = Quantity("trace", "loss / weight^2", Direction.FRAGILE)
LARGEST_RESIDUAL = Quantity("largest-eigenvalue-residual", "share", scale_free=True)
SMALLEST_RESIDUAL = Quantity("smallest-eigenvalue-residual", "share", scale_free=True)
MAX_RESIDUAL = 0.05
"""Largest residual of a converged extreme value, relative to the largest; the error is about its square."""
BREAKDOWN = 1e-10
"""A Lanczos vector shorter than this share of the first ends the iteration, because the space is exhausted."""

Product = Callable[[Delta, Delta], None]
"""Adds the Hessian's product with a vector of weights, the first, to a sum, the second, in place."""


@final
@dataclass(frozen=True, slots=True)
class Curvature:
    """Eigenvalues of H, the Hessian of the mean cross-entropy over the blocks' merged weights, and of P H P.

    P projects onto an adapter's tangent space. Lanczos uses products H v. The largest Ritz value is a lower bound of
    the largest eigenvalue, the smallest an upper bound of the smallest. Some eigenvalue lies within the residual |H y
    - t y| of each; a row has it as a share of the largest in size. The trace is Hutchinson's estimate, the mean of
    v.H v over random signs, with the interval of its standard error. All depend on the model's confidence.
    """

    iterations: PositiveInt
    """Lanczos iterations."""
    draws: PositiveInt
    """Random sign vectors of the trace's estimate."""
    space: Space = Space.PARAMETER
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.SCORES})
    copies: ClassVar[int] = 2
    """Copies of the blocks' weights beside the model: two vectors, one of which takes up the product."""

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""
        victim = subject.victim
        require_float32(victim)
        if not subject.examples:
            return
        parameters = block_parameters(victim.model)
        spaces: list[tuple[str, Projection | None]] = [("blocks", None)]
        with suppress(Unsupported):  # the whole space is defined nevertheless
            spaces += [(scope, tangent.project) for scope, tangent in find_tangents(subject, parameters)]
        with refusals_as_unsupported(), frozen(victim):
            fitting = FittingBatches([victim.embed(some) for some in victim.gradient_batches(subject.examples)])
        with (
            refusals_as_unsupported(),
            frozen(victim),
            twice_differentiable(victim, fitting.batches[0]),
            WeightSpace(parameters) as weights,
        ):
            product = hessian_product(weights, fitting.batches)
            for scope, project in spaces:
                hessian = Restricted(product, weights.parameters, project)
                with nullcontext() if project is None else suppress(Unsupported):
                    yield from self._of_space(hessian, scope, fitting)

    def _of_space(self, hessian: Restricted, scope: str, fitting: FittingBatches) -> Iterator[Reading]:
        found = fitting.run(partial(extreme_eigenvalues, hessian, self.iterations))
        count, products = sum(len(batch.labels) for batch in fitting.batches), 1 + self.iterations
        passes = {"forwards": products * count, "backwards": 2 * products * count}
        labels = {"target": Target.THETA, "scope": scope}
        for quantity, residual, value, error, kind in (
            (LARGEST, LARGEST_RESIDUAL, found.high, found.high_residual, Kind.LOWER),
            (SMALLEST, SMALLEST_RESIDUAL, found.low, found.low_residual, Kind.UPPER),
        ):
            share = error / max(abs(found.low), abs(found.high), 1e-30)
            measured = measure(quantity, value, kind, **labels, **passes)
            reason = f"its residual is {share:.0%} of the largest Ritz value after {self.iterations} iterations"
            yield Reading(not_converged(measured, reason) if share > MAX_RESIDUAL else measured)
            yield Reading(measure(residual, share, Kind.EXACT, **labels))
        draws = np.array(fitting.run(partial(hutchinson, hessian, self.draws)))
        mean, ends = float(draws.mean()), interval_of_mean(draws)
        yield Reading(measure(TRACE, mean, Kind.ESTIMATE, **labels), low=ends[0], high=ends[1])


def interval_of_mean(draws: np.ndarray) -> tuple[float, float] | tuple[None, None]:
    """Returns Student's 95 % interval of the mean of few independent draws, shape (n,); none for a single one."""
    if len(draws) < 2:
        return None, None
    error = float(stdtrit(len(draws) - 1, 0.975) * draws.std(ddof=1) / math.sqrt(len(draws)))
    return float(draws.mean()) - error, float(draws.mean()) + error


def hessian_product(weights: WeightSpace, batches: Sequence[EmbeddedBatch]) -> Product:
    """Returns the product with H, the Hessian of the mean cross-entropy over the batches, at the current weights.

    H v is the gradient of <g, v>, g the loss's gradient. Each tensor of g is freed as soon as its inner product with
    v is known. Each part of H v is freed as soon as it is in the sum. So a product holds v and the sum alone.
    """
    parameters = list(weights.parameters.values())
    count = sum(len(batch.labels) for batch in batches)

    def product(vector: Delta, total: Delta) -> None:
        for name, parameter in weights.parameters.items():
            parameter.grad = total[name]
        try:
            for batch in batches:
                with torch.enable_grad():
                    logits = batch.logits(batch.embeddings)
                    loss = torch.nn.functional.cross_entropy(logits, batch.labels, reduction="sum") / count
                    along = _slope_along(loss, weights.parameters, vector)
                if along.requires_grad:
                    add_parts_at_once(along)
                    torch.autograd.backward(along, inputs=parameters)
        finally:  # the sum is the caller's, who may have to free it
            for parameter in parameters:
                parameter.grad = None

    return product


def _slope_along(loss: torch.Tensor, parameters: Delta, vector: Delta) -> torch.Tensor:
    """<g, v> with its graph, without the whole of g."""
    parts: list[torch.Tensor] = []

    def consume(gradient: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
        parts.append(torch.dot(gradient.flatten(), part.flatten()))
        return gradient.new_zeros(()).expand_as(gradient)

    handles = [
        parameter.register_hook(lambda gradient, part=vector[name]: consume(gradient, part))  # type: ignore[no-untyped-call]
        for name, parameter in parameters.items()
    ]
    try:
        torch.autograd.grad(loss, list(parameters.values()), create_graph=True, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(parts).sum() if parts else loss.new_zeros(())


@final
@dataclass(frozen=True, slots=True)
class Restricted:
    """P H P on the range of a projection P, for vectors in it; H itself without a projection."""

    product: Product
    ambient: Delta
    """The parameters."""
    project: Projection | None = None

    def add_product(self, vector: Delta, total: Delta) -> None:
        """Adds the product with a vector to a sum, both in the range, in place."""
        self.product(vector, total)
        if self.project:
            self.project(total)

    def signs(self, seed: int) -> dict[str, torch.Tensor]:
        """Returns the projection of random signs."""
        generator = torch.Generator().manual_seed(seed)
        vector = {
            name: (torch.randint(0, 2, value.shape, generator=generator) * 2 - 1).to(value)
            for name, value in self.ambient.items()
        }
        if self.project:
            self.project(vector)
        return vector

    def zeros(self) -> dict[str, torch.Tensor]:
        """Returns the vector zero."""
        return {name: torch.zeros_like(value, requires_grad=False) for name, value in self.ambient.items()}


@dataclass(frozen=True, slots=True)
class Extremes:
    """The extreme Ritz values of a symmetric map."""

    low: float = 0.0
    high: float = 0.0
    low_residual: float = 0.0
    """|H y - t y| for the unit Ritz vector y: some eigenvalue lies no farther from t."""
    high_residual: float = 0.0


def extreme_eigenvalues(hessian: Restricted, iterations: int) -> Extremes:
    """Returns the extreme Ritz values after some Lanczos steps from a fixed start.

    Keeps two vectors, the current one and the sum that starts as a multiple of the previous one (Paige 1972).
    Duplicates of extreme values from rounding do not move the extremes. The residual of a Ritz pair is the next
    vector's length times the last entry of the tridiagonal matrix's eigenvector.
    """
    current = hessian.zeros()
    hessian.add_product(hessian.signs(seed=0), current)
    length = math.sqrt(squared_norm(current))
    if not length > 0:
        return Extremes()
    _scale(current, 1 / length)
    rest = hessian.zeros()  # before a product it is minus the last length times the previous vector
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(iterations):
        hessian.add_product(current, rest)
        diagonal.append(_dot(rest, current))
        for name, value in rest.items():
            value.add_(current[name], alpha=-diagonal[-1])
        length = math.sqrt(squared_norm(rest))
        if not length > BREAKDOWN * max(1e-30, abs(diagonal[0])):
            break
        beside.append(length)
        _scale(current, -length)
        _scale(rest, 1 / length)
        current, rest = rest, current
    values, vectors = eigh_tridiagonal(np.array(diagonal), np.array(beside[: len(diagonal) - 1]))
    ends = [length * abs(float(each)) for each in (vectors[-1, 0], vectors[-1, -1])]
    return Extremes(float(values[0]), float(values[-1]), *ends)


def hutchinson(hessian: Restricted, draws: int) -> list[float]:
    """Returns v.H v for random sign vectors v, whose expectation is the trace (Hutchinson 1990)."""
    found = []
    for number in range(draws):
        vector, image = hessian.signs(seed=1 + number), hessian.zeros()
        hessian.add_product(vector, image)
        found.append(_dot(image, vector))
        del vector, image
    return found


def _scale(vector: Delta, factor: float) -> None:
    for value in vector.values():
        value.mul_(factor)


def _dot(first: Delta, second: Delta) -> float:
    return sum(float((first[name] * second[name]).sum(dtype=torch.float64)) for name in first)
