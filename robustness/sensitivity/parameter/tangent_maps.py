"""Directions of PEFT methods without a closed form: the range of the merged weight's derivative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, lsqr

from robustness.sensitivity.probe import Unsupported

Weights = Callable[[], list[torch.Tensor]]
"""The merged tensors, as a function of parameters with gradients."""

DENSE = 2**22
"""Largest number of entries of an explicit derivative."""
RANK_TOLERANCE = 1e-6
"""Singular values below this share of the largest do not count."""
TOLERANCE = 1e-10
MAX_ITERATIONS = 500
OUT_OF_ITERATIONS = 7
"""LSQR's own name for this status."""
SIGNS = 8
"""Random vectors that estimate the lengths of a derivative's columns."""
MIRRORED = 1e-4
"""Allowed difference of <J v, w> and <v, Jt w>, in |J v| |w|; methods in float32 reach 1e-6."""


@final
class Derivative:
    """J = d weights / d parameters at a point, by its products with vectors, in the parameters' precision.

    J v is the derivative of Jt w (linear in w) along v. If that has no derivative (sparse tensors), an affine map's
    difference replaces it. Both are checked against Jt.

    Raises:
        Unsupported: neither way gives a J consistent with Jt.
    """

    def __init__(self, weights: Weights, parameters: Sequence[torch.Tensor]) -> None:
        self._weights, self._parameters = weights, parameters
        with torch.enable_grad():
            self._image = _flat(weights())
            self._vector = torch.zeros_like(self._image, requires_grad=True)
            self._pulled = torch.autograd.grad(
                self._image, parameters, self._vector, create_graph=True, materialize_grads=True
            )
        self.shape = self._image.numel(), sum(each.numel() for each in parameters)
        self.push = self._push
        if not self._is_mirrored():
            self.push = self._difference
            if not self._is_mirrored():
                raise Unsupported("its directions are not computable: its update has no second derivative")

    def pull(self, vector: torch.Tensor) -> torch.Tensor:
        """Returns Jt w, shape (parameters,)."""
        pieces = torch.autograd.grad(
            self._image, self._parameters, vector.to(self._image), retain_graph=True, materialize_grads=True
        )
        return _flat(pieces)

    def column_sizes(self, *, singly: bool) -> torch.Tensor:
        """Returns estimated lengths of J's columns, shape (parameters,), or of each tensor's columns.

        The root mean square of Jt w over random signs w; its mean square is the squared length.
        """
        generator = torch.Generator().manual_seed(0)
        total = torch.zeros(self.shape[1], dtype=torch.float64)
        for _ in range(SIGNS):
            signs = torch.randint(0, 2, self.shape[:1], generator=generator) * 2.0 - 1.0
            total += self.pull(signs).double().square() / SIGNS
        pieces = torch.split(total, [each.numel() for each in self._parameters])
        squares = total if singly else torch.cat([piece.mean().expand(len(piece)) for piece in pieces])
        return squares.sqrt()

    def _push(self, vector: torch.Tensor) -> torch.Tensor:
        steps = self._pieces(vector)
        moving = [pair for pair in zip(self._pulled, steps, strict=True) if pair[0].requires_grad]
        if not moving:
            return torch.zeros_like(self._image)
        pulled, along = zip(*moving, strict=True)
        (pushed,) = torch.autograd.grad(
            pulled, self._vector, along, retain_graph=True, materialize_grads=True, allow_unused=True
        )
        return pushed

    def _difference(self, vector: torch.Tensor) -> torch.Tensor:
        originals = [each.detach().clone() for each in self._parameters]
        with torch.no_grad():
            for each, step in zip(self._parameters, self._pieces(vector), strict=True):
                each.add_(step)
            moved = _flat(self._weights())
            for each, original in zip(self._parameters, originals, strict=True):
                each.copy_(original)
        return moved - self._image.detach()

    def _pieces(self, vector: torch.Tensor) -> list[torch.Tensor]:
        pieces = torch.split(vector.to(self._image), [each.numel() for each in self._parameters])
        return [piece.view_as(each) for piece, each in zip(pieces, self._parameters, strict=True)]

    def _is_mirrored(self) -> bool:
        generator = torch.Generator().manual_seed(0)
        left, right = (torch.randn(size, generator=generator).to(self._image) for size in self.shape)
        try:
            pushed = self.push(right)
        except RuntimeError:  # a step without a derivative
            return False
        difference = abs(float(pushed @ left - right @ self.pull(left)))
        return difference <= MIRRORED * float(pushed.norm() * left.norm()) and bool(torch.isfinite(pushed).all())


@final
@dataclass(frozen=True, slots=True)
class Basis:
    """A subspace given by an orthonormal basis."""

    names: tuple[str, ...]
    basis: torch.Tensor
    """(entries of all tensors, dimension), on the CPU."""
    is_exact: bool = True

    @property
    def dimension(self) -> int:
        """Of the subspace."""
        return self.basis.shape[1]

    def project(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """See tangent.Part."""
        given = _flat(values).to(self.basis)
        return _like(self.basis @ (self.basis.mT @ given), values)


@final
@dataclass(frozen=True, slots=True)
class Mapped:
    """The range of J, by least squares: LSQR on its products with vectors; runs no model."""

    names: tuple[str, ...]
    weights: Weights
    parameters: tuple[torch.Tensor, ...]
    dimension: int
    is_exact: bool

    def project(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """See tangent.Part; raises Unsupported if the iteration does not converge."""
        derivative = Derivative(self.weights, self.parameters)
        target = _flat(values).detach().cpu().double().numpy()
        for singly in (False, True):  # converges soon if J's columns, divided by these, have similar lengths
            sizes = derivative.column_sizes(singly=singly)
            sizes = torch.where(sizes > 0, sizes, 1.0)

            def forward(vector: NDArray[np.float64], sizes: torch.Tensor = sizes) -> NDArray[np.float64]:
                return derivative.push(_tensor(vector) / sizes).double().numpy()

            def backward(vector: NDArray[np.float64], sizes: torch.Tensor = sizes) -> NDArray[np.float64]:
                return (derivative.pull(_tensor(vector)) / sizes).double().numpy()

            operator = LinearOperator(derivative.shape, matvec=forward, rmatvec=backward, dtype=np.float64)
            solved, stop = lsqr(operator, target, atol=TOLERANCE, btol=TOLERANCE, iter_lim=MAX_ITERATIONS)[:2]
            if stop != OUT_OF_ITERATIONS:
                return _like(torch.from_numpy(forward(solved)), values)
        raise Unsupported(f"its directions are too uneven: least squares did not converge in {MAX_ITERATIONS} steps")


def range_of(
    names: tuple[str, ...], weights: Weights, parameters: Sequence[torch.Tensor], redundant: int | None = None
) -> Basis | Mapped:
    """Returns the range of the derivative of some tensors of the merged model, at the parameters.

    Args:
        names: of the tensors.
        weights: the tensors, in that order.
        parameters: the tensors' inputs, with gradients, on the CPU.
        redundant: number of parameter directions without effect, in general position; None: unknown.
    """
    derivative = Derivative(weights, parameters)
    entries, count = derivative.shape
    if entries * count > DENSE:
        moving = int((derivative.column_sizes(singly=True) != 0).sum())
        dimension = min(entries, moving - (redundant or 0))
        return Mapped(names, weights, tuple(parameters), dimension, is_exact=redundant is not None)
    columns = torch.stack([derivative.push(column) for column in torch.eye(count)], dim=1).double()
    left, sizes, _ = torch.linalg.svd(columns, full_matrices=False)
    return Basis(names, left[:, sizes > RANK_TOLERANCE * sizes.max().clamp_min(1e-30)])


def _tensor(vector: NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(vector.ravel()))


def _flat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat([each.flatten() for each in tensors])


def _like(flat: torch.Tensor, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    pieces = torch.split(flat, [each.numel() for each in tensors])
    return [piece.view(each.shape).to(each) for piece, each in zip(pieces, tensors, strict=True)]
