"""Singular values and vectors of a weight and its update, with checked errors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

OVERSAMPLING = 6
"""Additional directions of a truncated decomposition."""
DEPTH = 7
"""Powers of W Wt in its Krylov space."""
RESTARTS = 6
"""Restarts from the current result before a full decomposition replaces it."""
TOLERANCE = 1e-4
"""Relative residual of an accepted result: its singular values are right to about 1e-8."""
ENERGY = 0.9
PIECE = 2**20
"""Numbers summed in double precision at a time."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Summaries of an update's singular values.

    For values s: stable rank |s|^2 / s_1^2, effective rank exp(H(s^2 / |s|^2)), and the number of directions that
    hold 90 % of |s|^2. All are 0 for an update of zero.
    """

    frobenius: float
    spectral: float
    stable_rank: float
    effective_rank: float
    energy_rank: int


@dataclass(frozen=True, slots=True)
class Factors:
    """A thin singular value decomposition W = U diag(s) Vt, in double precision, values descending."""

    left: torch.Tensor
    """Shape (out, k)."""
    values: torch.Tensor
    """Shape (k,)."""
    right: torch.Tensor
    """Shape (in, k)."""


def squared_norm(tensor: torch.Tensor, minus: torch.Tensor | None = None) -> float:
    """Returns |T|^2, or |T - M|^2, summed in double precision without a copy of the whole in it.

    >>> squared_norm(torch.tensor([[3.0, 4.0]])), squared_norm(torch.ones(2, 2), torch.zeros(2, 2))
    (25.0, 4.0)
    """
    rows = max(1, PIECE // max(1, tensor[:1].numel()))
    pieces: Iterable[torch.Tensor] = torch.split(tensor, rows)
    if minus is not None:
        pieces = (piece - other for piece, other in zip(pieces, torch.split(minus, rows), strict=True))
    return sum(float(piece.double().square().sum()) for piece in pieces)


def singular_values(matrix: torch.Tensor) -> torch.Tensor:
    """Returns the singular values in descending order, from the smaller Gram matrix in double precision.

    Their squares are right to 1e-16 of the largest square: enough for energies, not for the smallest values.

    >>> singular_values(torch.tensor([[0.0, 2.0], [1.0, 0.0]])).tolist()
    [2.0, 1.0]
    """
    squares: torch.Tensor = torch.linalg.eigvalsh(_gram(matrix))
    return squares.clamp_min(0).sqrt().flip(0)


def spectral_norm(matrix: torch.Tensor) -> float:
    """Returns the largest singular value, right to about 1e-14 of itself.

    >>> spectral_norm(torch.tensor([[0.0, 2.0], [1.0, 0.0]]))
    2.0
    """
    return float(singular_values(matrix)[0])


def describe(values: torch.Tensor) -> Spectrum:
    """Returns the summaries of descending singular values.

    >>> describe(torch.tensor([2.0, 2.0, 0.0])).stable_rank
    2.0
    """
    squares = values.double().square()
    total = float(squares.sum())
    if total == 0:
        return Spectrum(0.0, 0.0, 0.0, 0.0, 0)
    shares = squares / total
    entropy = -float(torch.special.xlogy(shares, shares).sum())
    energy_rank = int((shares.cumsum(0) < ENERGY - 1e-12).sum()) + 1
    largest = float(squares[0])
    return Spectrum(total**0.5, largest**0.5, total / largest, float(torch.tensor(entropy).exp()), energy_rank)


def decompose(matrix: torch.Tensor) -> Factors:
    """Returns the full thin decomposition."""
    if matrix.shape[0] < matrix.shape[1]:  # LAPACK is three times as fast on tall matrices
        turned = decompose(matrix.T)
        return Factors(turned.right, turned.values, turned.left)
    left, values, right = torch.linalg.svd(matrix.float(), full_matrices=False)
    return Factors(left.double(), values.double(), right.T.double())


def decompose_top(matrix: torch.Tensor, k: int, generator: torch.Generator) -> Factors:
    """Returns the k leading singular triples from a randomised block Krylov space (arXiv 1504.05477), checked.

    Restarts until |W v_j - s_j u_j| and |Wt u_j - s_j v_j| are below 1e-4 s_1 for all j <= k. If a flat spectrum
    takes too many restarts, computes the full decomposition.

    Args:
        matrix: shape (out, in).
        k: how many; at most min(out, in).
        generator: draws the first directions.
    """
    whole = matrix.float()  # twice as fast as double precision, and far below the tolerance
    width = k + OVERSAMPLING
    if width * DEPTH >= min(whole.shape):
        return first(decompose(matrix), k)
    right = torch.randn(whole.shape[1], width, generator=generator).to(whole.device)
    for _ in range(RESTARTS):
        found = _in_krylov_space(whole, right)
        residual = (whole @ found.right[:, :k] - found.left[:, :k] * found.values[:k]).norm(dim=0).amax()
        mirrored = (whole.T @ found.left[:, :k] - found.right[:, :k] * found.values[:k]).norm(dim=0).amax()
        if max(residual, mirrored) <= TOLERANCE * found.values[0]:
            return Factors(found.left[:, :k].double(), found.values[:k].double(), found.right[:, :k].double())
        right = found.right[:, :width]
    return first(decompose(matrix), k)


def _in_krylov_space(whole: torch.Tensor, right: torch.Tensor) -> Factors:
    """The best decomposition in the space of W x, (W Wt) W x, ... for the columns x of `right`."""
    blocks = []
    for _ in range(DEPTH):
        block, _ = torch.linalg.qr(whole @ right)
        blocks.append(block)
        right = whole.T @ block
    basis, _ = torch.linalg.qr(torch.cat(blocks, dim=1))
    # Decomposes the small matrix by its Gram matrix, because only its leading directions are used.
    small = basis.T @ whole
    squares, turned = torch.linalg.eigh(small.double() @ small.double().T)
    values = squares.clamp_min(0).sqrt().flip(0).float()
    turned = turned.flip(1).float()
    return Factors(basis @ turned, values, (small.T @ turned) / values.clamp_min(1e-30))


def first(factors: Factors, k: int) -> Factors:
    """Returns the k leading triples."""
    return Factors(factors.left[:, :k], factors.values[:k], factors.right[:, :k])


def subspace_overlap(first: torch.Tensor, second: torch.Tensor) -> float:
    """Returns |A^t B|_F^2 / k of two orthonormal bases, shape (dim, k): 1 for equal spaces, k / dim by chance.

    >>> subspace_overlap(torch.eye(4)[:, :2], torch.eye(4)[:, 1:3])
    0.5
    """
    return float((first.double().T @ second.double()).square().sum()) / first.shape[1]


def _gram(matrix: torch.Tensor) -> torch.Tensor:
    whole = matrix.double()
    return whole @ whole.T if whole.shape[0] <= whole.shape[1] else whole.T @ whole
