"""A base with a head for a task, made trainable by one method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from robustness.definitions.tasks import Head, Task
from robustness.errors import CheckpointError
from robustness.training.methods import LoraAdapter

HEAD_NAMES = ("classifier", "score", "qa_outputs")
"""What the heads of classifiers and of question answering are called; peft saves these by itself."""

QUERY_AND_VALUE = (("query", "value"), ("q_proj", "v_proj"), ("q_lin", "v_lin"), ("query_proj", "value_proj"))
"""Names for bases that peft has no default for."""


@dataclass(frozen=True, slots=True)
class Base:
    """The model that all checkpoints start from."""

    folder: Path
    reference: str
    """What an adapter names as its base: an absolute folder, or a hub id."""


def adapt(base: Base, task: Task, adapter: LoraAdapter | None) -> Any:
    """Returns a model in which exactly what the method trains requires gradients.

    What the base has no weights for, its head at least, is drawn from torch's random state; the draws are the
    same for every method.

    Raises:
        CheckpointError: the base cannot be loaded, or has no query and value projections that are known.
    """
    model, fresh = _load_base(base.folder, task)
    return model if adapter is None else _add_lora(model, adapter, base, fresh, task)


def _load_base(folder: Path, task: Task) -> tuple[Any, Sequence[str]]:
    from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification

    kind: Any = AutoModelForQuestionAnswering
    labels: dict[str, Any] = {}
    if task.head is Head.CLASSIFICATION:
        kind = AutoModelForSequenceClassification
        names = dict(enumerate(task.labels))
        labels = {"num_labels": len(names), "id2label": names, "label2id": {v: k for k, v in names.items()}}
    try:
        model, report = kind.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **labels
        )
    except Exception as error:  # transformers and safetensors each raise kinds of their own
        raise CheckpointError(
            f"base {folder}: cannot be loaded: {error}; expected a folder with config.json and safetensors weights"
        ) from error
    return model, sorted(report["missing_keys"])


def _add_lora(model: Any, adapter: LoraAdapter, base: Base, fresh: Sequence[str], task: Task) -> Any:
    from peft import LoraConfig, TaskType, get_peft_model

    answering = task.head is Head.ANSWERING
    config = LoraConfig(
        # PEFT's own model for question answering would drop the segment ids, which full fine-tuning is given.
        task_type=None if answering else TaskType.SEQ_CLS,
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=_target_modules(model, adapter),
        modules_to_save=_fresh_modules(fresh, with_head=answering),
    )
    adapted = get_peft_model(model, config)
    # get_peft_model has put the model's own path there, which for a hub base is this machine's cache folder.
    config.base_model_name_or_path = base.reference
    return adapted


def _target_modules(model: Any, adapter: LoraAdapter) -> list[str]:
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    if adapter.target_modules != "attention":
        return list(adapter.target_modules)
    kind = model.config.model_type
    if kind in TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING:
        return list(TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING[kind])
    leaves = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    for names in QUERY_AND_VALUE:
        if leaves.issuperset(names):
            return list(names)
    raise CheckpointError(
        f"base of type {kind}: no query and value projections found; expected modules named "
        f"{' or '.join(' and '.join(names) for names in QUERY_AND_VALUE)}; use another base, or name them in "
        "target_modules of the method's file"
    )


def _fresh_modules(fresh: Sequence[str], *, with_head: bool) -> list[str]:
    """Modules beside the head that start random (DeBERTa's pooler): unsaved, they would load random again."""
    modules = {key.rpartition(".")[0] for key in fresh}
    return sorted(module for module in modules if with_head or not set(module.split(".")) & set(HEAD_NAMES))
