"""Puts a PEFT adapter on its base, as peft does."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from robustness.errors import CheckpointError, first_line
from robustness.tasks.task import Task
from robustness.tuners.prefixes import name_cache
from robustness.tuners.registration import register_tuners
from robustness.victims.files.checkpoint import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Checkpoint, check_weights, read_json
from robustness.victims.files.models import load_model, refuse_no_numbers
from robustness.victims.files.pickles import without_pickles
from robustness.victims.files.proportions import refuse_disproportionate_adapter
from robustness.victims.files.reasons import adapter_reason
from robustness.victims.files.tensors import WRAPPERS
from robustness.victims.heads.kinds import HeadKind, task_type_remedy

logger = logging.getLogger(__name__)

ADAPTER = "default"
"""peft's name for an unnamed adapter; names of tensors in files lack it."""

WRITTEN_TWICE = (".modules_to_save.", ".original_module.")
"""With `bias="all"` peft also writes the bias of a saved module under these names, but reads neither."""

DRAWN_AGAIN = ("base_model.vera_A", "base_model.vera_B")
"""VeRA's random matrices: older releases of peft save them, draw them again from the seed, and report them as
unexpected."""

UNSERVED = {
    "LILY": "its router averages over all texts of a batch, so that an answer depends on the other texts",
    "MULTITASK_PROMPT_TUNING": "it wants the number of a task with every text",
    "POLY": "it wants the number of a task with every text",
    "XLORA": "peft omits layers of its router from the file and draws them again",
}
"""Methods of peft whose models give no fixed answer to a text, and why."""

Tensors = dict[str, torch.Tensor]


def load_adapter(
    checkpoint: Checkpoint, task: Task, kind: HeadKind, held: Mapping[str, torch.Tensor] | None = None
) -> tuple[Any, tuple[str, ...]]:
    """Returns the PeftModel and the names of the parameters that neither the base's files nor the adapter's hold.

    Loads as `PeftModel.from_pretrained` does, but also reports missing tensors that peft ignores.

    Args:
        checkpoint: an adapter.
        task: its labels determine a head.
        kind: of its head.
        held: tensors in memory, of which the base takes each that equals its own.

    Raises:
        CheckpointError: another base than in its training, or weights that do not fit its config.
    """
    register_tuners()
    method = str(read_json(checkpoint.folder / ADAPTER_CONFIG).get("peft_type"))
    if method in UNSERVED:
        raise CheckpointError(f"checkpoint {checkpoint.name}: {method} adapters are not served: {UNSERVED[method]}")
    check_weights(checkpoint.name, checkpoint.folder, ADAPTER_WEIGHTS)
    tensors = _read_tensors(checkpoint)
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    refuse_disproportionate_adapter(checkpoint.name, checkpoint.folder, shapes)
    refuse_no_numbers(checkpoint.name, checkpoint.folder / ADAPTER_WEIGHTS, tensors.items())
    labels = kind.label_settings(len(task.labels))
    four_bit = checkpoint.is_on_four_bit
    base = load_model(checkpoint, checkpoint.base, kind, four_bit=four_bit, held=held, **labels)
    _resize_vocabulary(base.model, tensors)
    try:
        with warnings.catch_warnings(), without_pickles():
            warnings.simplefilter("ignore")  # of missing or unknown keys, which are checked here
            model = _adapt(checkpoint, base.model)
            tensors = _settle_names(model, tensors)
            _refuse_misfit(checkpoint, model, task, tensors)
            _place(checkpoint, model, tensors)
    except CheckpointError:
        raise
    except Exception as error:  # a size mismatch is a RuntimeError, a bad config a TypeError, a bad file others
        if number := adapter_reason(checkpoint.folder):
            raise CheckpointError(f"checkpoint {checkpoint.name}: {number}") from error
        remedy = task_type_remedy(checkpoint, kind)
        raise _misfit(checkpoint, f"{first_line(error)}{remedy}") from error
    return model, tuple(
        sorted(key for key in base.missing if not any(f".{stored}".endswith(f".{key}") for stored in tensors))
    )


def detach_values(parameters: Iterable[torch.Tensor]) -> None:
    """Gives parameters values of their own, before they are written where another model may hold them too."""
    for parameter in parameters:
        parameter.data = parameter.data.clone()


def detach_adapted(model: Any) -> None:
    """Gives the layers that an adapter changes values of their own."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            detach_values(module.get_base_layer().parameters())


def unwrap_saved(model: Any) -> None:
    """Replaces wrappers by their fully saved modules before an adapter is merged.

    peft keeps the wrappers (LN tuning), or treats them as layers with a weight, which fails for heads of several
    layers (IA3 on RoBERTa).
    """
    from peft.utils.other import ModulesToSaveWrapper

    for name, module in list(model.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            model.set_submodule(name, module.modules_to_save[module.active_adapter])


def _read_tensors(checkpoint: Checkpoint) -> Tensors:
    from safetensors.torch import load_file

    tensors: Tensors = load_file(checkpoint.folder / ADAPTER_WEIGHTS)
    return tensors


def _resize_vocabulary(base: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    """Adds rows to the base for added tokens, if the adapter's file contains all embeddings."""
    try:
        embedding = base.get_input_embeddings()
    except NotImplementedError:  # a model without a table of words
        return
    path = next((name for name, module in base.named_modules() if module is embedding), "")
    for ending in ("weight", "base_layer.weight"):
        stored = tensors.get(f"base_model.model.{path}.{ending}")
        if stored is not None and len(stored) != len(embedding.weight):
            base.resize_token_embeddings(len(stored), mean_resizing=False)  # every new row is read from the file


def _adapt(checkpoint: Checkpoint, base: Any) -> Any:
    """The steps of `PeftModel.from_pretrained` before its weights; peft itself drops the report of misfits."""
    from peft import PeftConfig, PeftModel
    from peft.auto import MODEL_TYPE_TO_PEFT_MODEL_MAPPING

    config = PeftConfig.from_pretrained(str(checkpoint.folder))
    unknown = {
        key: value
        for key, value in read_json(checkpoint.folder / ADAPTER_CONFIG).items()
        if value and key not in config.to_dict()
    }
    if unknown:
        logger.warning(
            "checkpoint %s: the installed peft does not know %s of its %s and goes without; install the release "
            "that saved it",
            checkpoint.name,
            ", ".join(f"{key} = {value!r}" for key, value in unknown.items()),
            ADAPTER_CONFIG,
        )
    config.inference_mode = True
    model = MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, PeftModel)(base, config, ADAPTER)
    name_cache(model)
    return model


def _settle_names(model: Any, tensors: Tensors) -> Tensors:
    """The tensors under the model's names, without changes by wrappers."""
    wanted = _wanted(model)
    settled = {}
    for name, tensor in tensors.items():
        plain = ".".join(part for part in name.split(".") if not WRAPPERS.search(f"{part}."))
        settled[plain if name not in wanted and plain in wanted else name] = tensor
    return settled


def _wanted(model: Any) -> Tensors:
    """The tensors that peft would save, which the file must contain."""
    from peft import get_peft_model_state_dict

    tensors: Tensors = get_peft_model_state_dict(model, adapter_name=ADAPTER, save_embedding_layers=False)
    return tensors


def _refuse_misfit(checkpoint: Checkpoint, model: Any, task: Task, tensors: Tensors) -> None:
    """Refuses a file that lacks tensors of its config, or has them in other sizes."""
    wanted = _wanted(model)
    missing = _once(wanted.keys() - tensors.keys())
    saved = [key for key in missing if _is_saved_module(model, key)]
    if saved:
        raise _misfit(
            checkpoint,
            f"head-loaded: its file lacks {saved[0]}, which its config says is saved; save it again with the head",
        )
    if missing:
        raise _misfit(checkpoint, f"its file lacks {missing[0]} ({len(missing)} such tensors)", of_two=True)
    if getattr(model.active_peft_config, "rank_pattern", None):
        return  # reading AdaLoRA's weights truncates layers to their ranks
    for key in _once(wanted.keys() & tensors.keys()):
        stored, expected = tuple(tensors[key].shape), tuple(wanted[key].shape)
        if stored == expected:
            continue
        if _is_saved_module(model, key) and task.labels and stored[0] != expected[0] == len(task.labels):
            raise CheckpointError(
                f"checkpoint {checkpoint.name}: label-map: its head {key} has {stored[0]} labels, the task "
                f"{task.name} has {len(task.labels)} ({', '.join(task.labels)})"
            )
        raise _misfit(
            checkpoint, f"{key} has the size {stored} in its file and {expected} by its config", of_two=True
        )


def _is_saved_module(model: Any, key: str) -> bool:
    """Whether a tensor belongs to a module that is saved whole, such as a head."""
    from peft.utils.other import ModulesToSaveWrapper

    return any(
        key.startswith(f"{name}.")
        for name, module in model.named_modules()
        if isinstance(module, ModulesToSaveWrapper)
    )


def _place(checkpoint: Checkpoint, model: Any, tensors: Tensors) -> None:
    from peft import set_peft_model_state_dict

    own = dict(model.named_parameters())
    detach_values(own[name] for name in own.keys() & tensors.keys())  # biases and embeddings are the base's
    report = set_peft_model_state_dict(model, tensors, adapter_name=ADAPTER)
    unplaced = [key for key in _once(report.unexpected_keys) if not key.startswith(DRAWN_AGAIN)]
    if model.active_peft_config.is_prompt_learning:  # its own weights are loaded apart, reported as unexpected
        unplaced = [key for key in unplaced if key not in _wanted(model) and not key.startswith("prompt_encoder.")]
    if unplaced:
        raise _misfit(
            checkpoint, f"the base has no place for its {unplaced[0]} ({len(unplaced)} such tensors)", of_two=True
        )


def _once(keys: Iterable[str]) -> list[str]:
    return sorted(key for key in keys if not any(part in key for part in WRITTEN_TWICE))


def _misfit(checkpoint: Checkpoint, reason: str, *, of_two: bool = False) -> CheckpointError:
    remedy = (
        f"; its {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS} are not of one training, or the base has changed since"
        if of_two
        else ""
    )
    return CheckpointError(
        f"checkpoint {checkpoint.name}: the adapter does not fit the base {checkpoint.base}: {reason}{remedy}"
    )
