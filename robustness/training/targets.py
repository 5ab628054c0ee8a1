"""Resolves the target modules of a method's file in a base."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from robustness.errors import CheckpointError
from robustness.tuners.matrices import is_linear

HEAD_NAMES = ("classifier", "score", "qa_outputs")
"""Names of the heads of classifiers and question answering, which peft saves automatically."""

QUERY_AND_VALUE = (
    ("query", "value"),
    ("q_proj", "v_proj"),
    ("q_lin", "v_lin"),
    ("query_proj", "value_proj"),
    ("q", "v"),
)
"""Names for bases without a default in peft."""

NAMES_SHOWN = 12
"""Maximum of module names in a message."""


def target_modules(model: Any, wanted: str | tuple[str, ...]) -> list[str]:
    """Returns the names, or suffixes of names, of the target modules.

    Raises:
        CheckpointError: the base has no such module.
    """
    if isinstance(wanted, tuple):
        return _named(model, wanted)
    if wanted == "attention":
        return _query_and_value(model)
    if wanted == "linear":
        return _in_blocks(model)
    if wanted == "biased":
        return _biased(model)
    raise ValueError(wanted)


def scaled_by_ia3(model: Any) -> tuple[list[str], list[str]]:
    """Returns the targets of (IA)3 by peft's own table: all targets, and those with scaled input.

    Raises:
        CheckpointError: peft has no table for this kind of base.
    """
    from peft.utils import constants

    kind = model.config.model_type
    targets = constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING
    feedforward = constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING
    if kind not in targets:
        raise CheckpointError(
            f"base of type {kind}: peft does not know its keys, values and feed-forward layers; "
            "name them in target_modules and feedforward_modules of the method's file"
        )
    return list(targets[kind]), list(feedforward[kind])


def _query_and_value(model: Any) -> list[str]:
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    kind = model.config.model_type
    if kind in TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING:
        return list(TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING[kind])
    leaves = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    for names in QUERY_AND_VALUE:
        if leaves.issuperset(names):
            return list(names)
    raise CheckpointError(
        f"base of type {kind}: no query and value projections found; expected modules named "
        f"{' or '.join(' and '.join(names) for names in QUERY_AND_VALUE)}; name its own in target_modules of "
        f"the method's file: its linear layers end in {_linear_leaves(model)}"
    )


def _in_blocks(model: Any) -> list[str]:
    names = [
        name
        for name, module in model.named_modules()
        if is_linear(module) and re.search(r"\.\d+\.", name) and not in_head(name)
    ]
    if not names:
        raise CheckpointError(
            f"base of type {model.config.model_type}: no linear layer in repeated blocks found; "
            "name them in target_modules of the method's file"
        )
    return names


def _biased(model: Any) -> list[str]:
    names = [
        name
        for name, module in model.named_modules()
        if (is_linear(module) or isinstance(module, nn.LayerNorm)) and module.bias is not None and not in_head(name)
    ]
    if not names:
        raise CheckpointError(
            f"base of type {model.config.model_type}: no layer has a bias, so there is nothing to train; "
            "use another method"
        )
    return names


def _named(model: Any, wanted: tuple[str, ...]) -> list[str]:
    names = [name for name, module in model.named_modules() if is_linear(module)]
    unmatched = [want for want in wanted if not any(f".{name}".endswith(f".{want}") for name in names)]
    if unmatched or not wanted:
        raise CheckpointError(
            f"base of type {model.config.model_type}: target_modules {', '.join(unmatched) or '(empty)'} match no "
            f"linear layer; its linear layers end in {_linear_leaves(model)}"
        )
    return list(wanted)


def _linear_leaves(model: Any) -> str:
    """Suffixes of the names of linear layers, without the head."""
    linear = (name for name, module in model.named_modules() if isinstance(module, nn.Linear) and not in_head(name))
    return ", ".join(sorted({name.rsplit(".", 1)[-1] for name in linear})[:NAMES_SHOWN])


def in_head(name: str) -> bool:
    """Whether a module or parameter belongs to the classification head."""
    return bool(set(name.split(".")) & set(HEAD_NAMES))
