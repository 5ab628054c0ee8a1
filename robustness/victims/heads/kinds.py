"""What a checkpoint answers with, told from its files: a head, or the words of a language model."""

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
"""How transformers' names of language models end."""
LABEL_MODELS = ("ForSequenceClassification",)

LABEL_HEADS = frozenset({"classifier", "score"})
"""Modules that peft saves whole with an adapter whose task_type is SEQ_CLS."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What goes with one kind of head."""

    automatic_class: str
    """Of transformers, which makes such models."""
    task_type: str
    """Of peft's adapters on them."""
    can: frozenset[Ability]
    """What it may be asked."""
    answers: str
    """What it gives, in words."""
    sized_by_labels: bool = False
    """Whether the model has an output for each label of its task."""
    reads_prompts: bool = False
    """Whether a text is read within its task's template or chat."""
    trained_plainly: bool = False
    """Whether adapters are trained without a task_type, the head saved by its name.

    peft's own model for it would drop the segment ids, which full fine-tuning is given.
    """
    may_stay_low: bool = False
    """Whether a trained model may be near the floor: to reason may be more than a small one learns."""


class HeadKind(StrEnum):
    """What a checkpoint answers with."""

    LABELS = "labels"
    """A head for labels."""
    VERBALISERS = "verbalisers"
    """The words of a language model."""
    SPAN = "span"
    """A head for the starts and ends of answers."""
    TEXT = "text"
    """What a language model goes on with."""

    @property
    def traits(self) -> Traits:
        """What goes with it."""
        return _TRAITS[self]

    def label_settings(self, count: int) -> dict[str, int]:
        """Returns what makes transformers give a model so many labels; nothing where it has no outputs for them."""
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
        "what a language model goes on with",
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
    """Returns with what head a base is trained for a task."""
    return _TRAINED[task.kind]


def possible_kinds(task: Task) -> tuple[HeadKind, ...]:
    """Returns with what a checkpoint of a task may answer, before any of its files is looked at."""
    return (trained_kind(task), HeadKind.VERBALISERS) if task.verbalisers else (trained_kind(task),)


def head_kind(checkpoint: Checkpoint, task: Task) -> HeadKind:
    """Returns what a checkpoint answers a task with, by its files alone."""
    return HeadKind.VERBALISERS if is_prompted(checkpoint, task) else trained_kind(task)


def abilities_of(checkpoint: Checkpoint, task: Task) -> frozenset[Ability]:
    """Returns what a checkpoint will be able to answer, before anything of it is loaded."""
    return head_kind(checkpoint, task).traits.can


def is_prompted(checkpoint: Checkpoint, task: Task) -> bool:
    """Whether it is a causal language model without a head for labels: as such it is asked by prompts.

    A full checkpoint's config says so. Of an adapter the class that it was trained on is asked first, where peft
    noted it, then whether its file holds a head: its task_type may be missing or another's.
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
    """Whether a full checkpoint's folder says that its model has a head for labels."""
    if not (folder / "config.json").is_file():
        return False
    return _architecture(read_json(folder / "config.json")).endswith(LABEL_MODELS)


def is_decoder(config: Any) -> bool:
    """Whether the model of a transformers config reads from left to right, and no other way."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    return type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING


def looks_back(model: Any) -> bool:
    """Whether a model's configuration lets no token of an encoder see those behind it."""
    return bool(getattr(model.config, "is_decoder", False)) and not is_decoder(model.config)


def task_type_remedy(checkpoint: Checkpoint, kind: HeadKind) -> str:
    """What to set where an adapter's task_type is not that of what it answers, as words that follow a reason."""
    given = read_json(checkpoint.folder / ADAPTER_CONFIG).get("task_type")
    wanted = kind.traits.task_type
    if given == wanted:
        return ""
    return f"; its task_type is {given or 'null'}: set it to {wanted} in {checkpoint.folder / ADAPTER_CONFIG}"


def head_remedy(model: Any, missing: Sequence[str]) -> str:
    """How an adapter is to be trained so that its file holds its head, as words that follow a reason.

    Args:
        model: a PeftModel.
        missing: names of parameters that no file holds.
    """
    config = model.active_peft_config
    if not hasattr(config, "modules_to_save"):
        return f"; {config.peft_type.value} saves no head: use a base whose own files hold the trained head"
    prefix = f"{getattr(model.get_base_model(), 'base_model_prefix', '')}."
    modules = sorted({name.removeprefix(prefix).partition(".")[0] for name in missing})
    return f"; train it with modules_to_save={json.dumps(modules)}"


def refuse_other_head(checkpoint: Checkpoint, task: Task, kind: HeadKind) -> None:
    """Raises CheckpointError where an adapter answers by a head and its full partner by words, or the other way."""
    if not task.verbalisers or checkpoint.partner is None or not (checkpoint.partner / "config.json").is_file():
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
    """The class that a model was saved from; empty where its config does not say."""
    architectures = config.get("architectures")
    return str(architectures[0]) if isinstance(architectures, list) and architectures else ""


def _saves_head(checkpoint: Checkpoint) -> bool:
    from safetensors import safe_open

    with safe_open(checkpoint.folder / ADAPTER_WEIGHTS, framework="pt") as tensors:
        return any(LABEL_HEADS & set(name.split(".")) for name in tensors.keys())  # noqa: SIM118  # no mapping
