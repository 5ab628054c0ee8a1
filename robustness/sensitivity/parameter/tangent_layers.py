"""An adapter's layers as differentiable maps from trained parameters to merged weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch.nn.modules.conv import _ConvNd

from robustness.sensitivity.parameter.tangent_maps import Basis, Mapped, range_of
from robustness.sensitivity.probe import Unsupported
from robustness.tuners.matrices import storage_of


@dataclass(slots=True)
class _Group:
    """Layers that share parameters, so that their directions depend on each other."""

    layers: list[tuple[str, Any]] = field(default_factory=list)
    parameters: dict[int, torch.Tensor] = field(default_factory=dict)


def layer_ranges(
    adapted: Any,
    ambient: Mapping[str, torch.Tensor],
    known: Sequence[str] = (),
    redundant: Mapping[str, int] | None = None,
) -> list[Basis | Mapped]:
    """Returns the directions of an adapter's layers among the merged model's parameters.

    A layer's merged weight comes from its own forward pass on a basis of its inputs, for every method.

    Args:
        adapted: the PeftModel, not merged, in float32 on the CPU; its layers are turned to double precision.
        ambient: the merged parameters that count, by name.
        known: modules with known directions.
        redundant: the number of a module's parameter directions without effect, where known.

    Raises:
        Unsupported: a layer has no weight of its own, or its weight is not differentiable.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted.eval()
    adapted.set_adapter(adapted.active_adapter)  # trained parameters need gradients
    trained = [each for each in adapted.parameters() if each.requires_grad]
    groups: list[_Group] = []
    outer: tuple[str, ...] = ()
    for path, layer in adapted.get_base_model().named_modules():
        wanted = {f"{path}.weight", f"{path}.bias"} & set(ambient)
        if isinstance(layer, BaseTunerLayer) and wanted and path not in known and not path.startswith(outer or "."):
            outer = (*outer, f"{path}.")  # a wrapping layer includes the wrapped one
            reached = _reached(layer, trained)
            _join(groups, _Group([(path, layer)], {id(each): each for each in reached}))
    return [_range(group, ambient, redundant or {}) for group in groups if group.parameters]


def _join(groups: list[_Group], new: _Group) -> None:
    for group in [each for each in groups if each.parameters.keys() & new.parameters.keys()]:
        groups.remove(group)
        new.layers = group.layers + new.layers
        new.parameters |= group.parameters
    groups.append(new)


def _reached(layer: Any, trained: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The trained parameters that the layer's weight depends on, stored in the layer or elsewhere."""
    layer.double()
    try:
        tensors = merged_tensors(layer)
    except RuntimeError:  # for methods that insist on float32
        layer.float()
        tensors = merged_tensors(layer)
    total = torch.stack([each.sum() for each in tensors.values()]).sum()
    gradients = torch.autograd.grad(total, trained, allow_unused=True) if total.requires_grad else []
    return [each for each, gradient in zip(trained, gradients, strict=False) if gradient is not None]


def _range(group: _Group, ambient: Mapping[str, torch.Tensor], redundant: Mapping[str, int]) -> Basis | Mapped:
    names = [
        f"{path}.{kind}"
        for path, layer in group.layers
        for kind in merged_tensors(layer)
        if f"{path}.{kind}" in ambient
    ]
    weights = partial(_weights, group.layers, names)
    surplus = redundant.get(group.layers[0][0]) if len(group.layers) == 1 else None
    return range_of(tuple(names), weights, list(group.parameters.values()), surplus)


def _weights(layers: Sequence[tuple[str, Any]], names: Sequence[str]) -> list[torch.Tensor]:
    found = {f"{path}.{kind}": value for path, layer in layers for kind, value in merged_tensors(layer).items()}
    return [found[name] for name in names]


def merged_tensors(layer: Any) -> dict[str, torch.Tensor]:
    """Returns the effective weight and bias, if any, of a peft layer, as its module stores them.

    Raises:
        Unsupported: the layer is no affine function of its input, or its weight is of an unknown kind.
    """
    base = layer.get_base_layer()
    storage = storage_of(base)
    if storage is None or storage.groups > 1:
        raise Unsupported(f"its directions in a {type(base).__name__} are not known")
    weight: torch.Tensor = base.weight
    if storage.is_lookup:
        rows = torch.arange(len(weight))
        if not torch.equal(base(rows), weight):
            raise Unsupported(f"its directions in a {type(base).__name__}, which scales its rows, are not known")
        return {"weight": layer(rows)}
    if isinstance(base, _ConvNd):
        constant, image = _on_impulses(layer, base)
    else:
        inputs = torch.eye(storage.matrix(weight).shape[1]).to(weight)
        constant, image = layer(torch.zeros_like(inputs[:1]))[0], layer(inputs)
    stored = storage.stored((image - constant).mT, weight.shape)
    return {"weight": stored} if base.bias is None else {"weight": stored, "bias": constant}


def _on_impulses(layer: Any, base: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A convolution's output for zeros, shape (out,), and for one window entry at a time, (entries, out)."""
    places = [_aligned(base, axis) for axis in range(len(base.kernel_size))]
    spatial = [each * (size - 1) + 1 for each, size in zip(base.dilation, base.kernel_size, strict=True)]
    entries = base.in_channels * int(torch.tensor(base.kernel_size).prod())
    windows = torch.eye(entries).to(base.weight).view(entries, base.in_channels, *base.kernel_size)
    inputs = windows.new_zeros(entries, base.in_channels, *spatial)
    entries_of_windows = (slice(None), slice(None), *(slice(None, None, each) for each in base.dilation))
    inputs[entries_of_windows] = windows
    constant, image = layer(torch.zeros_like(inputs[:1])), layer(inputs)
    for place in places:
        constant, image = constant[:, :, place], image[:, :, place]
    return constant[0], image


def _aligned(base: Any, axis: int) -> int:
    """The output whose window starts at the first input."""
    if isinstance(base.padding, str) or base.transposed or base.padding[axis] % base.stride[axis]:
        raise Unsupported(f"its directions in a {type(base).__name__} of padding {base.padding} are not known")
    place: int = base.padding[axis] // base.stride[axis]
    return place
