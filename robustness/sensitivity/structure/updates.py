"""The updates of a checkpoint's weights against its base, read one tensor at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from robustness.sensitivity.probe import Subject, Unsupported
from robustness.tuners.matrices import Storage, weight_storages
from robustness.victims.files.checkpoint import ADAPTER_WEIGHTS, Checkpoint
from robustness.victims.files.reasons import loading_reason
from robustness.victims.files.tensors import TensorFolder, match_names

PREFIXES = 2
"""Prefixes of names that differ between folders' files, such as `bert.` or `model.model.`."""


@dataclass(frozen=True, slots=True)
class WeightUpdate:
    """One tensor before and after fine-tuning, in float32 on the CPU."""

    key: str
    """The base's value."""
    layer: int | None
    """The block's index, counted from 0."""
    before: torch.Tensor
    """For linear layers and convolutions the matrix, shape (out, in), in any storage."""
    after: torch.Tensor
    storage: Storage | None = None
    """The storage, if before and after are matrices."""
    shape: torch.Size | None = None
    """The key under which it is stored."""

    @property
    def name(self) -> str:
        """The key without `.weight`."""
        return self.key.removesuffix(".weight")

    @property
    def change(self) -> torch.Tensor:
        """After minus before."""
        return self.after - self.before

    @property
    def is_linear(self) -> bool:
        """Whether it is a linear layer's matrix."""
        return self.storage is not None and self.storage.is_linear

    def stored(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns another tensor of this shape in the module's storage."""
        return self.storage.stored(tensor, self.shape) if self.storage and self.shape else tensor


class Updates:
    """All tensors that a checkpoint shares with its base, without the head.

    A full checkpoint's tensors are read from its folder; an adapter's come from the merged victim. The modules decide
    which tensors are matrices; a full checkpoint's modules are built without weights. Used as a context manager.

    Raises:
        Unsupported: the adapter is not merged into weights, the weights are rounded, or the config gives no model.
        CheckpointError: the folder's weights cannot be read.
    """

    def __init__(self, checkpoint: Checkpoint, subject: Subject) -> None:
        self._stack = ExitStack()
        self._base = self._stack.enter_context(TensorFolder(checkpoint.base))
        self._tuned: Mapping[str, torch.Tensor]
        if checkpoint.is_adapter:
            self._tuned = _merged_weights(subject)
            body = getattr(subject.any_victim.model, "base_model", subject.any_victim.model)
        else:
            self._tuned = self._stack.enter_context(TensorFolder(checkpoint.folder))
            body = skeleton(checkpoint.folder)
        own, storages = body.state_dict(), weight_storages(body)
        places = {name: _place(name, own) for name in self._tuned}
        self.names: Mapping[str, str] = match_names(self._base, [name for name, place in places.items() if place])
        """From the base's names to the checkpoint's."""
        for base, tuned in self.names.items():
            if base.endswith(".weight") and not (
                _has_fractions(self._base, base) and _has_fractions(self._tuned, tuned)
            ):
                raise Unsupported(f"{base} is quantised in base or checkpoint: its numbers encode weights")
        self._storages = {
            base: storages[place] for base, tuned in self.names.items() if (place := places[tuned]) in storages
        }

    def __enter__(self) -> Updates:
        return self

    def __exit__(self, *_unused: object) -> None:
        self._stack.close()

    def matrices(self) -> Iterator[WeightUpdate]:
        """Weights of linear layers, and of convolutions with the same inputs for all outputs."""
        return self._with(lambda storage: _maps(storage) and storage.groups == 1)

    def mappings(self) -> Iterator[WeightUpdate]:
        """Weights of all linear layers and convolutions."""
        return self._with(_maps)

    def embeddings(self) -> Iterator[WeightUpdate]:
        """Embedding matrices."""
        return self._with(lambda storage: storage is not None and storage.is_lookup)

    def vectors(self) -> Iterator[WeightUpdate]:
        """Biases, and weights of normalisations."""
        return (update for update in self._with(lambda storage: storage is None) if update.before.ndim == 1)

    def others(self) -> Iterator[WeightUpdate]:
        """Tensors other than vectors with unknown axes: grouped convolutions, bare parameters."""
        for update in self._with(lambda storage: storage is None or storage.groups > 1):
            if sum(size > 1 for size in update.before.shape) > 1:
                yield update

    def all(self) -> Iterator[WeightUpdate]:
        """Every shared tensor."""
        return self._with(lambda _: True)

    def _with(self, wanted: Callable[[Any], bool]) -> Iterator[WeightUpdate]:
        for name in self.names:
            update = self.read(name) if wanted(self._storages.get(name)) else None
            if update is not None:
                yield update

    def read(self, name: str) -> WeightUpdate | None:
        """Reads one tensor of base and checkpoint; None if their shapes differ or one lacks it."""
        if name not in self.names:
            return None
        before, after = self._base[name], self._tuned[self.names[name]]
        if before.shape != after.shape or not before.is_floating_point():
            return None
        layer = re.search(r"\.(\d+)\.", name)
        index = int(layer[1]) if layer else None
        before, after = before.float(), after.detach().cpu().float()
        storage = self._storages.get(name)
        if storage is None or not _maps(storage) or storage.groups > 1:
            return WeightUpdate(name, index, before, after)
        return WeightUpdate(name, index, storage.matrix(before), storage.matrix(after), storage, before.shape)


def _maps(storage: Storage | None) -> bool:
    """Whether it belongs to a linear layer or a convolution."""
    return storage is not None and not storage.is_lookup


def changed_matrices(partner: Checkpoint, subject: Subject) -> frozenset[str]:
    """Returns the keys of the matrices that a partner changes; empty if it has no such weights.

    Args:
        partner: one of the subject's partners; an adapter is merged to see its changes.
        subject: the checkpoint whose partner it is.
    """
    as_seen = replace(subject, checkpoint=partner, load_victim=lambda: subject.load_partner(partner))
    try:
        with Updates(partner, as_seen) as updates:
            return frozenset(update.key for update in updates.matrices() if bool(update.change.any()))
    except Unsupported:  # such as learnt prompts: the partner's own row has the reason
        return frozenset()


def shared_scope(one: Checkpoint, other: Checkpoint) -> str:
    """Returns the scope's name of rows over the matrices that both arms of a pair change."""
    return "matrices changed in " + " and ".join(sorted((one.name, other.name)))


def skeleton(folder: Path) -> Any:
    """Returns the model of a folder's config without head and weights: only its modules.

    Raises:
        Unsupported: the config gives no model.
    """
    from transformers import AutoConfig, AutoModel

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        with torch.device("meta"):
            return AutoModel.from_config(config, trust_remote_code=False)
    except Exception as error:  # each architecture raises its own errors
        reason = loading_reason(folder, error)
        raise Unsupported(f"no model can be made of {folder / 'config.json'}: {reason}") from error


def low_rank_factors(checkpoint: Checkpoint) -> Mapping[str, tuple[torch.Tensor, torch.Tensor]]:
    """Returns A (r, in) and B (out, r) of every layer that a LoRA-like adapter's file holds, by the layer's name."""
    if not checkpoint.is_adapter or not (checkpoint.folder / ADAPTER_WEIGHTS).is_file():
        return {}
    with TensorFolder(checkpoint.folder) as tensors:
        names = [name.partition(".lora_A")[0] for name in tensors if ".lora_A" in name]
        return {name: (_factor(tensors, name, "A"), _factor(tensors, name, "B")) for name in names}


def _factor(tensors: Mapping[str, torch.Tensor], name: str, side: str) -> torch.Tensor:
    key = f"{name}.lora_{side}"
    factor = tensors[key] if key in tensors else tensors[f"{key}.weight"]
    return factor.flatten(1)  # followed by the window for a convolution


def _merged_weights(subject: Subject) -> Mapping[str, torch.Tensor]:
    model = subject.any_victim.model
    refuse_unmerged(model, subject.checkpoint)
    weights: Mapping[str, torch.Tensor] = model.state_dict()
    if any(tensor.dtype is not torch.float32 for tensor in weights.values() if tensor.is_floating_point()):
        raise Unsupported("rounded weights hide the update: use --dtype float32")
    return weights


def refuse_unmerged(model: Any, checkpoint: Checkpoint) -> None:
    """Raises Unsupported for an adapter outside the model's weights."""
    config = getattr(model, "active_peft_config", None)
    if config is None:
        return
    what = (
        "does not change the base's weights" if config.is_prompt_learning else "is not merged into the base's weights"
    )
    raise Unsupported(f"a {checkpoint.adaptation} adapter {what}: there is nothing to measure")


def _has_fractions(tensors: Mapping[str, torch.Tensor], name: str) -> bool:
    return "F" in tensors.dtype(name) if isinstance(tensors, TensorFolder) else tensors[name].is_floating_point()


def _place(name: str, body: Mapping[str, torch.Tensor]) -> str | None:
    """A tensor's name in the model without its head; None for the head's own tensors."""
    parts = name.split(".")
    endings = [".".join(parts[start:]) for start in range(min(PREFIXES + 1, len(parts)))]
    return next((ending for ending in endings if ending in body), None)
