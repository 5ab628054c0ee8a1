"""Balls of perturbations: one radius per example, over all its content tokens jointly."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import torch


class Norm(StrEnum):
    """The norm of a perturbation (tokens, dim), over all its entries jointly."""

    L2 = "l2"
    LINF = "linf"

    @property
    def dual(self) -> float:
        """The order q of the dual norm, 1/p + 1/q = 1: a linear function w has distance |m| / norm_q(w)."""
        return 2.0 if self is Norm.L2 else 1.0


def sizes(delta: torch.Tensor, norm: Norm) -> torch.Tensor:
    """Returns the norm of each perturbation (batch, tokens, dim), shape (batch,).

    >>> sizes(torch.tensor([[[3.0, 0.0], [0.0, -4.0]]]), Norm.L2).item()
    5.0
    """
    flat = delta.flatten(1)
    return flat.square().sum(dim=1).sqrt() if norm is Norm.L2 else flat.abs().amax(dim=1)


def project(delta: torch.Tensor, radius: torch.Tensor, norm: Norm) -> torch.Tensor:
    """Returns the nearest point, in l2, of each example's ball of radius (batch,) around zero.

    >>> project(torch.tensor([[[3.0, 4.0]]]), torch.tensor([1.0]), Norm.L2)
    tensor([[[0.6000, 0.8000]]])
    """
    limit = radius[:, None, None]
    if norm is Norm.LINF:
        return delta.clamp(-limit, limit)
    size = sizes(delta, norm)[:, None, None]
    return torch.where(size > limit, delta * (limit / size.clamp_min(1e-30)), delta)


def rescale(delta: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """Returns each perturbation with l2 norm radius (batch,); a zero perturbation stays zero."""
    return unit_direction(delta) * radius[:, None, None]


def steepest(gradient: torch.Tensor, norm: Norm) -> torch.Tensor:
    """Returns the step of norm 1 along which a linear function rises most: its sign for linf, its direction for l2.

    Zero where the gradient is zero.
    """
    return gradient.sign() if norm is Norm.LINF else unit_direction(gradient)


def unit_direction(vectors: torch.Tensor) -> torch.Tensor:
    """Returns vectors (batch, tokens, dim) divided by their l2 norm; zero stays zero, tiny ones do not underflow."""
    largest = vectors.abs().amax(dim=(1, 2), keepdim=True)
    scaled = vectors / largest.clamp_min(torch.finfo(vectors.dtype).tiny)
    size = sizes(scaled, Norm.L2)[:, None, None]
    return scaled / torch.where(size > 0, size, 1.0)


def random_in_ball(
    content: torch.Tensor,
    dim: int,
    radius: torch.Tensor,
    norm: Norm,
    generators: Sequence[torch.Generator],
) -> torch.Tensor:
    """Returns uniform points of each example's ball, shape (batch, tokens, dim), zero outside its content.

    Args:
        content: (batch, tokens), bool.
        dim: entries a token.
        radius: (batch,).
        norm: the ball's norm.
        generators: one for each example, on the CPU: an example's draw depends only on its own content.
    """
    points = torch.zeros(*content.shape, dim, device=content.device)
    for row, generator in enumerate(generators):
        count = int(content[row].sum())
        if count:
            points[row, content[row]] = _draw(count, dim, norm, generator).to(content.device)
    return points * radius[:, None, None]


def _draw(count: int, dim: int, norm: Norm, generator: torch.Generator) -> torch.Tensor:
    """A uniform point of the unit ball; in l2 a direction times u^(1 / number of entries)."""
    if norm is Norm.LINF:
        return torch.rand(count, dim, generator=generator) * 2 - 1
    direction = torch.randn(count, dim, generator=generator)
    length = torch.rand((), generator=generator) ** (1 / (count * dim))
    return unit_direction(direction[None])[0] * length
