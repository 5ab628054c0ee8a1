"""Leading singular triples of large matrices by a randomised decomposition, with a bound of its error."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import final

import torch

from robustness.sensitivity.structure.spectra import Factors, decompose, decompose_top, first, squared_norm

LARGE = 2048
"""Smaller side of a matrix from which on its decomposition is randomised.

A full decomposition takes time with the cube of it: 0.045 s at 512 on one core, so some 25 s at 4,096. A model
with seven billion parameters has 224 such matrices. The randomised decomposition takes time with the square.
"""
KEPT = 256
"""Leading directions that are kept."""
OVERSAMPLING = 10
"""Additional directions (arXiv 0909.4061, section 4.2: 5 or 10)."""
POWERS = 2
"""Products with W Wt; a flat spectrum, as trained weights have, needs one or two (section 4.5)."""


@dataclass(frozen=True, slots=True)
class Leading:
    """The leading part of a singular value decomposition."""

    factors: Factors
    errors: torch.Tensor
    """|W v - s u| of each triple, shape (k,): some singular value of W lies within it of s."""
    rest: float
    """|W|_F^2 less the sum of the squared values."""

    @property
    def error(self) -> float:
        """The largest of the errors."""
        return float(self.errors.max())


def is_large(matrix: torch.Tensor) -> bool:
    """Returns whether a matrix is decomposed by random directions.

    >>> is_large(torch.empty(2048, 4096, device="meta")), is_large(torch.empty(768, 50_000, device="meta"))
    (True, False)
    """
    return min(matrix.shape) >= LARGE


def find_device(named: str) -> torch.device:
    """Returns the device of a run's setting: auto, cpu, cuda or cuda:N."""
    if named == "auto":
        named = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(named)


def decompose_leading(
    matrix: torch.Tensor, k: int, generator: torch.Generator, device: torch.device | None = None
) -> Leading:
    """Returns the k leading singular triples, by algorithms 4.4 and 5.1 of Halko, Martinsson and Tropp.

    Source: arXiv 0909.4061. No value is above the true one of its place. The error is measured on the result.

    Args:
        matrix: shape (out, in).
        k: how many; at most min(out, in).
        generator: draws the directions, on the CPU.
        device: where to compute; None: the matrix's own.
    """
    whole = matrix.to(device or matrix.device).float()
    width = min(k + OVERSAMPLING, *whole.shape)
    basis = _orthonormal(whole @ _draw(whole, width, generator))
    for _ in range(POWERS):
        basis = _orthonormal(whole @ _orthonormal(whole.T @ basis))
    small = basis.T @ whole
    left, values, right = torch.linalg.svd(small, full_matrices=False)
    left, right = basis @ left[:, :k], right[:k].T
    errors = (whole @ right - left * values[:k]).norm(dim=0).double().cpu()  # Wt u - s v is zero by construction
    factors = Factors(left.double().cpu(), values[:k].double().cpu(), right.double().cpu())
    rest = max(0.0, squared_norm(whole) - float(factors.values.square().sum()))
    return Leading(factors, errors, rest)


@final
@dataclass(slots=True)
class Directions:
    """Finds singular triples of matrices, of the large ones by random directions."""

    generator: torch.Generator
    device: torch.device | None = None
    """Where large matrices are decomposed; None: where they are."""
    errors: list[float] = field(default_factory=list)
    """Of each decomposition of a large matrix the largest error, relative to the matrix's largest value."""

    def leading(self, matrix: torch.Tensor, k: int) -> Factors:
        """Returns the k leading triples, or all where there are fewer."""
        k = min(k, *matrix.shape)
        return self._kept(matrix, k) if is_large(matrix) else decompose_top(matrix, k, self.generator)

    def all(self, matrix: torch.Tensor) -> Factors:
        """Returns all triples; of a large matrix the leading ones alone."""
        return self._kept(matrix, KEPT) if is_large(matrix) else decompose(matrix)

    def _kept(self, matrix: torch.Tensor, k: int) -> Factors:
        width = min(max(k, KEPT), *matrix.shape)  # directions beyond the k make these more exact
        found = decompose_leading(matrix, width, self.generator, self.device)
        factors = first(found.factors, k)
        self.errors.append(float(found.errors[:k].max() / factors.values[0].clamp_min(1e-30)))
        return factors


def complete(leading: Leading, count: int) -> torch.Tensor:
    """Returns `count` descending values: the leading ones, and equal ones that hold the rest of |W|_F^2.

    >>> one = Leading(Factors(torch.eye(3)[:, :1], torch.tensor([2.0]), torch.eye(3)[:, :1]), torch.ones(1), 2.0)
    >>> complete(one, 3).tolist()
    [2.0, 1.0, 1.0]
    """
    known = leading.factors.values
    missing = count - len(known)
    if not missing:
        return known
    # No value may be larger than the last known one.
    level = min(math.sqrt(leading.rest / missing), float(known[-1]))
    return torch.cat([known, known.new_full((missing,), level)])


def _draw(whole: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(whole.shape[1], count, generator=generator).to(whole)


def _orthonormal(matrix: torch.Tensor) -> torch.Tensor:
    basis: torch.Tensor = torch.linalg.qr(matrix)[0]
    return basis
