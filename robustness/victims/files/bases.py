"""Checks that an adapter's base is the base of its pair."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import torch

from robustness.definitions.pairs import BasePrecision
from robustness.errors import CheckpointError
from robustness.victims.files.checkpoint import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Checkpoint, read_json
from robustness.victims.files.selection import recorded_training
from robustness.victims.files.tensors import TensorFolder, match_names

PEFT_PREFIX = "base_model.model."
"""peft's prefix of every tensor's name in an adapter's file."""
WRAPPED = re.compile(r"\.(?:base_layer|modules_to_save)(?=\.)")


def digest_weights(folder: Path) -> str:
    """The sha256 over a folder's safetensors files, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def check_base(checkpoint: Checkpoint) -> str:
    """Returns the evidence that an adapter's base is its pair's; empty if the adapter names the same folder.

    The base that the adapter names may have moved. Then the check uses the digest that `robustness train` recorded,
    or else untrained tensors of the base in the adapter's file. Adapters such as LoRA only determine the base's
    shapes, which loading compares.

    Raises:
        CheckpointError: it was trained on other weights.
    """
    named, base = checkpoint.named_base, checkpoint.base
    if not checkpoint.is_adapter or named == base:
        return ""
    if named is not None:
        if digest_weights(named) != digest_weights(base):
            raise _other_base(checkpoint, str(named))
        return f"the adapter names the base {named}, whose weights are those of {base}"
    moved = f"the adapter names the base {checkpoint.moved_base}, which does not exist"
    recorded = recorded_training(checkpoint.folder).get("base_digest")
    if isinstance(recorded, str):
        if recorded != digest_weights(base):
            raise _other_base(checkpoint, checkpoint.moved_base)
        return f"{moved}; the weights of {base} have the digest that its training recorded"
    same, other = _compare_shared(checkpoint)
    if other:
        raise _other_base(checkpoint, f"{checkpoint.moved_base}, whose {other[0]} was another")
    seen = f", and {', '.join(same)} of both are the same" if same else ""
    return f"{moved}; whether it was trained on {base} in its place is not known: their shapes fit{seen}"


def check_precision(checkpoint: Checkpoint) -> str:
    """Returns how an adapter's base differs from its training, or what of it is not known; empty otherwise."""
    used, trained = checkpoint.base_precision, checkpoint.trained_precision
    if trained is None:
        return (
            ""
            if not checkpoint.is_on_four_bit
            else ("its base is held in 4 bit, as asked; no training record says whether it was in its training")
        )
    if used is trained:
        return ""
    spelt = {BasePrecision.FOUR_BIT: "a base in 4 bit", BasePrecision.FULL: "a base in full precision"}
    return f"it was trained on {spelt[trained]} and is evaluated on {spelt[used]}, as asked"


def _compare_shared(checkpoint: Checkpoint) -> tuple[list[str], list[str]]:
    """Untrained full embeddings in the adapter's file: those equal to the base's, and the others.

    After growth of the vocabulary only the base's rows are compared.
    """
    config = read_json(checkpoint.folder / ADAPTER_CONFIG)
    trained = [str(name) for name in config.get("modules_to_save") or ()]
    words = read_json(checkpoint.base / "config.json").get("vocab_size")
    if config.get("trainable_token_indices"):
        return [], []
    same: list[str] = []
    other: list[str] = []
    with TensorFolder(checkpoint.base) as base, TensorFolder(checkpoint.folder, ADAPTER_WEIGHTS) as stored:
        plain = {WRAPPED.sub("", name.removeprefix(PEFT_PREFIX)): name for name in stored}
        for of_base, name in match_names(base, plain).items():
            if any(part in trained for part in name.split(".")):
                continue
            before, after = base[of_base], stored[plain[name]]
            if before.ndim == 2 and len(before) == words and before.shape[1:] == after.shape[1:]:
                rows = min(len(before), len(after))
                is_same = torch.equal(before[:rows].to(after.dtype), after[:rows])
                (same if is_same else other).append(of_base)
    return same, other


def _other_base(checkpoint: Checkpoint, trained_on: str) -> CheckpointError:
    return CheckpointError(
        f"checkpoint {checkpoint.name}: same-base: the adapter was trained on {trained_on}, the pair's base is "
        f"{checkpoint.base}; set the pair's base to the adapter's, or pair it with a checkpoint of its own base"
    )
