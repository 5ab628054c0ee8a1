"""The weights that probes of the parameters move, and restore exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, final

import torch

from robustness.sensitivity.blocks import find_stacks
from robustness.sensitivity.probe import Unsupported
from robustness.tuners.matrices import Storage, weight_storages

Delta = Mapping[str, torch.Tensor]
"""A tensor for some of the parameters, by name; absent ones are zero."""


def block_parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """Returns the parameters of a transformer's blocks by name: the space in which both arms of a pair live.

    Head (trained in full by every method) and embeddings are excluded. A matrix shared by several places appears
    once.

    Raises:
        Unsupported: the model has no list of blocks, an unmerged adapter in them (its numbers are coordinates, not
            weights), or quantised weights.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    stacks = [block for stack in find_stacks(model) for block in stack.items()]
    for name, block in stacks:
        if any(isinstance(module, BaseTunerLayer) for module in block.modules()):
            raise Unsupported(f"its adapter is not merged into {name}, so its numbers there are not weights")
    prefixes = tuple(f"{name}." for name, _ in stacks)
    parameters = {name: value for name, value in model.named_parameters() if name.startswith(prefixes)}
    if getattr(model, "is_quantized", False) or not all(each.is_floating_point() for each in parameters.values()):
        raise Unsupported("its weights are quantised: they move in steps and have no gradient")
    return parameters


def block_matrices(model: Any) -> dict[str, tuple[torch.nn.Parameter, Storage]]:
    """Returns the blocks' matrices by name: weights of linear layers and convolutions, with their storage.

    Raises:
        Unsupported: as in `block_parameters`, or there are none.
    """
    storages = weight_storages(model)
    parameters = block_parameters(model).items()
    found = {n: (v, storages[n]) for n, v in parameters if n in storages and not storages[n].is_lookup}
    if not found:
        raise Unsupported(f"model {type(model).__name__}: no linear layer or convolution in its blocks")
    return found


@final
class WeightSpace:
    """Parameters that can be differentiated and moved inside `with`; restored afterwards."""

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self.parameters = parameters
        self.dimension = sum(value.numel() for value in parameters.values())
        self._wanted: dict[str, bool] = {}
        self._originals: dict[str, torch.Tensor] = {}

    def __enter__(self) -> Self:
        self._wanted = {name: value.requires_grad for name, value in self.parameters.items()}
        for value in self.parameters.values():
            value.requires_grad_(True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for name, original in self._originals.items():
            self.parameters[name].data.copy_(original)
        self._originals.clear()
        for name, value in self.parameters.items():
            value.requires_grad_(self._wanted[name])

    def place(self, delta: Delta) -> None:
        """Sets the weights to the original ones plus delta."""
        if not self._originals:
            self._originals = {name: value.detach().clone() for name, value in self.parameters.items()}
        for name, value in self.parameters.items():
            if name in delta:
                torch.add(self._originals[name], delta[name], out=value.data)
            else:
                value.data.copy_(self._originals[name])

    def gradient(self, function: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Returns a scalar function of the weights and its gradient; zero for weights without effect."""
        with torch.enable_grad():
            value = function()
            gradients = torch.autograd.grad(value, list(self.parameters.values()), allow_unused=True)
        named = zip(self.parameters.items(), gradients, strict=True)
        return value.detach(), {
            name: torch.zeros_like(parameter) if gradient is None else gradient
            for (name, parameter), gradient in named
        }


@contextmanager
def replaced(parameters: Mapping[str, torch.nn.Parameter], changed: Delta) -> Iterator[None]:
    """Replaces a model's values, and restores the same tensor objects afterwards."""
    own = {name: parameters[name].data for name in changed}
    try:
        for name, tensor in changed.items():
            parameters[name].data = tensor.to(own[name].device, own[name].dtype)
        yield
    finally:
        for name, tensor in own.items():
            parameters[name].data = tensor


def squared_norm(delta: Delta) -> float:
    """Returns the squared Frobenius norm over all tensors.

    >>> squared_norm({"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])})
    25.0
    """
    return float(
        sum(value.double().square().sum() if value.numel() < 1e4 else _square(value) for value in delta.values())
    )


def inner_product(left: Delta, right: Delta) -> float:
    """Returns the inner product over the tensors that both have.

    >>> inner_product({"a": torch.tensor([3.0, 1.0])}, {"a": torch.tensor([2.0, 4.0]), "b": torch.tensor([1.0])})
    10.0
    """
    return sum(float(torch.dot(left[name].flatten(), right[name].flatten())) for name in left if name in right)


def scaled(delta: Delta, factor: float) -> dict[str, torch.Tensor]:
    """Returns delta times a number."""
    return {name: value * factor for name, value in delta.items()}


def _square(value: torch.Tensor) -> torch.Tensor:
    """For large tensors a dot product in their own precision, which sums pairwise."""
    flat = value.flatten()
    return torch.dot(flat, flat).double()
