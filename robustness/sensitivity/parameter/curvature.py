"""The curvature of the loss over the merged weights: extreme eigenvalues and trace of its Hessian."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from pydantic import PositiveInt
from scipy.linalg import eigh_tridiagonal

from robustness.sensitivity.attention import twice_differentiable
from robustness.sensitivity.batching import refusals_as_unsupported, require_float32
from robustness.sensitivity.convergence import not_converged
from robustness.sensitivity.measurement import Direction, Kind, Quantity, Space, Target, measure
from robustness.sensitivity.parameter.reachability import find_tangents
from robustness.sensitivity.parameter.tangent import Projection
from robustness.sensitivity.parameter.weights import Delta, WeightSpace, block_parameters, scaled, squared_norm
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

Product = Callable[[Delta], dict[str, torch.Tensor]]
"""The Hessian's product with a vector of weights."""


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
            batches = [victim.embed(examples) for examples in victim.gradient_batches(subject.examples)]
        with (
            refusals_as_unsupported(),
            frozen(victim),
            twice_differentiable(victim, batches[0]),
            WeightSpace(parameters) as weights,
        ):
            for scope, project in spaces:
                product = projected(hessian_product(weights, batches), weights.parameters, project)
                with nullcontext() if project is None else suppress(Unsupported):
                    yield from self._of_space(product, weights, scope, len(subject.examples))

    def _of_space(self, product: Product, weights: WeightSpace, scope: str, count: int) -> Iterator[Reading]:
        found = extreme_eigenvalues(product, weights.parameters, self.iterations)
        passes = {"forwards": count, "backwards": (1 + self.iterations) * count}
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
        draws = np.array(hutchinson(product, weights.parameters, self.draws))
        error = 1.96 * float(draws.std(ddof=1)) / math.sqrt(len(draws)) if len(draws) > 1 else math.nan
        mean = float(draws.mean())
        ends = (mean - error, mean + error) if math.isfinite(error) else (None, None)
        yield Reading(measure(TRACE, mean, Kind.ESTIMATE, **labels), low=ends[0], high=ends[1])


def hessian_product(weights: WeightSpace, batches: Sequence[EmbeddedBatch]) -> Product:
    """Returns v -> H v of the mean cross-entropy over the batches, at the current weights.

    The gradient's graph is built once and kept with the function; each product is one backward pass through it.
    """
    names, parameters = list(weights.parameters), list(weights.parameters.values())
    count = sum(len(batch.labels) for batch in batches)
    with torch.enable_grad():
        losses = [
            torch.nn.functional.cross_entropy(batch.logits(batch.embeddings), batch.labels, reduction="sum") / count
            for batch in batches
        ]
        slopes = torch.autograd.grad(torch.stack(losses).sum(), parameters, create_graph=True, allow_unused=True)

    def product(vector: Delta) -> dict[str, torch.Tensor]:
        pairs = [(slope, vector[name]) for name, slope in zip(names, slopes, strict=True) if slope is not None]
        rows = torch.autograd.grad(
            [slope for slope, _ in pairs],
            parameters,
            grad_outputs=[part for _, part in pairs],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return dict(zip(names, rows, strict=True))

    return product


def projected(product: Product, ambient: Delta, project: Projection | None) -> Product:
    """Returns v -> P H P v; H itself without a projection."""
    if project is None:
        return product
    zeros = {name: torch.zeros_like(value) for name, value in ambient.items()}

    def inside(vector: Delta) -> dict[str, torch.Tensor]:
        return {**zeros, **project(product({**zeros, **project(vector)}))}

    return inside


@dataclass(frozen=True, slots=True)
class Extremes:
    """The extreme Ritz values of a symmetric map."""

    low: float = 0.0
    high: float = 0.0
    low_residual: float = 0.0
    """|H y - t y| for the unit Ritz vector y: some eigenvalue lies no farther from t."""
    high_residual: float = 0.0


def extreme_eigenvalues(product: Product, ambient: Delta, iterations: int) -> Extremes:
    """Returns the extreme Ritz values after some Lanczos steps from a fixed start.

    Keeps three vectors; duplicates of extreme values from rounding do not move the extremes. The residual of a Ritz
    pair is the next vector's length times the last entry of the tridiagonal matrix's eigenvector.
    """
    current = _normalised(product(_signs(ambient, seed=0)))
    previous: dict[str, torch.Tensor] = {}
    diagonal: list[float] = []
    beside: list[float] = []
    length = 0.0
    for _ in range(iterations):
        if not current:
            break
        image = product(current)
        diagonal.append(_dot(image, current))
        rest = {name: value - diagonal[-1] * current[name] for name, value in image.items()}
        if previous:
            rest = {name: value - beside[-1] * previous[name] for name, value in rest.items()}
        length = math.sqrt(squared_norm(rest))
        if not length > BREAKDOWN * max(1e-30, abs(diagonal[0])):
            break
        beside.append(length)
        previous, current = current, scaled(rest, 1 / length)
    if not diagonal:
        return Extremes()
    values, vectors = eigh_tridiagonal(np.array(diagonal), np.array(beside[: len(diagonal) - 1]))
    ends = [length * abs(float(each)) for each in (vectors[-1, 0], vectors[-1, -1])]
    return Extremes(float(values[0]), float(values[-1]), *ends)


def hutchinson(product: Product, ambient: Delta, draws: int) -> list[float]:
    """Returns v.H v for random sign vectors v, whose expectation is the trace (Hutchinson 1990)."""
    vectors = (_signs(ambient, seed=1 + number) for number in range(draws))
    return [_dot(product(vector), vector) for vector in vectors]


def _signs(ambient: Delta, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (torch.randint(0, 2, value.shape, generator=generator) * 2 - 1).to(value)
        for name, value in ambient.items()
    }


def _normalised(vector: Delta) -> dict[str, torch.Tensor]:
    """Empty for a zero vector."""
    length = math.sqrt(squared_norm(vector))
    return scaled(vector, 1 / length) if length > 0 else {}


def _dot(first: Delta, second: Delta) -> float:
    return sum(float((first[name] * second[name]).sum(dtype=torch.float64)) for name in first)
