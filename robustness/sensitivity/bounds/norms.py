"""LayerNorm and RMSNorm, and the forms that dominate their second derivative."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch

from robustness.sensitivity.bounds.gauges import Gauge
from robustness.sensitivity.bounds.linearised import Entering, Sources, Tensors
from robustness.sensitivity.bounds.region import REACH, least_weight

BALANCE = 8.0
"""Weight of the vector's direction relative to others in the mixed term; any number above 0 is sound."""
CAP = 0.2
"""Largest relative deviation of a vector that is normalised."""
ROUNDS = 20
"""Steps of the iteration towards the least weights that are valid within their own region."""


@final
@dataclass(frozen=True, slots=True)
class Norm:
    """x -> gain sqrt(d) y / sqrt(|y|^2 + d eps) + bias, y the centred x (LayerNorm) or x itself (RMSNorm)."""

    gain: torch.Tensor
    bias: torch.Tensor | None
    eps: float
    centred: bool

    def at(self, x: torch.Tensor) -> tuple[NormAt, torch.Tensor]:
        """Returns the step at x, shape (tokens, dim), and its output."""
        dim = x.shape[-1]
        y = x - x.mean(-1, keepdim=True) if self.centred else x
        size = (y.square().sum(-1) + dim * self.eps).sqrt()
        unit = y / size[:, None]
        out = self.gain * math.sqrt(dim) * unit
        return NormAt(self, unit, size), out if self.bias is None else out + self.bias

    def constant(self, x: torch.Tensor, radius: float) -> float:
        """See Layer: the largest gain over the least size that a vector may have."""
        dim, (step, _) = x.shape[-1], self.at(x)
        least = max(float(step.size.min()) - radius, math.sqrt(dim * self.eps))
        return math.sqrt(dim) * float(self.gain.abs().max()) / least

    @property
    def diameter(self) -> float:
        """See Layer: a normalised vector has at most the length sqrt(d)."""
        return 2 * math.sqrt(len(self.gain)) * float(self.gain.abs().max())


@final
@dataclass(frozen=True, slots=True)
class NormForm:
    """across (|t|^2 - b^2) + along b^2 a token, b = unit . t, t relative to the size of the vector."""

    across: torch.Tensor
    """Shape (tokens,)."""
    along: torch.Tensor
    unit: torch.Tensor

    def half(self, entering: Tensors) -> Tensors:
        """See Form: sqrt(across) (I + k unit unit^T) t."""
        (t,) = entering
        square = self.unit.square().sum(-1).clamp_min(1e-300)
        k = ((1 + (self.along / self.across - 1) * square).sqrt() - 1) / square
        lean = k[:, None] * self.unit * (t * self.unit).sum(-1, keepdim=True)
        return (self.across.sqrt()[:, None] * (t + lean),)

    def half_adjoint(self, features: Tensors) -> Tensors:
        """See Form; it is its own adjoint."""
        return self.half(features)

    @property
    def shapes(self) -> tuple[torch.Size, ...]:
        """See Form."""
        return (self.unit.shape,)

    @property
    def by_token(self) -> tuple[bool, ...]:
        """See Form."""
        return (True,)


@final
@dataclass(frozen=True, slots=True, eq=False)
class NormAt:
    """A norm at one text."""

    of: Norm
    unit: torch.Tensor
    """y / sqrt(|y|^2 + d eps), shape (tokens, dim); with sqrt(d eps) as one more axis its length is 1."""
    size: torch.Tensor

    def push(self, t: torch.Tensor, entering: Entering | None = None) -> torch.Tensor:
        """See Step."""
        y = self._centre(t) / self.size[:, None]
        if entering is not None:
            entering[self] = (y,)
        return self.of.gain * math.sqrt(t.shape[-1]) * self._reject(y)

    def pull(self, g: torch.Tensor, sources: Sources | None = None) -> torch.Tensor:
        """See Step."""
        y = self._reject(self.of.gain * math.sqrt(g.shape[-1]) * g)
        if sources is not None:
            y = y + sources[self][0]
        return self._centre(y / self.size[:, None])

    @property
    def gauged(self) -> int:
        """See Curved."""
        return 2 * len(self.unit)

    def dominate(self, gauge: Gauge) -> NormForm:
        """See Curved.

        With t relative to the size and b = unit . t, D^2 (y / |y|) [t, t] = -unit (|t|^2 - b^2) - 2 b (t - b unit),
        whose second part is at most BALANCE b^2 + (|t|^2 - b^2) / BALANCE. Off the point D^2 differs by
        3 tau / (1 - tau)^3 |t|^2 at most, since |D^3 (y / |y|)| <= 3 / |y|^3 (docs/certificates.md).
        """
        rows = self._centre(self.of.gain * math.sqrt(gauge.rows.shape[-1]) * gauge.rows)
        radial, largest = gauge.lengths((rows * self.unit).sum(-1)), gauge.largest(rows)
        across, along = radial + largest / BALANCE, largest * BALANCE
        chosen = across.clamp_min(least_weight(CAP))
        for _ in range(ROUNDS):
            chosen = (chosen + (across + largest * _drift(chosen)).clamp_min(least_weight(CAP))) / 2
        drift = largest * _drift(chosen)
        chosen = torch.maximum(chosen, across + drift)  # a larger weight needs nothing else
        return NormForm(chosen, torch.maximum(along + drift, chosen), self.unit)

    def _centre(self, t: torch.Tensor) -> torch.Tensor:
        return t - t.mean(-1, keepdim=True) if self.of.centred else t

    def _reject(self, t: torch.Tensor) -> torch.Tensor:
        return t - self.unit * (t * self.unit).sum(-1, keepdim=True)


def _drift(weight: torch.Tensor) -> torch.Tensor:
    tau = (REACH / weight.sqrt()).clamp_max(CAP)
    return 3 * tau / (1 - tau) ** 3
