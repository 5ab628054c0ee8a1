"""Saves models given as objects, as the libraries do."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from robustness.errors import CheckpointError, UsageError, first_line
from robustness.victims.files.checkpoint import ADAPTER_CONFIG
from robustness.victims.files.quantised import packed_layers

WRAPPED = re.compile(r"\.(?:base_layer|original_module)(?=\.)")
"""Part that peft adds to the names of the base's weights."""


def is_adapted(model: object) -> bool:
    """Whether it is a peft model on a base."""
    from peft import PeftModel

    return isinstance(model, PeftModel)


def refuse_other_objects(key: str, given: object) -> None:
    """Raises UsageError for anything but a model of transformers or peft with its tokenizer."""
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    if not isinstance(given, tuple | list) or len(given) != 2:
        raise UsageError(f"{key}: expected a folder, a hub id or (model, tokenizer); got a {type(given).__name__}")
    model, tokenizer = given
    if not isinstance(model, PreTrainedModel) and not is_adapted(model):
        kind = type(model).__name__
        raise UsageError(f"{key}: expected a model of transformers or peft before its tokenizer; got a {kind}")
    if getattr(model, "_hf_peft_config_loaded", False):  # its base is not distinguishable from it
        raise UsageError(f"{key}: adapters were added to the model itself; use peft.get_peft_model(model, config)")
    if packed_layers(model):  # saved unchanged, packed weights would be another base than its partner's
        raise UsageError(
            f"{key}: its weights are held in 4 bit; save the adapter with save_pretrained, and give its folder with "
            'base_precision="4bit"'
        )
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise UsageError(f"{key}: expected a tokenizer behind the model; got a {type(tokenizer).__name__}")


def save_arm(key: str, model: Any, tokenizer: Any, base: str | None, folder: Path) -> None:
    """Saves a model with its tokenizer; of a peft model only the adapter.

    Args:
        key: its name in messages.
        model: of transformers or peft.
        tokenizer: its own.
        base: the base's name in the adapter's config; None: unchanged.
        folder: an existing empty folder.

    Raises:
        CheckpointError: it cannot be saved.
    """

    def save() -> None:
        if not is_adapted(model):
            model.save_pretrained(folder)
            return
        active = model.active_adapter
        # The base is saved whole, its embeddings too.
        model.save_pretrained(folder, selected_adapters=[active], save_embedding_layers=False)
        if active != "default":  # peft creates a folder of the adapter's name
            for file in (folder / active).iterdir():
                file.rename(folder / file.name)
            (folder / active).rmdir()
        if base is not None:
            config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
            named = config | {"base_model_name_or_path": base}
            (folder / ADAPTER_CONFIG).write_text(json.dumps(named, indent=2), encoding="utf-8")

    _explain(key, save)
    _explain(key, lambda: tokenizer.save_pretrained(folder))


def save_base(key: str, model: Any, tokenizer: Any, folder: Path) -> None:
    """Saves the base of a peft model with its tokenizer; does not change the model.

    Omits the base's own classifier if the adapter has one. It is unused, and `from_pretrained` draws it anew in every
    process, so that equal bases would differ.

    Raises:
        UsageError: the adapter is merged into the base, whose own weights are then unknown.
        CheckpointError: it cannot be saved.
    """
    base = model.get_base_model()
    if any(getattr(module, "merged", False) for module in base.modules()):
        raise UsageError(f"{key}: its adapter is merged into the base; call unmerge_adapter() first")

    def save() -> None:
        with torch.device("meta"):
            plain = type(base)(copy.deepcopy(base.config))
        own = {WRAPPED.sub("", name): weight for name, weight in base.state_dict().items()}
        names = plain.state_dict().keys()
        plain.load_state_dict({name: own[name] for name in names}, assign=True)
        plain.tie_weights()
        unread = _replaced_heads(base)
        kept = {name: weight for name, weight in plain.state_dict().items() if name not in unread}
        plain.save_pretrained(folder, state_dict=kept)
        tokenizer.save_pretrained(folder)

    _explain(key, save)


def _replaced_heads(base: Any) -> set[str]:
    """The names of a classifier's weights that an adapter has replaced; a language model's head is pretrained."""
    if base.get_output_embeddings() is not None:
        return set()
    originals = {WRAPPED.sub("", name) for name in base.state_dict() if ".original_module." in name}
    return {name for name in originals if not name.startswith(f"{base.base_model_prefix}.")}


def _explain(key: str, save: Callable[[], None]) -> None:
    try:
        save()
    except Exception as error:  # every model has its own errors
        raise CheckpointError(
            f"{key}: cannot be saved: {type(error).__name__}: {first_line(error)}; save it, and give its folder"
        ) from error
