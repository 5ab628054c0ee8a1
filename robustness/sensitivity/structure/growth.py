"""An update's effect on a weight's leading directions: intruders, and growth of the spectral norm."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from robustness.sensitivity.structure.spectra import Factors, decompose_top

TIE = 0.01
"""Relative gap of two singular values below which their vectors are not distinguishable."""


@dataclass(frozen=True, slots=True)
class Intruders:
    """Leading directions of the fine-tuned weight that no direction of the base resembles (arXiv 2410.21228)."""

    count: int
    ties: int
    """Number of leading singular values nearly equal to the next; their directions and the count are unstable."""


@dataclass(frozen=True, slots=True)
class Growth:
    """The spectral norm before and after.

    A product of layers' norms bounds a network's Lipschitz constant from above: growth contributes to an upper bound
    and is no evidence of fragility.
    """

    log_growth: float
    """log s_1(W_0 + dW) - log s_1(W_0)."""
    first_order: float
    """u_0^t dW v_0 / s_1(W_0)."""
    weyl: float
    """log(1 + |dW|_2 / s_1(W_0)): Weyl's bound of the growth."""


def count_intruders(base: Factors, tuned: Factors, threshold: float) -> Intruders:
    """Returns #{j <= k : max_i |<u_j(W), u_i(W_0)>| < threshold}, for the k left vectors that `tuned` holds.

    >>> base = Factors(torch.eye(3)[:, :2], torch.tensor([2.0, 1.0]), torch.eye(3)[:, :2])
    >>> tuned = Factors(torch.eye(3)[:, [2, 0]], torch.tensor([5.0, 2.0]), torch.eye(3)[:, [2, 0]])
    >>> count_intruders(base, tuned, 0.5).count
    1
    """
    cosines = (tuned.left.double().T @ base.left.double()).abs().amax(dim=1)
    gaps = (tuned.values[:-1] - tuned.values[1:]) / tuned.values[:-1].clamp_min(1e-300)
    return Intruders(int((cosines < threshold).sum()), int((gaps < TIE).sum()))


def chance_intruders(
    weight: torch.Tensor,
    base: Factors,
    norm: float,
    rank: int,
    *,
    k: int,
    threshold: float,
    draws: int,
    generator: torch.Generator,
) -> float:
    """Returns the mean count for random updates of the same Frobenius norm and rank: the chance level.

    Updates of less than full rank are products of Gaussian matrices, the others Gaussian.

    Args:
        weight: W_0, shape (out, in).
        base: its decomposition.
        norm: Frobenius norm of the update.
        rank: rank of the update.
        k: leading directions to examine.
        threshold: see `count_intruders`.
        draws: random updates.
        generator: draws them.
    """
    counts = []
    for _ in range(draws):
        update = _random_update(weight.shape, rank, generator)
        tuned = decompose_top(weight + update * (norm / update.norm()), k, generator)
        counts.append(count_intruders(base, tuned, threshold).count)
    return sum(counts) / draws


def measure_growth(base: Factors, update: torch.Tensor, *, before: float, after: float, change: float) -> Growth:
    """Returns how the spectral norm grows from W_0 to W_0 + dW.

    Args:
        base: decomposition of W_0, for its leading directions.
        update: dW, shape (out, in).
        before: |W_0|_2. Single precision errs by 1e-7, as much as a small learning rate's update grows the norm.
        after: |W_0 + dW|_2.
        change: |dW|_2.

    >>> base = Factors(torch.eye(2), torch.tensor([1.0, 1.0]), torch.eye(2))
    >>> round(measure_growth(base, torch.eye(2), before=1.0, after=2.0, change=1.0).log_growth, 3)
    0.693
    """
    first = float(base.left[:, 0].double() @ update.double() @ base.right[:, 0].double())
    return Growth(math.log(after / before), first / before, math.log1p(change / before))


def irreducible_share(values: torch.Tensor, rank: int) -> float:
    """Returns s_{r+1}(W_0) / s_1(W_0): no update of rank r can reduce the spectral norm below this share.

    By interlacing, s_1(W_0 + dW) >= s_{r+1}(W_0) for any dW of rank r; 0 when r is full rank.

    >>> irreducible_share(torch.tensor([4.0, 3.0, 2.0]), 1)
    0.75
    """
    return float(values[rank] / values[0]) if rank < len(values) else 0.0


def _random_update(shape: torch.Size, rank: int, generator: torch.Generator) -> torch.Tensor:
    rows, columns = shape
    if rank >= min(shape):
        return torch.randn(rows, columns, generator=generator)
    left = torch.randn(rows, rank, generator=generator)
    return left @ torch.randn(rank, columns, generator=generator)
