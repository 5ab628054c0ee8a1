"""The weights that probes of the parameters move, and restore exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
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
    """Parameters that can be differentiated and moved inside `with`; restored afterwards, to the last bit.

    Beside the parameters it holds one gradient, and one copy of the moved parameters: their originals. It holds no
    change of the weights: that is the difference of both, computed when needed, and so as the model computed with it.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self.parameters = parameters
        self.dimension = sum(value.numel() for value in parameters.values())
        self._before: dict[str, tuple[bool, torch.Tensor | None]] = {}
        self._originals: dict[str, torch.Tensor] = {}

    def __enter__(self) -> Self:
        self._before = {name: (value.requires_grad, value.grad) for name, value in self.parameters.items()}
        for value in self.parameters.values():
            value.requires_grad_(True)
            value.grad = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.restore()
        for name, value in self.parameters.items():
            wanted, value.grad = self._before[name]
            value.requires_grad_(wanted)

    @property
    def slope(self) -> dict[str, torch.Tensor]:
        """The gradient, zero for weights without effect; it may be overwritten, and `clear` keeps its tensors."""
        for value in self.parameters.values():
            if value.grad is None:
                value.grad = torch.zeros_like(value)
        return {name: value.grad for name, value in self.parameters.items() if value.grad is not None}

    def clear(self) -> None:
        """Sets the gradient to zero."""
        for value in self.parameters.values():
            if value.grad is not None:
                value.grad.zero_()

    def add_slope(self, function: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Returns a scalar function of the weights, and adds its gradient to `slope`."""
        with torch.enable_grad():
            value = function()
            if value.requires_grad:
                torch.autograd.backward(value, inputs=list(self.parameters.values()))
        return value.detach()

    def origin(self, name: str) -> torch.Tensor:
        """Returns a parameter's original value."""
        return self._originals[name] if name in self._originals else self.parameters[name].detach()

    def offset(self, name: str) -> torch.Tensor:
        """Returns how far a parameter is from its original value, as a new tensor."""
        return self.parameters[name].detach() - self.origin(name)

    def place(self, name: str, change: torch.Tensor) -> None:
        """Sets a parameter to its original value plus a change."""
        value = self.parameters[name].data
        if name not in self._originals:
            self._originals[name] = value.clone()
        torch.add(self._originals[name], change, out=value)

    def restore(self) -> None:
        """Sets all parameters to their original values, and frees the copy."""
        for name, original in self._originals.items():
            self.parameters[name].data.copy_(original)
        self._originals.clear()


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
    return sum_squares(delta.values())


def sum_squares(tensors: Iterable[torch.Tensor]) -> float:
    """Returns the sum of all numbers' squares; takes the tensors one after the other."""
    return float(sum(value.double().square().sum() if value.numel() < 1e4 else _square(value) for value in tensors))


def inner_product(left: torch.Tensor, right: torch.Tensor) -> float:
    """Returns the inner product of two tensors of one shape.

    >>> inner_product(torch.tensor([3.0, 1.0]), torch.tensor([2.0, 4.0]))
    10.0
    """
    return float(torch.dot(left.flatten(), right.flatten()))


def _square(value: torch.Tensor) -> torch.Tensor:
    """For large tensors a dot product in their own precision, which sums pairwise."""
    flat = value.flatten()
    return torch.dot(flat, flat).double()
