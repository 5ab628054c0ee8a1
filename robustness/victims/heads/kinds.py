"""Determines from its files how a checkpoint answers: by a head, or by words of a language model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from robustness.errors import CheckpointError
from robustness.tasks.abilities import Ability
from robustness.tasks.task import Task, TaskKind
from robustness.victims.files.checkpoint import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Checkpoint, read_json

LANGUAGE_MODELS = ("ForCausalLM", "LMHeadModel")
"""Suffixes of transformers' names of language models."""
LABEL_MODELS = ("ForSequenceClassification",)

LABEL_HEADS = frozenset({"classifier", "score"})
"""Modules that peft saves whole with an adapter whose task_type is SEQ_CLS."""


@dataclass(frozen=True, slots=True)
class Traits:
    """Properties of one kind of head."""

    automatic_class: str
    """The automatic class of transformers for these models."""
    task_type: str
    """peft's task type of adapters on them."""
    can: frozenset[Ability]
    """Its abilities."""
    answers: str
    """Its answers, in words."""
    sized_by_labels: bool = False
    """Whether the model has an output for each label of its task."""
    reads_prompts: bool = False
    """Whether a text is read within its task's template or chat."""
    trained_plainly: bool = False
    """Whether adapters are trained without a task_type, with the head saved by name.

    peft's own model for it would drop the segment ids, which full fine-tuning uses.
    """
    may_stay_low: bool = False
    """Whether a trained model may be near the floor, because a small model may not learn to reason."""


class HeadKind(StrEnum):
    """The kind of a checkpoint's head."""

    LABELS = "labels"
    """A head for labels."""
    VERBALISERS = "verbalisers"
    """Verbalisers of a language model."""
    SPAN = "span"
    """A head for the starts and ends of answers."""
    TEXT = "text"
    """Responses of a language model."""

    @property
    def traits(self) -> Traits:
        """The kind's properties."""
        return _TRAITS[self]

    def label_settings(self, count: int) -> dict[str, int]:
        """Returns the config that gives a model its number of labels; empty without outputs for labels."""
        return {"num_labels": count} if self.traits.sized_by_labels else {}


_TRAITS = {
    HeadKind.LABELS: Traits(
        "AutoModelForSequenceClassification", "SEQ_CLS", frozenset(Ability), "labels", sized_by_labels=True
    ),
    HeadKind.VERBALISERS: Traits(
        "AutoModelForCausalLM", "CAUSAL_LM", frozenset(Ability), "words after a prompt", reads_prompts=True
    ),
    HeadKind.SPAN: Traits(
        "AutoModelForQuestionAnswering",
        "QUESTION_ANS",
        frozenset(Ability) - {Ability.SCORES},
        "spans of a paragraph",
        trained_plainly=True,
    ),
    HeadKind.TEXT: Traits(
        "AutoModelForCausalLM",
        "CAUSAL_LM",
        frozenset(Ability) - {Ability.SCORES, Ability.LOGITS},
        "responses of a language model",
        reads_prompts=True,
        may_stay_low=True,
    ),
}

_TRAINED = {
    TaskKind.LABELS: HeadKind.LABELS,
    TaskKind.SPAN: HeadKind.SPAN,
    TaskKind.TEXT: HeadKind.TEXT,
}


def trained_kind(task: Task) -> HeadKind:
    """Returns the kind of head for training a base on a task."""
    return _TRAINED[task.kind]


def possible_kinds(task: Task) -> tuple[HeadKind, ...]:
    """Returns the possible kinds of head for a task, before reading a checkpoint's files."""
    return (trained_kind(task), HeadKind.VERBALISERS) if task.verbalisers else (trained_kind(task),)


def head_kind(checkpoint: Checkpoint, task: Task) -> HeadKind:
    """Returns a checkpoint's kind of head for a task, from its files alone."""
    return HeadKind.VERBALISERS if is_prompted(checkpoint, task) else trained_kind(task)


def is_prompted(checkpoint: Checkpoint, task: Task) -> bool:
    """Whether it is a causal language model without a head for labels, which is asked by prompts.

    A full checkpoint's config decides. For an adapter the class recorded by peft decides first, then a head in its
    file, because its task_type may be missing or wrong.
    """
    if not task.verbalisers:
        return False
    if not checkpoint.is_adapter:
        return _architecture(read_json(checkpoint.folder / "config.json")).endswith(LANGUAGE_MODELS)
    config = read_json(checkpoint.folder / ADAPTER_CONFIG)
    noted = config.get("auto_mapping")
    trained_as = str(noted.get("base_model_class")) if isinstance(noted, dict) else ""
    if trained_as.endswith((*LANGUAGE_MODELS, *LABEL_MODELS)):
        return trained_as.endswith(LANGUAGE_MODELS)
    if config.get("task_type") == "SEQ_CLS" or _saves_head(checkpoint):
        return False
    base = _architecture(read_json(checkpoint.base / "config.json"))
    return not base.endswith(LABEL_MODELS) and (
        config.get("task_type") == "CAUSAL_LM" or base.endswith(LANGUAGE_MODELS)
    )


def has_label_head(folder: Path) -> bool:
    """Whether a full checkpoint's model has a head for labels, by its folder."""
    if not (folder / "config.json").is_file():
        return False
    return _architecture(read_json(folder / "config.json")).endswith(LABEL_MODELS)


def is_decoder(config: Any) -> bool:
    """Whether the model of a transformers config reads only from left to right."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    return type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING


def looks_back(model: Any) -> bool:
    """Whether a model's configuration turns an encoder into a left-to-right decoder."""
    return bool(getattr(model.config, "is_decoder", False)) and not is_decoder(model.config)


def task_type_remedy(checkpoint: Checkpoint, kind: HeadKind) -> str:
    """The remedy for a task_type that does not fit an adapter's answers, to append to a reason."""
    given = read_json(checkpoint.folder / ADAPTER_CONFIG).get("task_type")
    wanted = kind.traits.task_type
    if given == wanted:
        return ""
    return f"; its task_type is {given or 'null'}: set it to {wanted} in {checkpoint.folder / ADAPTER_CONFIG}"


def head_remedy(model: Any, missing: Sequence[str]) -> str:
    """The remedy for an adapter's file without its head, to append to a reason.

    Args:
        model: a PeftModel.
        missing: names of parameters missing in all files.
    """
    config = model.active_peft_config
    if not hasattr(config, "modules_to_save"):
        return f"; {config.peft_type.value} saves no head: use a base whose own files hold the trained head"
    prefix = f"{getattr(model.get_base_model(), 'base_model_prefix', '')}."
    modules = sorted({name.removeprefix(prefix).partition(".")[0] for name in missing})
    return f"; train it with modules_to_save={json.dumps(modules)}"


def refuse_other_head(checkpoint: Checkpoint, task: Task, kind: HeadKind) -> None:
    """Raises CheckpointError if an adapter answers by a head and its full partner by words, or the reverse."""
    if not checkpoint.is_adapter or not task.verbalisers or checkpoint.partner is None:
        return
    if not (checkpoint.partner / "config.json").is_file():
        return
    partner = _architecture(read_json(checkpoint.partner / "config.json"))
    prompted = kind is HeadKind.VERBALISERS
    if not partner.endswith(LANGUAGE_MODELS if not prompted else LABEL_MODELS):
        return
    given = read_json(checkpoint.folder / ADAPTER_CONFIG).get("task_type")
    if prompted:
        raise CheckpointError(
            f"checkpoint {checkpoint.name}: task_type: its partner {checkpoint.partner} is a {partner}, but its own "
            f"{ADAPTER_CONFIG} says {given} and its file holds no head for labels; train it with task_type SEQ_CLS, "
            "which saves the head"
        )
    raise CheckpointError(
        f"checkpoint {checkpoint.name}: task_type: its partner {checkpoint.partner} is a {partner}, which is asked "
        f"by prompts, but it answers by a head for labels (task_type {given}); pair it with a checkpoint with "
        "such a head, or set task_type to CAUSAL_LM if it was trained on the language model"
    )


def _architecture(config: dict[str, Any]) -> str:
    """The class of a saved model; empty if its config does not name it."""
    architectures = config.get("architectures")
    return str(architectures[0]) if isinstance(architectures, list) and architectures else ""


def _saves_head(checkpoint: Checkpoint) -> bool:
    from safetensors import safe_open

    with safe_open(checkpoint.folder / ADAPTER_WEIGHTS, framework="pt") as tensors:
        return any(LABEL_HEADS & set(name.split(".")) for name in tensors.keys())  # noqa: SIM118  # no mapping
