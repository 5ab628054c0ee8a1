"""Feed-forward networks, plain or gated, and the forms that dominate their second derivative."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch

from robustness.sensitivity.bounds.activations import Activation
from robustness.sensitivity.bounds.gauges import Gauge
from robustness.sensitivity.bounds.linearised import Entering, Sources, Tensors
from robustness.sensitivity.bounds.region import REACH, SMALLEST

ROUNDS = 30
ROUNDING = 1e-12
"""Added to eigenvalues, relative to their sum."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """x -> W x + b on every token; a step that has no second derivative."""

    weight: torch.Tensor
    """Shape (out, in)."""
    bias: torch.Tensor | None = None

    def value(self, x: torch.Tensor) -> torch.Tensor:
        """Returns W x + b."""
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias

    def at(self, x: torch.Tensor) -> tuple[Linear, torch.Tensor]:
        """Returns the step, which is the same everywhere, and its output at x."""
        return self, self.value(x)

    def constant(self, x: torch.Tensor, radius: float) -> float:
        """See Layer: the spectral norm."""
        del x, radius
        return spectral_norm(self.weight)

    @property
    def diameter(self) -> float:
        """See Layer."""
        return math.inf

    def push(self, t: torch.Tensor, entering: Entering | None = None) -> torch.Tensor:
        """See Step."""
        del entering
        return t @ self.weight.T

    def pull(self, g: torch.Tensor, sources: Sources | None = None) -> torch.Tensor:
        """See Step."""
        del sources
        return g @ self.weight


@final
@dataclass(frozen=True, slots=True)
class FeedForward:
    """x -> down(f(up(x))), or down(f(gate(x)) * up(x))."""

    up: Linear
    activation: Activation
    down: Linear
    gate: Linear | None = None

    def at(self, x: torch.Tensor) -> tuple[FeedForwardAt | GatedAt, torch.Tensor]:
        """Returns the step at x, shape (tokens, dim), and its output."""
        raised = self.up.value(x)
        if self.gate is None:
            return FeedForwardAt(self, raised), self.down.value(self.activation.value(raised))
        opened = self.gate.value(x)
        return GatedAt(self, opened, raised), self.down.value(self.activation.value(opened) * raised)

    def constant(self, x: torch.Tensor, radius: float) -> float:
        """See Layer; for a gated network |f'(a) b| and |f(a)| are bounded over the ball."""
        up, down, slope = spectral_norm(self.up.weight), spectral_norm(self.down.weight), self.activation.first_max
        if self.gate is None:
            return down * slope * up
        gate = spectral_norm(self.gate.weight)
        raised = float(self.up.value(x).abs().max()) + up * radius
        active = float(self.activation.value(self.gate.value(x)).abs().max()) + slope * gate * radius
        return down * (slope * raised * gate + active * up)

    @property
    def diameter(self) -> float:
        """See Layer."""
        return math.inf


@final
@dataclass(frozen=True, slots=True)
class DiagonalForm:
    """A weighted sum of squares of each input vector."""

    weights: Tensors

    def half(self, entering: Tensors) -> Tensors:
        """See Form."""
        return tuple(weight.sqrt() * t for weight, t in zip(self.weights, entering, strict=True))

    def half_adjoint(self, features: Tensors) -> Tensors:
        """See Form; it is its own adjoint."""
        return self.half(features)

    @property
    def shapes(self) -> tuple[torch.Size, ...]:
        """See Form."""
        return tuple(weight.shape for weight in self.weights)

    @property
    def by_token(self) -> tuple[bool, ...]:
        """See Form."""
        return (True,) * len(self.weights)


@final
@dataclass(frozen=True, slots=True, eq=False)
class FeedForwardAt:
    """A plain feed-forward network at one text."""

    of: FeedForward
    raised: torch.Tensor
    """The activation's input, shape (tokens, hidden)."""

    def push(self, t: torch.Tensor, entering: Entering | None = None) -> torch.Tensor:
        """See Step."""
        raised = self.of.up.push(t)
        if entering is not None:
            entering[self] = (raised,)
        return self.of.down.push(self.of.activation.first(self.raised) * raised)

    def pull(self, g: torch.Tensor, sources: Sources | None = None) -> torch.Tensor:
        """See Step."""
        pulled = self.of.activation.first(self.raised) * self.of.down.pull(g)
        return self.of.up.pull(pulled if sources is None else pulled + sources[self][0])

    @property
    def gauged(self) -> int:
        """See Curved."""
        return self.raised.numel()

    def dominate(self, gauge: Gauge) -> DiagonalForm:
        """See Curved: the sum over units of |S e_j| sup |f''| t_j^2, the supremum over |t_j| <= REACH / sqrt(w_j)."""
        felt = gauge.lengths(self.of.down.pull(gauge.rows))

        def needed(weight: torch.Tensor) -> torch.Tensor:
            return felt * curvature_within(self.of.activation, self.raised, REACH / weight.sqrt()) + SMALLEST

        weight = felt * self.of.activation.second_max + SMALLEST
        for _ in range(ROUNDS):
            weight = (weight + needed(weight)) / 2
        return DiagonalForm((torch.maximum(weight, needed(weight)),))  # a larger weight needs nothing else


@final
@dataclass(frozen=True, slots=True, eq=False)
class GatedAt:
    """A gated feed-forward network at one text."""

    of: FeedForward
    opened: torch.Tensor
    """The activation's input, shape (tokens, hidden)."""
    raised: torch.Tensor
    """The factor of the gate."""

    def push(self, t: torch.Tensor, entering: Entering | None = None) -> torch.Tensor:
        """See Step."""
        assert self.of.gate is not None
        opened, raised = self.of.gate.push(t), self.of.up.push(t)
        if entering is not None:
            entering[self] = (opened, raised)
        f = self.of.activation
        return self.of.down.push(f.first(self.opened) * self.raised * opened + f.value(self.opened) * raised)

    def pull(self, g: torch.Tensor, sources: Sources | None = None) -> torch.Tensor:
        """See Step."""
        assert self.of.gate is not None
        f = self.of.activation
        pulled = self.of.down.pull(g)
        opened, raised = f.first(self.opened) * self.raised * pulled, f.value(self.opened) * pulled
        if sources is not None:
            opened, raised = opened + sources[self][0], raised + sources[self][1]
        return self.of.gate.pull(opened) + self.of.up.pull(raised)

    @property
    def gauged(self) -> int:
        """See Curved."""
        return self.raised.numel()

    def dominate(self, gauge: Gauge) -> DiagonalForm:
        """See Curved: |S e_j| (|f''(a)| |b| t_a^2 + 2 |f'(a)| |t_a t_b|), the product split evenly."""
        felt = gauge.lengths(self.of.down.pull(gauge.rows))
        f = self.of.activation

        def needed(form: DiagonalForm) -> Tensors:
            by_a, by_b = (REACH / weight.sqrt() for weight in form.weights)
            slope = torch.minimum(f.first(self.opened).abs() + f.second_max * by_a, felt.new_tensor(f.first_max))
            bend = curvature_within(f, self.opened, by_a) * (self.raised.abs() + by_b)
            return felt * (bend + slope) + SMALLEST, felt * slope + SMALLEST

        start = felt * f.first_max + 1e-3  # a floor that keeps deviations where |b| is bounded
        form = DiagonalForm((start, start))
        for _ in range(ROUNDS):
            form = DiagonalForm(
                tuple(((a + b) / 2).clamp_min(1e-3) for a, b in zip(form.weights, needed(form), strict=True))
            )
        return DiagonalForm(tuple(torch.maximum(a, b) for a, b in zip(form.weights, needed(form), strict=True)))


def spectral_norm(matrix: torch.Tensor) -> float:
    """Returns an upper bound of the largest singular value, by the eigenvalues of the smaller Gram matrix.

    >>> abs(spectral_norm(torch.diag(torch.tensor([3.0, -4.0], dtype=torch.float64))) - 4) < 1e-9
    True
    """
    square = matrix @ matrix.mT if matrix.shape[0] <= matrix.shape[1] else matrix.mT @ matrix
    return math.sqrt(float(torch.linalg.eigvalsh(square)[-1]) + ROUNDING * float(square.trace()))


def curvature_within(activation: Activation, centre: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """Returns an upper bound of |f''| over intervals: |f''(centre)| + radius sup |f'''|, at most sup |f''|."""
    return (activation.second(centre).abs() + activation.third_max * radius).clamp_max(activation.second_max)
