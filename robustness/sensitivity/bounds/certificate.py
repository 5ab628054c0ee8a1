"""Certificates around one text, from the forms and the norm of the stacked map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch

from robustness.sensitivity.bounds.forms import Domination, dominate_exactly, dominate_sampled
from robustness.sensitivity.bounds.linearised import Layer, Step, linearise, pull_all
from robustness.sensitivity.bounds.region import REACH

OUTWARD = 1e-6
"""Share by which norms are enlarged and margins made smaller: rounding in double precision is far below it."""
LOUDNESS = 300.0
"""Weight of a margin, times the margin, among the deviations; any number is sound.
"""
HALVINGS = 60


@final
@dataclass(frozen=True, slots=True)
class Sampling:
    """How norms are sampled instead of computed."""

    samples: int
    alpha: float
    generator: torch.Generator


@final
@dataclass(frozen=True, slots=True)
class Certificate:
    """Bounds around a text; distances are l2 over all the embeddings that move, in embedding units."""

    margins: tuple[float, ...]
    """z_y - z_c of the other labels c."""
    slopes: tuple[float, ...]
    """Norms of their gradients, enlarged."""
    weights: tuple[float, ...]
    """Their weights among the deviations."""
    stacked_norm: float
    """a: at a distance r the stacked deviations are at most X = 1 - sqrt(1 - 2 a r)."""

    @property
    def horizon(self) -> float:
        """The largest distance that can be certified: where X reaches REACH."""
        return (REACH - REACH**2 / 2) / self.stacked_norm

    def least_margin(self, distance: float) -> float:
        """Returns a lower bound of the margin within a distance of at most the horizon: m - |g| r - X^2 / (2 w)."""
        stacked = self._stacked(distance)
        return min(
            margin - OUTWARD * abs(margin) - slope * distance - (1 + OUTWARD) * stacked**2 / (2 * weight)
            for margin, slope, weight in zip(self.margins, self.slopes, self.weights, strict=True)
        )

    def radius(self) -> float:
        """Returns a distance within which the answer is y; 0 where it is not y at the text itself."""
        if min(self.margins) <= 0:
            return 0.0
        low, high = 0.0, self.horizon * (1 - OUTWARD)
        if self.least_margin(high) > 0:
            return high
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.least_margin(middle) > 0 else (low, middle)
        return low

    def lipschitz(self, distance: float) -> float | None:
        """Returns an upper bound of the margin's Lipschitz constant within a distance; None beyond the horizon.

        |g| + X Y / w, with Y = a / (1 - X) the norm of the stacked map anywhere within the distance.
        """
        if not 0 <= distance <= self.horizon * (1 - OUTWARD):
            return None
        stacked = self._stacked(distance)
        moved = stacked * self.stacked_norm / (1 - stacked)
        return max(
            slope + (1 + OUTWARD) * moved / weight for slope, weight in zip(self.slopes, self.weights, strict=True)
        )

    def _stacked(self, distance: float) -> float:
        return 1 - math.sqrt(1 - 2 * self.stacked_norm * distance)


def certify(
    layers: tuple[Layer, ...],
    x: torch.Tensor,
    content: torch.Tensor,
    label: int,
    sampling: Sampling | None = None,
) -> Certificate:
    """Returns the certificate around a text: deterministic, or valid with probability 1 - alpha over the sampling.

    Args:
        layers: the network, from vectors of tokens to logits, shape (1, labels).
        x: the text's vectors, shape (tokens, dim), double precision.
        content: tokens that move, bool, shape (tokens,).
        label: y.
        sampling: None: computes all norms.
    """
    steps, logits = linearise(layers, x)
    others = [c for c in range(logits.shape[-1]) if c != label]
    directions = torch.zeros((len(others), 1, logits.shape[-1]), dtype=x.dtype)
    directions[:, 0, label] = 1
    directions[range(len(others)), 0, others] = -1
    margins = [float(logits[0, label] - logits[0, c]) for c in others]
    weights = [LOUDNESS / max(abs(margin), 1e-6) for margin in margins]
    mask = content[:, None].to(x.dtype).expand_as(x)
    gradients = pull_all(steps, directions) * mask
    slopes = [(1 + OUTWARD) * float(each.norm()) for each in gradients]
    head = directions * torch.tensor(weights, dtype=x.dtype)[:, None, None]
    norm = _dominate(steps, head, mask, sampling).stacked_norm * (1 + OUTWARD)
    return Certificate(tuple(margins), tuple(slopes), tuple(weights), norm)


def _dominate(
    steps: tuple[Step, ...], head: torch.Tensor, mask: torch.Tensor, sampling: Sampling | None
) -> Domination:
    if sampling is None:
        return dominate_exactly(steps, head, mask)
    return dominate_sampled(
        steps, head, mask, samples=sampling.samples, alpha=sampling.alpha, generator=sampling.generator
    )
