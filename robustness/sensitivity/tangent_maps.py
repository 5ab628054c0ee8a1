"""Directions of PEFT methods without a closed form: least squares on the derivative of how they merge."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, lsqr

from robustness.sensitivity.probe import Unsupported
from robustness.victims.checkpoint import ADAPTER_CONFIG, Checkpoint, read_json
from robustness.victims.tensors import TensorFolder

Merge = Callable[..., torch.Tensor]
"""A method's parameters, as separate tensors, to the merged weight."""

TOLERANCE = 1e-10
MAX_ITERATIONS = 500


@final
@dataclass(frozen=True, slots=True)
class Mapped:
    """The range of J_g, the derivative of a merge map g at the method's parameters.

    Projects by LSQR on J_g through its products with vectors, jvp and vjp, in double precision; no model is run.
    """

    names: tuple[str, ...]
    merge: Merge
    parameters: tuple[torch.Tensor, ...]
    """Double precision, on the CPU."""
    dimension: int

    def project(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """See tangent.Part."""
        (value,) = values
        sizes = [each.numel() for each in self.parameters]
        pull = torch.func.vjp(self.merge, *self.parameters)[1]

        def forward(vector: NDArray[np.float64]) -> NDArray[np.float64]:
            pieces = torch.split(torch.from_numpy(np.ascontiguousarray(vector.ravel())), sizes)
            steps = tuple(piece.view_as(each) for piece, each in zip(pieces, self.parameters, strict=True))
            moved: torch.Tensor = torch.func.jvp(self.merge, self.parameters, steps)[1]
            return moved.flatten().numpy()

        def backward(vector: NDArray[np.float64]) -> NDArray[np.float64]:
            given = torch.from_numpy(np.ascontiguousarray(vector.ravel())).view(value.shape)
            return torch.cat([piece.flatten() for piece in pull(given)]).numpy()

        operator = LinearOperator((value.numel(), sum(sizes)), matvec=forward, rmatvec=backward, dtype=np.float64)
        target = value.detach().cpu().double().flatten().numpy()
        solved = lsqr(operator, target, atol=TOLERANCE, btol=TOLERANCE, iter_lim=MAX_ITERATIONS)[0]
        return [torch.from_numpy(forward(solved)).view(value.shape).to(value)]


def both_sides(name: str, weight: torch.Tensor) -> Mapped:
    """Returns the tangent of D_1 W D_2, rows and columns scaled (SSB, arXiv 2407.05417): m + n - 1 dimensions."""
    exact = weight.detach().cpu().double()
    rows, columns = (torch.ones(size, dtype=torch.float64) for size in exact.shape)

    def merge(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        return rows[:, None] * exact * columns

    return Mapped((name,), merge, (rows, columns), sum(exact.shape) - 1)


def dora(
    name: str, base: torch.Tensor, a: torch.Tensor, b: torch.Tensor, magnitude: torch.Tensor, scale: float
) -> Mapped:
    """Returns the tangent of magnitude * V / |V| by rows, V = W_0 + scale B A (arXiv 2402.09353).

    Of dimension r (m + n - r) + m, in general position.
    """
    exact = base.detach().cpu().double()

    def merge(a: torch.Tensor, b: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
        moved = exact + scale * b @ a
        merged: torch.Tensor = magnitude[:, None] * moved / torch.linalg.vector_norm(moved, dim=1, keepdim=True)
        return merged

    rank, (rows, columns) = len(a), exact.shape
    parameters = tuple(each.detach().cpu().double() for each in (a, b, magnitude.flatten()))
    return Mapped((name,), merge, parameters, min(rows * columns, rank * (rows + columns - rank) + rows))


def read_base_weight(checkpoint: Checkpoint, name: str) -> torch.Tensor:
    """Returns the base's weight of that name, whatever prefix the base's file leaves out or adds.

    Raises:
        Unsupported: the base's files hold no such weight.
    """
    with TensorFolder(checkpoint.base) as stored:
        for key in stored:
            if key == name or name.endswith(f".{key}") or key.endswith(f".{name}"):
                return stored[key]
    raise Unsupported(f"adaptation {checkpoint.adaptation}: the base {checkpoint.base} has no {name}")


def read_scale(checkpoint: Checkpoint, rank: int) -> float:
    """Returns what the product B A is multiplied by: alpha / r, or alpha / sqrt(r) where the config says so."""
    config = read_json(checkpoint.folder / ADAPTER_CONFIG)
    if config.get("alpha_pattern") or config.get("rank_pattern"):
        raise Unsupported(f"adaptation {checkpoint.adaptation}: ranks or scales that differ between modules")
    alpha = float(config["lora_alpha"])
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
