"""The directions in which a PEFT method can move the merged weights, at its checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

import torch

from robustness.sensitivity.parameter.tangent_layers import layer_ranges
from robustness.sensitivity.parameter.tangent_maps import RANK_TOLERANCE
from robustness.sensitivity.parameter.weights import Delta, squared_norm
from robustness.sensitivity.probe import Unsupported
from robustness.tuners.matrices import Storage
from robustness.victims.files.checkpoint import ADAPTER_CONFIG, Checkpoint, read_json
from robustness.victims.files.identity import own_settings
from robustness.victims.files.tensors import TensorFolder

ADAPTER_PREFIX = "base_model.model."
WRAPPERS = re.compile(r"\.(?:base_layer|ln_tuning_layers)\.")
"""Name parts that peft inserts before a fully trained tensor of an adapted layer."""
NOT_A_MAP = "does not change the base's weights, so it has no directions among them"

PRODUCTS = ("LORA", "MPC_O", "MPC_D", "ADALORA")
"""Methods with an update of two factors, in AdaLoRA with a diagonal between them."""
PLAIN = frozenset({
    "peft_type", "task_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "lora_dropout", "use_rslora",
    "bias", "init_lora_weights", "fan_in_fan_out", "target_modules", "exclude_modules", "modules_to_save",
    "layers_to_transform", "layers_pattern", "mpc_weight", "init_r", "target_r", "tinit", "tfinal", "deltaT", "beta1",
    "beta2", "orth_reg_weight", "total_step",
})  # fmt: skip
"""Settings under which an update is the product of its factors; otherwise it is computed by peft's layer."""


PRODUCT_KINDS = (
    {"lora_A", "lora_B"},
    {"lora_A", "lora_B", "lora_E"},
    {"lora_embedding_A", "lora_embedding_B"},
)


class Part(Protocol):
    """The directions of one module: a linear subspace of some tensors of the merged model."""

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors."""
        ...

    @property
    def dimension(self) -> int:
        """Dimension of the subspace."""
        ...

    @property
    def is_exact(self) -> bool:
        """Whether the dimension is exact or an upper bound."""
        ...

    def project(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Returns the orthogonal projection of tensors given in the order of `names`."""
        ...


@final
@dataclass(frozen=True, slots=True)
class LowRank:
    """{X A + B Y}: G - (I - P_B) G (I - P_A), of dimension r_B n + r_A m - r_B r_A.

    P_B projects onto the columns of B, P_A onto the rows of A. Both depend only on the subspaces, so the projection
    is the same for (B Q^-1, Q A). If B is zero, only B moves the product: P_B is zero.
    """

    names: tuple[str, ...]
    left: torch.Tensor
    """(m, r_B), orthonormal columns."""
    right: torch.Tensor
    """(n, r_A), orthonormal columns."""
    is_exact: bool = True

    @property
    def dimension(self) -> int:
        """Dimension of the subspace."""
        (m, a), (n, b) = self.left.shape, self.right.shape
        return a * n + b * m - a * b

    def project(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """See Part."""
        value = values[0].flatten(1)  # a convolution's window follows its inputs
        left, right = self.left.to(value), self.right.to(value)
        within = (value @ right) @ right.mT
        rest = value - within
        return [(within + left @ (left.mT @ rest)).view(values[0].shape)]

    def projected_square(self, value: torch.Tensor) -> float:
        """Returns |G Q_A|^2 + |Q_B^T G|^2 - |Q_B^T G Q_A|^2: the projection's squared norm without the projection."""
        value = value.flatten(1)
        basis = self.right.to(value)
        right, left = value @ basis, self.left.to(value).mT @ value
        return float(right.double().square().sum() + left.double().square().sum()) - float(
            (left @ basis).double().square().sum()
        )


@final
@dataclass(frozen=True, slots=True)
class Everything:
    """Every entry is free: a bias, or a fully trained tensor."""

    names: tuple[str, ...]
    dimension: int
    is_exact: bool = True

    def project(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """See Part."""
        return list(values)


@final
@dataclass(frozen=True, slots=True)
class Scaling:
    """Scales each input, or each output with its bias, separately: SSL and (IA)3."""

    names: tuple[str, ...]
    """A weight, and the bias scaled with its outputs, if any."""
    storage: Storage
    directions: torch.Tensor
    """Rows of unit norm or zero: an input's weights, or an output's weights followed by its bias."""
    of_inputs: bool
    is_exact: bool = True

    @property
    def dimension(self) -> int:
        """Dimension of the subspace; zero rows have no direction."""
        return int((self.directions != 0).any(dim=1).sum())

    def project(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """See Part."""
        rows = stack_rows(values, self.storage, of_inputs=self.of_inputs)
        directions = self.directions.to(rows)
        rows = (rows * directions).sum(dim=1, keepdim=True) * directions
        if self.of_inputs:
            return [self.storage.stored(rows.mT, values[0].shape)]
        width = rows.shape[1] - len(values) + 1
        return [self.storage.stored(rows[:, :width], values[0].shape), *(rows[:, width] for _ in values[1:])]


@final
class Tangent:
    """The tangent space of one adapter, as a subspace of the parameters of the merged model's blocks."""

    def __init__(self, parts: Sequence[Part], ambient: Mapping[str, torch.Tensor]) -> None:
        self.parts = parts
        self.dimension = sum(part.dimension for part in parts)
        self.is_exact = all(part.is_exact for part in parts)
        """Whether dimension and chance are exact or upper bounds."""
        self.chance = self.dimension / sum(value.numel() for value in ambient.values())
        """The expected share of a random direction's squared norm in it: dimension / ambient dimension."""

    def chance_by_energy(self, gradient: Delta) -> float:
        """Returns the expected share of a gradient that is random within each part, given the parts' squared norms.

        sum over parts of |G_part|^2 dim / numel, over |G|^2. A method that adapts modules with large gradients
        exceeds `chance` for any directions. Not finite if the gradient vanishes.
        """
        expected = 0.0
        for part in self.parts:
            own = {name: gradient[name] for name in part.names}
            expected += squared_norm(own) * part.dimension / sum(value.numel() for value in own.values())
        whole = squared_norm(gradient)
        return expected / whole if whole > 0 else float("nan")

    def project(self, change: Delta) -> None:
        """Projects a change of the weights in place: tensors that the adapter cannot move become zero."""
        fixed = set(change)
        for part in self.parts:
            fixed -= set(part.names)
            projected = part.project([change[name] for name in part.names])
            for name, value in zip(part.names, projected, strict=True):
                change[name].copy_(value)
        for name in fixed:
            change[name].zero_()

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


def read_tangent(
    checkpoint: Checkpoint,
    ambient: Mapping[str, torch.Tensor],
    storages: Mapping[str, Storage],
    load_unmerged: Callable[[Checkpoint], Any],
) -> Tangent:
    """Returns the tangent space of an adapter's folder among the merged model's parameters.

    Args:
        checkpoint: the adapter.
        ambient: the merged parameters that count, by name; ignores adapted modules outside them.
        storages: how the merged model's weights keep their matrices.
        load_unmerged: builds the adapter's PeftModel; called if its files are not sufficient.

    Raises:
        Unsupported: the method changes no weight (prompts, prefixes, bottlenecks), or its directions are not
            computable.
    """
    whole: list[str] = []
    modules: dict[str, dict[str, torch.Tensor]] = {}
    with TensorFolder(checkpoint.folder) as stored:
        for key in stored:
            name = WRAPPERS.sub(".", key.removeprefix(ADAPTER_PREFIX))
            module, _, kind = name.removesuffix(".weight").rpartition(".")
            if name in ambient:
                whole.append(name)
            elif f"{module}.weight" in ambient or f"{module}.bias" in ambient:
                modules.setdefault(module, {})[kind] = stored[key]
    files = AdapterFiles(checkpoint, ambient, storages)
    parts: list[Part] = [Everything((name,), ambient[name].numel()) for name in whole]
    closed = {module: part for module, values in modules.items() if (part := files.closed_form(module, values))}
    parts += closed.values()
    if len(closed) < len(modules) or (not parts and not files.hold_prompts):
        named = [name.rpartition(".")[0] for name in whole]
        redundant = {name: count for name, kinds in modules.items() if (count := _redundant(kinds)) is not None}
        parts += layer_ranges(load_unmerged(checkpoint), ambient, [*closed, *named], redundant)
    if not parts:
        reason = NOT_A_MAP if files.hold_prompts else "moves no weight of the blocks, so it has no directions there"
        raise Unsupported(f"adaptation {checkpoint.adaptation} {reason}")
    return Tangent(parts, ambient)


@final
class AdapterFiles:
    """The directions of an adapter's modules from its files, without a model."""

    def __init__(
        self, checkpoint: Checkpoint, ambient: Mapping[str, torch.Tensor], storages: Mapping[str, Storage]
    ) -> None:
        from peft import PromptLearningConfig
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

        self._checkpoint, self._ambient, self._storages = checkpoint, ambient, storages
        config = read_json(checkpoint.folder / ADAPTER_CONFIG)
        kind = config.get("peft_type")
        self._is_product = kind in PRODUCTS and own_settings(config).keys() <= PLAIN
        self.hold_prompts = issubclass(PEFT_TYPE_TO_CONFIG_MAPPING.get(kind, object), PromptLearningConfig)

    def closed_form(self, module: str, values: Mapping[str, torch.Tensor]) -> Part | None:
        """Returns the directions of one module's stored tensors, by local name; None if they are not sufficient."""
        weight, bias = f"{module}.weight", f"{module}.bias"
        storage = self._storages.get(weight)
        kinds = frozenset(values)
        if kinds == {"form_bias"} and bias in self._ambient:
            return Everything((bias,), self._ambient[bias].numel())
        if storage is None or storage.groups > 1 or weight not in self._ambient:
            return None
        factors = [values[kind] for kind in sorted(kinds - {"lora_E"})]
        if self._is_product and kinds in PRODUCT_KINDS and bool(values.get("lora_E", torch.ones(1)).all()):
            return low_rank(weight, factors[0], factors[1], self._ambient[weight], storage)
        if storage.is_linear and kinds in ({"ia3_l"}, {"form_input"}):
            of_inputs = "form_input" in kinds or values["ia3_l"].shape[0] == 1
            names = (weight,) if of_inputs or bias not in self._ambient else (weight, bias)
            return scaling(names, [self._read_base(name) for name in names], storage, of_inputs=of_inputs)
        return None

    def _read_base(self, name: str) -> torch.Tensor:
        """The base's tensor of that name, with or without prefixes of the base's file."""
        with TensorFolder(self._checkpoint.base) as stored:
            for key in stored:
                if key == name or name.endswith(f".{key}") or key.endswith(f".{name}"):
                    return stored[key]
        raise Unsupported(f"adaptation {self._checkpoint.adaptation}: the base {self._checkpoint.base} has no {name}")


def _redundant(values: Mapping[str, torch.Tensor]) -> int | None:
    """Number of parameter directions of a module without effect, in general position; None if unknown."""
    kinds = frozenset(values)
    if kinds == {"lora_A", "lora_B", "lora_magnitude_vector"}:
        return len(values["lora_A"]) ** 2  # (B Q^-1, Q A)
    if kinds in ({"form_input", "form_output"}, {"vera_lambda_b", "vera_lambda_d"}):
        return 1  # one side larger, the other smaller
    if kinds == {"randlora_lambda", "randlora_gamma"}:
        return len(values["randlora_gamma"])  # the same for each of its bases
    return 0 if kinds in ({"form_spectrum"}, {"oft_R"}) else None


def low_rank(name: str, a: torch.Tensor, b: torch.Tensor, weight: torch.Tensor, storage: Storage) -> LowRank:
    """Returns the tangent of a matrix B A in any storage.

    Args:
        name: the weight's name.
        a: (r, inputs); for a convolution followed by its window.
        b: (outputs, r).
        weight: the weight to which the product is added, for its device.
        storage: how the weight stores its matrix.
    """
    sides = (b.flatten(1), a.flatten(1).mT)
    left, right = (_column_space(each.to(weight.device)) for each in sides)
    return LowRank((name,), right, left) if storage.is_turned else LowRank((name,), left, right)


def scaling(names: tuple[str, ...], values: Sequence[torch.Tensor], storage: Storage, *, of_inputs: bool) -> Scaling:
    """Returns the tangent of scaling a weight's inputs or outputs, with the bias if given."""
    rows = stack_rows([each.double() for each in values], storage, of_inputs=of_inputs)
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return Scaling(names, storage, torch.where(norms > 0, rows / norms.clamp_min(1e-30), 0.0), of_inputs)


def stack_rows(values: Sequence[torch.Tensor], storage: Storage, *, of_inputs: bool) -> torch.Tensor:
    """Returns the matrix's columns, or its rows followed by the bias's entries."""
    matrix = storage.matrix(values[0])
    return matrix.mT if of_inputs else torch.cat([matrix, *(each[:, None] for each in values[1:])], dim=1)


def _column_space(matrix: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis of the columns, in double precision."""
    left, sizes, _ = torch.linalg.svd(matrix.double(), full_matrices=False)
    rank = int((sizes > RANK_TOLERANCE * sizes.max().clamp_min(1e-30)).sum()) if matrix.any() else 0
    basis: torch.Tensor = left[:, :rank]
    return basis


Projection = Callable[[Delta], None]
"""Projects a change of the parameters onto a subspace, in place."""
