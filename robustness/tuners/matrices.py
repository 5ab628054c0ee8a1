"""How a module stores its matrix: the only place that knows the axes of weights."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd


class Axes(StrEnum):
    """The order of a weight's axes."""

    OUT_IN = "out, in"
    """torch's linear layers."""
    IN_OUT = "in, out"
    """transformers' Conv1D (GPT, GPT-2): y = x W, whereas a linear layer has y = x Wt."""
    ROWS = "number, width"
    """Embeddings: one row per entry, the image of its one-hot vector."""
    KERNEL = "out, in / groups, window"
    """Convolutions: each row of the matrix has one output's weights for a window of inputs."""
    TURNED_KERNEL = "in, out / groups, window"
    """Transposed convolutions."""


@dataclass(frozen=True, slots=True)
class Storage:
    """How a weight stores its matrix."""

    axes: Axes
    groups: int = 1
    """For a convolution: above 1 its rows act on different inputs, so it is no single matrix."""

    @property
    def is_linear(self) -> bool:
        """Whether the module is a linear layer, with any storage of its matrix."""
        return self.axes in (Axes.OUT_IN, Axes.IN_OUT)

    @property
    def is_lookup(self) -> bool:
        """Whether the module is an embedding."""
        return self.axes is Axes.ROWS

    @property
    def is_turned(self) -> bool:
        """Whether the weight stores its matrix transposed."""
        return self.axes in (Axes.IN_OUT, Axes.ROWS, Axes.TURNED_KERNEL)

    def matrix(self, weight: torch.Tensor) -> torch.Tensor:
        """Returns a view of shape (outputs, inputs); for a convolution the inputs are those of a window.

        >>> Storage(Axes.IN_OUT).matrix(torch.zeros(3, 5)).shape
        torch.Size([5, 3])
        """
        return (weight.transpose(0, 1) if self.is_turned else weight).flatten(1)

    def stored(self, matrix: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Returns the weight of this shape that stores a matrix: the inverse of `matrix`.

        >>> storage = Storage(Axes.KERNEL)
        >>> storage.stored(storage.matrix(torch.ones(2, 3, 4)), torch.Size([2, 3, 4])).shape
        torch.Size([2, 3, 4])
        """
        if self.is_turned:
            return matrix.reshape(shape[1], shape[0], *shape[2:]).transpose(0, 1)
        return matrix.reshape(shape)


def storage_of(module: nn.Module) -> Storage | None:
    """Returns how a module stores its matrix in `weight`; None for a module without a matrix, or a quantised one.

    For a layer wrapped by peft, examines the layer itself.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from transformers.pytorch_utils import Conv1D

    layer: Any = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, torch.Tensor) or not weight.is_floating_point():
        return None  # quantised layers are subclasses of linear ones, with integers for weights
    if isinstance(layer, nn.Linear):
        return Storage(Axes.OUT_IN) if weight.shape == (layer.out_features, layer.in_features) else None
    if isinstance(layer, Conv1D):
        return Storage(Axes.IN_OUT)
    if isinstance(layer, nn.Embedding):
        return Storage(Axes.ROWS)
    if isinstance(layer, _ConvNd):
        turned = isinstance(layer, _ConvTransposeNd)
        return Storage(Axes.TURNED_KERNEL if turned else Axes.KERNEL, layer.groups)
    return None


def weight_storages(model: nn.Module) -> dict[str, Storage]:
    """Returns how the weights of a model's modules store their matrices, by the weight's name."""
    found = {f"{path}.weight".lstrip("."): storage_of(module) for path, module in model.named_modules()}
    return {name: storage for name, storage in found.items() if storage is not None}


def is_linear(module: nn.Module) -> bool:
    """Returns whether a module is a linear layer, with any storage of its matrix, also in 4 bit."""
    storage = storage_of(module)
    return is_packed(module) if storage is None else storage.is_linear


def is_packed(module: nn.Module) -> bool:
    """Returns whether a module is a linear layer whose weight bitsandbytes has packed in 4 bit."""
    return isinstance(module, nn.Linear) and getattr(module.weight, "quant_state", None) is not None
