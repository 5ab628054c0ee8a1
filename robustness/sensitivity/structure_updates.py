"""The updates of a checkpoint's weights against its base, read one tensor at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from robustness.sensitivity.probe import Subject, Unsupported
from robustness.victims.checkpoint import ADAPTER_WEIGHTS, Checkpoint
from robustness.victims.tensors import TensorFolder

HEAD_NAMES = {"classifier", "score", "qa_outputs", "lm_head"}


@dataclass(frozen=True, slots=True)
class WeightUpdate:
    """One tensor before and after fine-tuning, in float32 on the CPU."""

    key: str
    """As the base has it."""
    layer: int | None
    """The block's index, counted from 0."""
    before: torch.Tensor
    """Matrices have shape (out, in)."""
    after: torch.Tensor

    @property
    def name(self) -> str:
        """The key without `.weight`."""
        return self.key.removesuffix(".weight")

    @property
    def change(self) -> torch.Tensor:
        """After minus before."""
        return self.after - self.before


class Updates:
    """All tensors that a checkpoint shares with its base, head left out.

    A full checkpoint's are read from its folder; an adapter's come from the merged victim. Used as a context manager.

    Raises:
        Unsupported: an adapter that is not merged into weights, or a victim that is not in float32.
        CheckpointError: a folder whose weights cannot be read.
    """

    def __init__(self, checkpoint: Checkpoint, subject: Subject) -> None:
        self._stack = ExitStack()
        self._base = self._stack.enter_context(TensorFolder(checkpoint.base))
        self._tuned: Mapping[str, torch.Tensor]
        if checkpoint.is_adapter:
            self._tuned = _merged_weights(subject)
        else:
            self._tuned = self._stack.enter_context(TensorFolder(checkpoint.folder))
        self.names: Mapping[str, str] = _match_names(self._base, self._tuned)
        """The base's names to the checkpoint's."""

    def __enter__(self) -> Updates:
        return self

    def __exit__(self, *_unused: object) -> None:
        self._stack.close()

    def matrices(self) -> Iterator[WeightUpdate]:
        """Weights of linear layers."""
        for name in self.names:
            if name.endswith(".weight") and "embed" not in name:
                update = self.read(name)
                if update is not None and update.before.ndim == 2:
                    yield update

    def vectors(self) -> Iterator[WeightUpdate]:
        """Biases, and weights of normalisations."""
        for name in self.names:
            if name.endswith((".bias", ".weight")) and "embeddings.weight" not in name:
                update = self.read(name)
                if update is not None and update.before.ndim == 1:
                    yield update

    def embeddings(self) -> Iterator[WeightUpdate]:
        """Embedding matrices."""
        for name in self.names:
            if name.endswith(".weight") and "embed" in name:
                update = self.read(name)
                if update is not None and update.before.ndim == 2:
                    yield update

    def all(self) -> Iterator[WeightUpdate]:
        """Every shared tensor."""
        for name in self.names:
            update = self.read(name)
            if update is not None:
                yield update

    def read(self, name: str) -> WeightUpdate | None:
        """Reads one tensor of the base and of the checkpoint; None when their shapes differ or one lacks it."""
        if name not in self.names:
            return None
        before, after = self._base[name], self._tuned[self.names[name]]
        if before.shape != after.shape or not before.is_floating_point():
            return None
        layer = re.search(r"\.(\d+)\.", name)
        return WeightUpdate(name, int(layer[1]) if layer else None, before.float(), after.detach().cpu().float())


def low_rank_factors(checkpoint: Checkpoint) -> Mapping[str, tuple[torch.Tensor, torch.Tensor]]:
    """Returns A (r, in) and B (out, r) of every layer that a LoRA-like adapter's file holds, by the layer's name."""
    if not checkpoint.is_adapter or not (checkpoint.folder / ADAPTER_WEIGHTS).is_file():
        return {}
    with TensorFolder(checkpoint.folder) as tensors:
        names = [name.partition(".lora_A")[0] for name in tensors if ".lora_A" in name]
        return {name: (_factor(tensors, name, "A"), _factor(tensors, name, "B")) for name in names}


def _factor(tensors: Mapping[str, torch.Tensor], name: str, side: str) -> torch.Tensor:
    key = f"{name}.lora_{side}"
    return tensors[key] if key in tensors else tensors[f"{key}.weight"]


def _merged_weights(subject: Subject) -> Mapping[str, torch.Tensor]:
    model = subject.any_victim.model
    if getattr(model, "active_peft_config", None) is not None:
        raise Unsupported(
            f"a {subject.checkpoint.adaptation} adapter is no change of the base's weights: nothing to look at"
        )
    weights: Mapping[str, torch.Tensor] = model.state_dict()
    if any(tensor.dtype is not torch.float32 for tensor in weights.values() if tensor.is_floating_point()):
        raise Unsupported("rounded weights hide the update: use --dtype float32")
    return weights


def _match_names(base: Mapping[str, torch.Tensor], tuned: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Base names to the checkpoint's, which may have one more or one less prefix (`bert.`)."""
    found = {}
    for name in tuned:
        rest = name.partition(".")[2]
        if set(name.split(".")) & HEAD_NAMES:
            continue
        if name in base:
            found[name] = name
        elif rest in base:
            found[rest] = name
    prefixed = {name.partition(".")[2]: name for name in base}
    for name in tuned:
        if name in prefixed and prefixed[name] not in found and not set(name.split(".")) & HEAD_NAMES:
            found[prefixed[name]] = name
    return {name: found[name] for name in base if name in found}
