"""The directions in which a PEFT method can move the merged weights, at its checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, final

import torch

from robustness.sensitivity.probe import Unsupported
from robustness.sensitivity.tangent_maps import both_sides, dora, read_base_weight, read_scale
from robustness.sensitivity.weights import Delta, squared_norm
from robustness.victims.checkpoint import Checkpoint
from robustness.victims.tensors import TensorFolder

ADAPTER_PREFIX = "base_model.model."
RANK_TOLERANCE = 1e-6
"""Singular values below this share of the largest do not count."""
NOT_A_MAP = "is no change of the base's weights, so it has no directions among them"


class Part(Protocol):
    """The directions of one module: a linear subspace of some tensors of the merged model."""

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors."""
        ...

    @property
    def dimension(self) -> int:
        """Of the subspace."""
        ...

    def project(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Returns the orthogonal projection of tensors given in the order of `names`."""
        ...


@final
@dataclass(frozen=True, slots=True)
class LowRank:
    """{X A + B Y}: G - (I - P_B) G (I - P_A), of dimension r_B n + r_A m - r_B r_A.

    P_B projects onto the columns of B, P_A onto the rows of A; both depend on the subspaces alone, so the projection
    is the same for (B Q^-1, Q A). Where B is zero, only B moves the product: P_B is zero.
    """

    names: tuple[str, ...]
    left: torch.Tensor
    """(m, r_B), orthonormal columns."""
    right: torch.Tensor
    """(n, r_A), orthonormal columns."""

    @property
    def dimension(self) -> int:
        """Of the subspace."""
        (m, a), (n, b) = self.left.shape, self.right.shape
        return a * n + b * m - a * b

    def project(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """See Part."""
        (value,) = values
        within = (value @ self.right) @ self.right.mT
        rest = value - within
        return [within + self.left @ (self.left.mT @ rest)]

    def projected_square(self, value: torch.Tensor) -> float:
        """Returns |G Q_A|^2 + |Q_B^T G|^2 - |Q_B^T G Q_A|^2: the projection's squared norm without the projection."""
        right, left = value @ self.right, self.left.mT @ value
        return float(right.double().square().sum() + left.double().square().sum()) - float(
            (left @ self.right).double().square().sum()
        )


@final
@dataclass(frozen=True, slots=True)
class Everything:
    """Every entry is free: a bias, or a tensor trained in full."""

    names: tuple[str, ...]
    dimension: int

    def project(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """See Part."""
        return list(values)


@final
@dataclass(frozen=True, slots=True)
class Scaling:
    """Each row, or each column, may be multiplied by a number of its own: (IA)3, with its bias, and SSL."""

    names: tuple[str, ...]
    """A weight, and the bias that is scaled with its rows, if any."""
    directions: torch.Tensor
    """Rows of unit norm or zero: weight rows with the bias behind them, or weight columns."""
    by_column: bool

    @property
    def dimension(self) -> int:
        """Of the subspace: rows that are zero have no direction."""
        return int((self.directions != 0).any(dim=1).sum())

    def project(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """See Part."""
        rows = stack_rows(values, by_column=self.by_column)
        rows = (rows * self.directions).sum(dim=1, keepdim=True) * self.directions
        if self.by_column:
            return [rows.mT]
        width = values[0].shape[1]
        return [rows[:, :width], *(rows[:, width] for _ in values[1:])]


@final
class Tangent:
    """The tangent space of one adapter, as a subspace of the parameters of the merged model's blocks."""

    def __init__(self, parts: Sequence[Part], ambient: Mapping[str, torch.Tensor]) -> None:
        self.parts = parts
        self.dimension = sum(part.dimension for part in parts)
        self.chance = self.dimension / sum(value.numel() for value in ambient.values())
        """The share of a random direction's squared norm that lies in it: dimension / ambient dimension."""

    def project(self, gradient: Delta) -> dict[str, torch.Tensor]:
        """Returns the projection; tensors that the adapter cannot move are absent."""
        projected: dict[str, torch.Tensor] = {}
        for part in self.parts:
            values = part.project([gradient[name] for name in part.names])
            projected.update(zip(part.names, values, strict=True))
        return projected

    def projected_square(self, gradient: Delta) -> float:
        """Returns the projection's squared norm."""
        total = 0.0
        for part in self.parts:
            values = [gradient[name] for name in part.names]
            if isinstance(part, LowRank):
                total += part.projected_square(values[0])
            else:
                total += squared_norm(dict(zip(part.names, part.project(values), strict=True)))
        return total


def read_tangent(checkpoint: Checkpoint, ambient: Mapping[str, torch.Tensor]) -> Tangent:
    """Returns the tangent space of an adapter's folder among the merged model's parameters.

    Args:
        checkpoint: the adapter.
        ambient: the merged parameters that count, by name; adapted modules outside them are left out.

    Raises:
        Unsupported: a method that changes no weight (prompts, prefixes, bottlenecks), or one of which the directions
            are not known.
    """
    tensors: dict[str, dict[str, torch.Tensor]] = {}
    with TensorFolder(checkpoint.folder) as stored:
        for name in stored:
            module, _, kind = name.removeprefix(ADAPTER_PREFIX).removesuffix(".weight").rpartition(".")
            tensors.setdefault(module, {})[kind] = stored[name]
    parts: list[Part] = []
    for module, values in tensors.items():
        if f"{module}.weight" in ambient or f"{module}.bias" in ambient:
            parts += _parts_of(checkpoint, module, values, ambient)
    if not parts:
        raise Unsupported(f"adaptation {checkpoint.adaptation} {NOT_A_MAP}")
    return Tangent(parts, ambient)


def _parts_of(
    checkpoint: Checkpoint, module: str, values: Mapping[str, torch.Tensor], ambient: Mapping[str, torch.Tensor]
) -> list[Part]:
    """What one module's stored tensors, named without their module, let move."""
    weight, bias = f"{module}.weight", f"{module}.bias"
    kinds = frozenset(values)
    if kinds == {"lora_A", "lora_B"}:
        return [low_rank(weight, values["lora_A"], values["lora_B"], ambient[weight])]
    if kinds == {"ia3_l"}:
        by_column = values["ia3_l"].shape[0] == 1
        names = (weight,) if by_column or bias not in ambient else (weight, bias)
        return [scaling(names, [ambient[name].detach() for name in names], by_column=by_column)]
    if kinds == {"lora_A", "lora_B", "lora_magnitude_vector"}:
        a, b = values["lora_A"], values["lora_B"]
        base, scale = read_base_weight(checkpoint, weight), read_scale(checkpoint, len(a))
        return [dora(weight, base, a, b, values["lora_magnitude_vector"], scale)]
    if kinds == {"form_input", "form_output"}:
        return [both_sides(weight, ambient[weight])]
    if kinds == {"form_input"}:
        return [scaling((weight,), [ambient[weight].detach()], by_column=True)]
    if kinds == {"form_bias"}:
        return [Everything((bias,), ambient[bias].numel())]
    raise Unsupported(
        f"adaptation {checkpoint.adaptation}: the directions of {', '.join(sorted(kinds))} are not known"
    )


def low_rank(name: str, a: torch.Tensor, b: torch.Tensor, weight: torch.Tensor) -> LowRank:
    """Returns the tangent of B A at a weight (m, n), or at its transpose, as GPT-2 stores it.

    Args:
        name: of the weight.
        a: (r, n).
        b: (m, r).
        weight: where the product is added; says which way round, and on which device.
    """
    if tuple(weight.shape) != (b.shape[0], a.shape[1]):
        a, b = b.mT, a.mT
    left, right = (_column_space(each.to(weight.device)).to(weight.dtype) for each in (b, a.mT))
    return LowRank((name,), left, right)


def scaling(names: tuple[str, ...], values: Sequence[torch.Tensor], *, by_column: bool) -> Scaling:
    """Returns the tangent of scaling rows, or columns, of the merged tensors."""
    rows = stack_rows(values, by_column=by_column)
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return Scaling(names, torch.where(norms > 0, rows / norms.clamp_min(1e-30), 0.0), by_column)


def stack_rows(values: Sequence[torch.Tensor], *, by_column: bool) -> torch.Tensor:
    """Returns the weight's columns, or its rows with the bias's entries behind them."""
    return values[0].mT if by_column else torch.cat([values[0], *(each[:, None] for each in values[1:])], dim=1)


def _column_space(matrix: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis of the columns, in double precision."""
    left, sizes, _ = torch.linalg.svd(matrix.double(), full_matrices=False)
    rank = int((sizes > RANK_TOLERANCE * sizes.max().clamp_min(1e-30)).sum()) if matrix.any() else 0
    basis: torch.Tensor = left[:, :rank]
    return basis


Projection = Callable[[Delta], dict[str, torch.Tensor]]
"""Onto a subspace of the parameters."""
