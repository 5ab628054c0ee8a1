"""Gauges: how strongly a change at one place of a network affects all later forms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, final

import torch

SMALLEST_SQUARE, LARGEST_SQUARE = 1e-40, 1e40
"""The range of squares that a sampled gauge measures; smaller squares are raised to its start, larger ones fail."""
CELL = 1.02
"""Ratio of the ends of the cells into which these squares are divided."""


class Gauge(Protocol):
    """Upper bounds of the norm of S, the linear map from one place to all weighed deviations after it.

    A token's own columns of S count, never two tokens' together.
    """

    @property
    def rows(self) -> torch.Tensor:
        """The rows that represent S, shape (rows, tokens, width)."""
        ...

    def lengths(self, products: torch.Tensor) -> torch.Tensor:
        """Returns upper bounds of |S v| from the products of the rows with vectors v, (rows, ...) to (...)."""
        ...

    def largest(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns upper bounds of the norms of S on the last axis, (rows, ..., width) to (...)."""
        ...

    def gram(self, products: torch.Tensor, vectors: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
        """Returns matrices above all V S^T S V^T, shape (..., vectors, vectors).

        Args:
            products: of the rows with the vectors, shape (rows, ..., vectors).
            vectors: V, shape (..., vectors, width).
            largest: of S on these widths, shape (...).
        """
        ...


@final
@dataclass(frozen=True, slots=True)
class ExactGauge:
    """Rows whose products add up to S^T S."""

    rows: torch.Tensor

    def lengths(self, products: torch.Tensor) -> torch.Tensor:
        """See Gauge."""
        return products.square().sum(dim=0).sqrt()

    def largest(self, rows: torch.Tensor) -> torch.Tensor:
        """See Gauge."""
        moved = rows.movedim(0, -2)
        square = moved.mT @ moved if moved.shape[-2] >= moved.shape[-1] else moved @ moved.mT
        eigenvalues: torch.Tensor = torch.linalg.eigvalsh(square)
        return eigenvalues[..., -1].clamp_min(0).sqrt()

    def gram(self, products: torch.Tensor, vectors: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
        """See Gauge."""
        del vectors, largest
        moved = products.movedim(0, -2)
        return moved.mT @ moved


@final
@dataclass(frozen=True, slots=True)
class SampledGauge:
    """Rows S^T z for standard Gaussian z, after some rows that are S's own.

    A mean of n squares, times the inflation, is below |S v|^2 with a known small probability. This holds although the
    later weights in S depend on the draws for later forms (docs/certificates.md). It also holds for the Frobenius
    norm, which replaces the spectral norm.
    """

    rows: torch.Tensor
    exact: int
    """The first rows, which are known."""
    inflation: float
    """The factor of a mean of squares."""

    def lengths(self, products: torch.Tensor) -> torch.Tensor:
        """See Gauge."""
        return self._bound(products.square())

    def largest(self, rows: torch.Tensor) -> torch.Tensor:
        """See Gauge; uses the Frobenius norm in place of the spectral norm."""
        return self._bound(rows.square().sum(dim=-1))

    def gram(self, products: torch.Tensor, vectors: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
        """See Gauge.

        The smaller trace of two bounds. One bounds S^T S by its largest eigenvalue. The other is the diagonal matrix
        of (sum_k l_k) l_j, from |S V^T r| <= sum_j |r_j| l_j with l_j = |S v_j| and Cauchy's inequality.
        """
        by_norm = largest.square()[..., None, None] * (vectors @ vectors.mT)
        lengths = self.lengths(products)
        by_length = torch.diag_embed(lengths * lengths.sum(-1, keepdim=True))
        traces = [each.diagonal(dim1=-2, dim2=-1).sum(-1) for each in (by_norm, by_length)]
        return torch.where((traces[0] <= traces[1])[..., None, None], by_norm, by_length)

    def _bound(self, squares: torch.Tensor) -> torch.Tensor:
        known, drawn = squares[: self.exact], squares[self.exact :]
        sampled = self.inflation * drawn.mean(dim=0).clamp_min(SMALLEST_SQUARE)
        if not bool((sampled < LARGEST_SQUARE).all()):
            raise ArithmeticError("a square is too large for a sampled gauge")
        return (known.sum(dim=0) + sampled).sqrt()


def inflation_for(rows: int, numbers: int, alpha: float) -> float:
    """Returns the factor of a mean of `rows` squares.

    With it all of `numbers` bounds, and those in every cell, hold with probability 1 - alpha. With q = CELL and t the
    inverse of the result, a cell fails with probability at most (1 + 2 s (1 - 1 / q))^(n/2) (1 + 2 s)^(-n/2) exp(s t
    n).

    >>> 1.5 < inflation_for(256, 10**6, 1e-3) < 3
    True
    """
    cells = math.ceil(math.log(LARGEST_SQUARE / SMALLEST_SQUARE) / math.log(CELL))
    wanted = math.log(alpha / numbers / cells)
    low, high = 1e-12, 1.0  # of t; the smaller t fails less often
    for _ in range(200):
        middle = (low + high) / 2
        s = (1 / middle - 1) / 2
        exponent = rows / 2 * (math.log1p(2 * s * (1 - 1 / CELL)) - math.log1p(2 * s)) + s * middle * rows
        low, high = (middle, high) if exponent <= wanted else (low, middle)
    return 1 / low
