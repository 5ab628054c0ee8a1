"""Protocols of a network linearised at one text, and the composition of steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch

from robustness.sensitivity.bounds.gauges import Gauge

Tensors = tuple[torch.Tensor, ...]


class Form(Protocol):
    """A quadratic form |half(t)|^2 of the deviations t that enter a curved step."""

    def half(self, entering: Tensors) -> Tensors:
        """Returns the vectors whose squares add up to the form; deviations have leading axes of their own."""
        ...

    def half_adjoint(self, features: Tensors) -> Tensors:
        """Returns the adjoint of `half`."""
        ...

    @property
    def shapes(self) -> tuple[torch.Size, ...]:
        """The shapes that `half` returns for one deviation."""
        ...

    @property
    def by_token(self) -> tuple[bool, ...]:
        """For each shape, whether the last axis but one is of tokens that do not depend on each other."""
        ...


Entering = dict["Curved", Tensors]
"""Deviations that enter each curved step."""
Sources = Mapping["Curved", Tensors]
"""The terms added where deviations enter curved steps."""


class Step(Protocol):
    """One step at one text: a linear map of deviations (..., tokens, dim), and its adjoint."""

    def push(self, t: torch.Tensor, entering: Entering | None = None) -> torch.Tensor:
        """Returns the derivative's product with t; records the deviations that enter curved steps."""
        ...

    def pull(self, g: torch.Tensor, sources: Sources | None = None) -> torch.Tensor:
        """Returns the adjoint's product with g and the sources; steps without sources ignore them."""
        ...


@runtime_checkable
class Curved(Step, Protocol):
    """A step that has a second derivative."""

    @property
    def gauged(self) -> int:
        """The maximum of numbers that `dominate` asks of a gauge."""
        ...

    def dominate(self, gauge: Gauge) -> Form:
        """Returns V with |S D^2 f [t, t]| <= V(t) wherever V of the deviations is at most REACH^2.

        Args:
            gauge: S at the step's output.
        """
        ...


class Layer(Protocol):
    """A function of one text's vectors, shape (tokens, dim)."""

    def at(self, x: torch.Tensor) -> tuple[Step, torch.Tensor]:
        """Returns the step at x, and the output there."""
        ...

    def constant(self, x: torch.Tensor, radius: float) -> float:
        """Returns an upper bound of the Lipschitz constant over all vectors within a Frobenius distance of x."""
        ...

    @property
    def diameter(self) -> float:
        """The largest distance of two outputs for one token; infinite if unknown."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Residual:
    """x -> x + branch(x)."""

    branch: tuple[Layer, ...]

    def at(self, x: torch.Tensor) -> tuple[ResidualAt, torch.Tensor]:
        """See Layer."""
        steps, out = linearise(self.branch, x)
        return ResidualAt(steps), x + out

    def constant(self, x: torch.Tensor, radius: float) -> float:
        """See Layer."""
        return 1 + product(self.branch, x, radius)

    @property
    def diameter(self) -> float:
        """See Layer."""
        return math.inf


@final
@dataclass(frozen=True, slots=True, eq=False)
class ResidualAt:
    """A residual branch at one text."""

    inner: tuple[Step, ...]

    def push(self, t: torch.Tensor, entering: Entering | None = None) -> torch.Tensor:
        """See Step."""
        return t + push_all(self.inner, t, entering)

    def pull(self, g: torch.Tensor, sources: Sources | None = None) -> torch.Tensor:
        """See Step."""
        return g + pull_all(self.inner, g, sources)


@final
@dataclass(frozen=True, slots=True)
class TakeToken:
    """x -> the vector of one token, shape (1, dim)."""

    index: int

    def at(self, x: torch.Tensor) -> tuple[TakeTokenAt, torch.Tensor]:
        """See Layer."""
        index = self.index % len(x)
        return TakeTokenAt(index, len(x)), x[index : index + 1]

    def constant(self, x: torch.Tensor, radius: float) -> float:
        """See Layer."""
        del x, radius
        return 1.0

    @property
    def diameter(self) -> float:
        """See Layer."""
        return math.inf


@final
@dataclass(frozen=True, slots=True, eq=False)
class TakeTokenAt:
    """One token's vector, of a text of known length."""

    index: int
    tokens: int

    def push(self, t: torch.Tensor, entering: Entering | None = None) -> torch.Tensor:
        """See Step."""
        del entering
        return t[..., self.index : self.index + 1, :]

    def pull(self, g: torch.Tensor, sources: Sources | None = None) -> torch.Tensor:
        """See Step."""
        del sources
        wide = g.new_zeros((*g.shape[:-2], self.tokens, g.shape[-1]))
        wide[..., self.index : self.index + 1, :] = g
        return wide


def linearise(layers: tuple[Layer, ...], x: torch.Tensor) -> tuple[tuple[Step, ...], torch.Tensor]:
    """Returns the steps of layers one after the other at x, and the output."""
    steps = []
    for layer in layers:
        step, x = layer.at(x)
        steps.append(step)
    return tuple(steps), x


def product(layers: tuple[Layer, ...], x: torch.Tensor, radius: float) -> float:
    """Returns the product of the constants of layers, each over what the ball around x becomes before it."""
    total = 1.0
    for layer in layers:
        constant = layer.constant(x, radius)
        _, x = layer.at(x)
        radius = min(constant * radius, layer.diameter * math.sqrt(len(x)))
        total *= constant
    return total


def curved_steps(steps: tuple[Step, ...]) -> Iterator[Curved]:
    """Yields the curved steps of these and of their branches, in order."""
    for step in steps:
        if isinstance(step, ResidualAt):
            yield from curved_steps(step.inner)
        elif isinstance(step, Curved):
            yield step


def push_all(steps: tuple[Step, ...], t: torch.Tensor, entering: Entering | None = None) -> torch.Tensor:
    """Returns t pushed through the steps."""
    for step in steps:
        t = step.push(t, entering)
    return t


def pull_all(steps: tuple[Step, ...], g: torch.Tensor, sources: Sources | None = None) -> torch.Tensor:
    """Returns g pulled through the steps, the last first."""
    for step in reversed(steps):
        g = step.pull(g, sources)
    return g
