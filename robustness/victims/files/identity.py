"""The identity of a method: an adapter's own configuration, with base, task and training rows."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from robustness.definitions.pairs import BasePrecision
from robustness.tuners.registration import register_tuners
from robustness.victims.files.checkpoint import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    MODEL_WEIGHTS,
    Checkpoint,
    list_weights,
    read_json,
)

TRAINING_RECORD = "training.json"
OTHER_BASE = "base_precision"
"""The setting of an adapter on a base of another precision than in its training."""
EPOCH_FOLDER = re.compile(r"epoch-\d+")
"""The folder of a checkpoint after one epoch; the training record lies beside its parent."""
TRAINING = (
    "method_digest",
    "train_digest",
    "rows_trained",
    "settings",
    "augmented_digest",
    "task_digest",
    "base_files_digest",
    "rows_digest",
)
"""Keys of training.json without seed, chosen rate and epoch, which differ within a method."""

PLACES = ("base_model_name_or_path", "tokenizer_name_or_path", "revision", "peft_version", "auto_mapping")
FROM_BASE = ("token_dim", "num_layers", "num_attention_heads", "num_transformer_submodules")
"""Settings of learnt prompts that peft fills in from the base."""
NOT_SETTINGS = frozenset({*PLACES, *FROM_BASE, "inference_mode"})
SEEDS = re.compile(r".*(?:_|^)(?:seed|prng_key)")
SETS = re.compile(r".*_modules|modules_to_save|target_parameters|layers_to_transform|layers_pattern")
"""Lists in which order and repetition have no meaning."""

LEARNT = {"ADALORA": frozenset({"rank_pattern", "r"})}
"""Values that training writes into the configuration; AdaLoRA also inherits LoRA's unused `r`."""
LEARNT_BY_EVA = frozenset({"rank_pattern", "alpha_pattern"})
"""EVA assigns ranks to layers from the data (arXiv 2410.07170)."""

ALWAYS_SHOWN = ("r", "init_r", "target_r")
NOT_SHOWN = ("peft_type", "task_type")
HEADS = ("classifier", "score", "qa_outputs")
FROZEN = re.compile(
    r"\.(?:p?vera_[AB]|randlora_[AB]|tinylora_[ABP]|unilora_scales_[AB]|frod_V|adamss_newB|delora_w_norm)(?:\.|$)"
    r"|\.(?:glora_[A-E]\.zeros|lora_velora_embed|expert_weights|gaussian_var_prior|base_layer\.weight)$"
    r"|\.(?:modules_to_save|original_module)\."
)
"""Untrained tensors that peft saves: random or fixed matrices (arXiv 2310.11454, 2502.00987), embeddings under an
adapter, and with `bias="all"` duplicates of a saved module's bias."""


@dataclass(frozen=True, slots=True)
class MethodIdentity:
    """The properties shared by all training seeds of a method."""

    digest: str
    """16 hex digits."""
    settings: dict[str, str]
    """The adapter's settings that differ from peft's defaults, and its ranks; empty for a full checkpoint."""
    trainable_parameters: int
    """For a full checkpoint all parameters; for an adapter those in its file, including its head."""


def identify_method(
    checkpoint: Checkpoint, task: str, base_digest: str, made: tuple[str, int | None] | None = None
) -> MethodIdentity:
    """Returns the identity of a checkpoint's method; opens configurations and headers, no weights.

    Args:
        checkpoint: the inspected checkpoint.
        task: the task of the fine-tuning.
        base_digest: of the base's weights.
        made: for a full checkpoint, its changes and the rank of a merged update.

    Raises:
        CheckpointError: a configuration or a training record that is not a JSON object.
    """
    method: object = "full"
    settings: dict[str, str] = {}
    if made is not None and made != ("full", None):
        method = made
        settings = {} if made[1] is None else {"rank": str(made[1])}
    if checkpoint.is_adapter:
        config = read_json(checkpoint.folder / ADAPTER_CONFIG)
        method = own_settings(config) | _precisions(checkpoint)
        settings = shown_settings(config) | _other_base(checkpoint)
    content = json.dumps([method, base_digest, task, _training(checkpoint.folder)], sort_keys=True)
    return MethodIdentity(
        digest=hashlib.sha256(content.encode()).hexdigest()[:16],
        settings=settings,
        trainable_parameters=count_parameters(checkpoint),
    )


def own_settings(config: Mapping[str, Any]) -> dict[str, object]:
    """Returns an adapter's configuration without the defaults of the installed peft.

    Places, versions, seeds and learnt state are omitted, so that a method's seeds have one configuration. A missing
    field, an empty field with an empty default, and a field with the default value are equal.
    """
    kind = str(config["peft_type"])
    defaults = _defaults(kind)
    learnt = LEARNT.get(kind, frozenset())
    if config.get("init_lora_weights") == "eva":
        learnt |= LEARNT_BY_EVA
    kept = {name: value for name, value in _normalised(config).items() if name not in NOT_SETTINGS | learnt}
    return {
        name: value for name, value in kept.items() if name == "peft_type" or not _same(value, defaults.get(name))
    }


def shown_settings(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns an adapter's distinctive settings as text, its ranks first."""
    own = own_settings(config)
    learnt = LEARNT.get(str(config["peft_type"]), frozenset())
    known = _defaults(str(config["peft_type"])) | _normalised(config)
    ranks = {name: known[name] for name in ALWAYS_SHOWN if known.get(name) and name not in learnt}
    extra = own.pop("modules_to_save", [])
    if isinstance(extra, list) and (beside_head := [each for each in extra if each not in HEADS]):
        own["modules_to_save"] = beside_head
    return {name: _as_text(value) for name, value in (ranks | own).items() if name not in NOT_SHOWN}


def _precisions(checkpoint: Checkpoint) -> dict[str, object]:
    """How the base is held in this run and was in training; empty if it never was in 4 bit."""
    used = [str(checkpoint.base_precision), str(checkpoint.trained_precision or checkpoint.base_precision)]
    return {"base_precision": used} if BasePrecision.FOUR_BIT in used else {}


def _other_base(checkpoint: Checkpoint) -> dict[str, str]:
    """The base's precision as a setting of its own, where it is not that of the training."""
    used, trained = checkpoint.base_precision, checkpoint.trained_precision
    return {} if trained in (None, used) else {OTHER_BASE: str(used)}


def count_parameters(checkpoint: Checkpoint) -> int:
    """Returns how many parameters a checkpoint's own files hold, from the headers alone."""
    from safetensors import safe_open

    wanted = ADAPTER_WEIGHTS if checkpoint.is_adapter else MODEL_WEIGHTS
    total = 0
    for file in list_weights(checkpoint.name, checkpoint.folder, wanted):
        with safe_open(checkpoint.folder / file, framework="pt") as stream:
            slices = {name: stream.get_slice(name) for name in stream.keys()}  # noqa: SIM118  # no mapping
            total += sum(
                math.prod(each.get_shape())
                for name, each in slices.items()
                if not FROZEN.search(name) and "F" in each.get_dtype()  # places of weights are whole numbers
            )
    return total


def _training(folder: Path) -> dict[str, object]:
    """A training record's rows and settings; empty without a record."""
    home = folder.parent if EPOCH_FOLDER.fullmatch(folder.name) else folder
    if not (home / TRAINING_RECORD).is_file():
        return {}
    fingerprint = read_json(home / TRAINING_RECORD).get("fingerprint")
    return {name: fingerprint.get(name) for name in TRAINING} if isinstance(fingerprint, dict) else {}


def _defaults(kind: str) -> dict[str, object]:
    """The optional fields' default values for this kind; empty for kinds unknown to peft."""
    register_tuners()
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    model = {str(each.value): config for each, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}.get(kind)
    if model is None:
        return {}
    values: dict[str, object] = {}
    for field in dataclasses.fields(model):
        if field.default is not dataclasses.MISSING:
            values[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            values[field.name] = field.default_factory()
    return _normalised(values)


def _normalised(content: Mapping[str, Any]) -> dict[str, object]:
    """The content in JSON's types, without seeds, and with sorted sets."""
    return {str(name): _plain(str(name), value) for name, value in content.items() if not SEEDS.fullmatch(str(name))}


def _plain(name: str, value: Any) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return _normalised(value)
    if isinstance(value, set | frozenset) or (isinstance(value, list | tuple) and SETS.fullmatch(name)):
        # Sorted by text, because a damaged list may contain unhashable values.
        distinct = {json.dumps(each, sort_keys=True, default=str): each for each in value}
        return sorted(distinct.values(), key=str)
    if isinstance(value, list | tuple):
        return [_plain("", each) for each in value]
    return value


def _same(value: object, default: object) -> bool:
    empty: tuple[object, ...] = (None, "", [], {})
    return value == default or (value in empty and default in empty)


def _as_text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_as_text, value))
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
