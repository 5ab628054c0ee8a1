"""One copy in memory of the numbers that several loaded models have alike, such as their base's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final
from weakref import WeakSet

import torch


@final
class SharedBases:
    """The loaded models of each base that are still in use; a new one takes over what it has in common with them.

    An adapter that stays apart then adds its own weights alone, a merged one the matrices that it changes.
    """

    def __init__(self) -> None:
        self._models: defaultdict[Path, WeakSet[Any]] = defaultdict(WeakSet)

    def held(self, base: Path) -> dict[str, torch.Tensor]:
        """Returns the floating-point tensors in the processor's memory of the models of a base, by plain name."""
        return {
            name: tensor.detach()
            for model in self._models[base]
            for name, tensor in plain_tensors(model).items()
            if tensor.is_floating_point() and tensor.device.type == "cpu"
        }

    def move(self, base: Path, model: Any, device: torch.device, dtype: torch.dtype) -> None:
        """Moves a model's weights one after the other, each onto an equal one that is there already.

        So the device holds at most one weight more than the models do in the end. Packed weights stay, because only
        their model knows how to move them.

        Args:
            base: the folder of its base.
            model: anywhere, in any precision.
            device: where it goes.
            dtype: in which precision.
        """
        known = [plain_tensors(other) for other in self._models[base]]
        for name, own in plain_tensors(model).items():
            if type(own) is not torch.nn.Parameter or not own.is_floating_point():
                continue
            moved = own.data.to(device=device, dtype=dtype)
            matches = (each[name] for each in known if name in each)
            own.data = next((match.data for match in matches if _are_alike(moved, match)), moved)

    def add(self, base: Path, model: Any) -> int:
        """Returns the bytes that a model no longer holds itself.

        Args:
            base: the folder of its base.
            model: on its device and in its precision.
        """
        saved = 0
        for other in self._models[base]:
            saved += share_tensors(model, other)
        self._models[base].add(model)
        return saved


def share_tensors(model: Any, other: Any) -> int:
    """Lets a model use another's tensors where they are equal to the last bit; returns the bytes that this frees."""
    theirs = plain_tensors(other)
    saved = 0
    for name, own in plain_tensors(model).items():
        match = theirs.get(name)
        if match is None or match.data_ptr() == own.data_ptr() or not _are_alike(own, match):
            continue
        own.data = match.data
        saved += own.numel() * own.element_size()
    return saved


def plain_tensors(model: Any) -> dict[str, torch.Tensor]:
    """Returns a model's parameters by their names without the parts that peft inserts."""
    return dict(_plain_names(model))


def _plain_names(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    for name, parameter in model.named_parameters():
        plain = name.removeprefix("base_model.").removeprefix("model.") if name.startswith("base_model.") else name
        yield plain.replace(".base_layer.", "."), parameter


def _are_alike(own: torch.Tensor, other: torch.Tensor) -> bool:
    return (
        (own.shape, own.dtype, own.device) == (other.shape, other.dtype, other.device)
        and own.stride() == other.stride()
        and torch.equal(own.data, other.data)
    )
