"""The capacity statements of arXiv 2505.22355 in a form that can be evaluated, and their looseness.

Nested sets of reachable weights order the best attainable robust risk, not trained solutions. So nothing here says
whether a trained PEFT checkpoint is more fragile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

Activation = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Capacity:
    """The dimension that a method reaches around one weight.

    Theorem 1: with fewer dimensions than the space has, the method reaches a set of measure zero.
    """

    dimension: int
    """Of the tangent space: the rank of the Jacobian of phi -> W_0 + g(phi)."""
    of: int
    """Of the whole space, out x in."""


@dataclass(frozen=True, slots=True)
class ChangeBound:
    """The bound of theorem 2 and the bounded quantity."""

    observed: float
    """|f(x) - f_0(x)|."""
    bound: float

    @property
    def looseness(self) -> float:
        """Bound over observed change; infinite without a change."""
        return self.bound / self.observed if self.observed else float("inf")


def reachable_dimension(
    update: Callable[[torch.Tensor], torch.Tensor], point: torch.Tensor, tolerance: float = 1e-8
) -> Capacity:
    """Returns the dimension of a method's parametrisation around a point.

    Args:
        update: parameters, shape (k,), to the update of one weight, shape (out, in); differentiable.
        point: the parameters; a generic point gives the dimension of the whole image.
        tolerance: singular values of the Jacobian below this share of the largest count as zero.

    >>> def outer(p):
    ...     return torch.outer(p[:3], p[3:])
    >>> reachable_dimension(outer, torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64))
    Capacity(dimension=4, of=6)
    """
    jacobian: torch.Tensor = torch.autograd.functional.jacobian(lambda p: update(p).flatten(), point)  # type: ignore[no-untyped-call]
    return Capacity(int(torch.linalg.matrix_rank(jacobian, rtol=tolerance)), len(jacobian))


def low_rank_dimension(rows: int, columns: int, rank: int) -> int:
    """Returns r (m + n - r), the dimension of the m x n matrices of rank r, which LoRA reaches.

    >>> low_rank_dimension(768, 768, 8)
    12224
    """
    return rank * (rows + columns - rank)


def change_bound(
    weights: Sequence[torch.Tensor],
    updates: Sequence[torch.Tensor],
    x: torch.Tensor,
    *,
    activation: Activation = torch.relu,
    lipschitz: float = 1.0,
) -> ChangeBound:
    """Evaluates |f(x) - f_0(x)| <= |x| [prod_k (L M + a_k) - (L M)^N] on a plain network without biases.

    M is the largest spectral norm of a weight, and a_k = L |Phi_k| with Phi_k the update of layer k. The premises are
    those of theorem 2 of arXiv 2505.22355. Its right-hand side is not public; this one is reconstructed by
    telescoping. The bound says nothing about transformers, because attention has no Lipschitz constant.

    Args:
        weights: W_1 ... W_N, each of shape (out, in); the activation follows each.
        updates: Phi_1 ... Phi_N, of the same shapes.
        x: the input, shape (in,).
        activation: fixes 0 and is Lipschitz.
        lipschitz: its constant.

    Returns:
        The bound, infinite or not a number where it overflows.

    Raises:
        ValueError: different numbers of weights and updates.
    """
    if len(weights) != len(updates):
        raise ValueError(f"{len(weights)} weights and {len(updates)} updates; expected as many")
    before = after = x
    for weight, update in zip(weights, updates, strict=True):
        before = activation(weight @ before)
        after = activation((weight + update) @ after)
    largest = lipschitz * max(_spectral(weight) for weight in weights)
    grown = 1.0
    for update in updates:
        grown *= largest + lipschitz * _spectral(update)
    try:
        bound = float(torch.linalg.vector_norm(x)) * (grown - largest ** len(weights))
    except OverflowError:  # of a power; a product becomes infinite
        bound = math.inf
    return ChangeBound(float(torch.linalg.vector_norm(after - before)), bound)


def _spectral(matrix: torch.Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2))
