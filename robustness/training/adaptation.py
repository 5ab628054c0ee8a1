"""Makes a base with a head for a task trainable by one method."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from robustness.errors import CheckpointError, first_line
from robustness.tasks.task import Task
from robustness.training.adapters import (
    AdaLoraAdapter,
    Adapter,
    FormAdapter,
    Ia3Adapter,
    LoraAdapter,
    MpcAdapter,
    OftAdapter,
    PromptAdapter,
    RandomProjectionAdapter,
)
from robustness.training.quantised import base_options, settle_base
from robustness.training.targets import in_head, scaled_by_ia3, target_modules
from robustness.tuners.prefixes import name_cache
from robustness.tuners.registration import register_tuners
from robustness.victims.files.models import automatic_class
from robustness.victims.files.pickles import without_pickles
from robustness.victims.files.reasons import loading_reason, refuse_compiled_attention
from robustness.victims.heads.kinds import trained_kind
from robustness.victims.inputs import name_outputs


@dataclass(frozen=True, slots=True)
class Base:
    """The initial model of all checkpoints."""

    folder: Path
    reference: str
    """The base's name in an adapter's config: an absolute folder, or a hub id."""


def adapt(
    base: Base, task: Task, adapter: Adapter | None, steps: int, *, packed_on: torch.device | None = None
) -> Any:
    """Returns a model in which exactly the method's parameters require gradients.

    Parameters missing in the base (at least the head) are drawn from torch's random state, equally for every method.

    Args:
        base: the initial model.
        task: defines the head's labels.
        adapter: None to train every weight.
        steps: number of optimiser steps, for a schedule of ranks.
        packed_on: the device for which a base in 4 bit is prepared; None: a base in full precision. Either lies on
            the CPU.

    Raises:
        CheckpointError: the base cannot be loaded, or lacks the modules that the method trains.
    """
    model, fresh = _load_base(base.folder, task, packed_on)
    if adapter is None:
        return model
    register_tuners()
    from peft import get_peft_model

    traits = trained_kind(task).traits
    config = _peft_config(adapter, model, steps)
    config.task_type = None if traits.trained_plainly else traits.task_type
    _save_fresh_modules(config, adapter, fresh, with_head=traits.trained_plainly)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of transformers to peft
            adapted = get_peft_model(model, config)
    # peft's errors for modules that are missing or cannot be adapted
    except (ValueError, TypeError, NotImplementedError) as error:
        raise CheckpointError(
            f"base {base.folder}: {adapter.peft_type} does not fit it: {first_line(error)}"
        ) from error
    name_cache(adapted)
    # get_peft_model writes the model's path here, which for a hub base is this machine's cache folder.
    config.base_model_name_or_path = base.reference
    return adapted


def _load_base(folder: Path, task: Task, packed_on: torch.device | None = None) -> tuple[Any, Sequence[str]]:
    refuse_compiled_attention("base", folder)
    kind = trained_kind(task)
    names = dict(enumerate(task.labels))
    labels: dict[str, Any] = dict(kind.label_settings(len(names)))
    if labels:
        labels |= {"id2label": names, "label2id": {v: k for k, v in names.items()}}
    automatic = automatic_class(kind)
    try:
        packing = {} if packed_on is None else base_options(folder, automatic, labels)
        with without_pickles():
            model, report = automatic.from_pretrained(
                folder,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                **labels,
                **packing,
            )
    except Exception as error:  # transformers and safetensors raise errors of many classes
        raise CheckpointError(
            f"base {folder}: cannot be loaded: {loading_reason(folder, error)}; expected a folder with config.json "
            "and weights as safetensors"
        ) from error
    if packed_on is not None:
        settle_base(model, packed_on)
    name_outputs(model)
    return model, sorted(report["missing_keys"])


def _peft_config(adapter: Adapter, model: Any, steps: int) -> Any:
    """The peft library's configuration for a method's file."""
    if isinstance(adapter, LoraAdapter):
        return _lora_config(adapter, model)
    if isinstance(adapter, MpcAdapter):
        return _mpc_config(adapter, model)
    if isinstance(adapter, AdaLoraAdapter):
        return _adalora_config(adapter, model, steps)
    if isinstance(adapter, Ia3Adapter):
        return _ia3_config(adapter, model)
    if isinstance(adapter, PromptAdapter):
        return _prompt_config(adapter, model)
    if isinstance(adapter, RandomProjectionAdapter):
        return _projection_config(adapter, model)
    if isinstance(adapter, OftAdapter):
        return _oft_config(adapter, model)
    return _form_config(adapter, model)


def _lora_config(adapter: LoraAdapter, model: Any) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=target_modules(model, adapter.target_modules),
        use_dora=adapter.variant == "dora",
        init_lora_weights="pissa" if adapter.variant == "pissa" else True,
    )


def _mpc_config(adapter: MpcAdapter, model: Any) -> Any:
    from robustness.tuners.mpc import MpcConfig

    return MpcConfig(
        peft_type=adapter.peft_type.upper().replace("-", "_"),
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=target_modules(model, adapter.target_modules),
        mpc_weight=adapter.weight,
    )


def _adalora_config(adapter: AdaLoraAdapter, model: Any, steps: int) -> Any:
    from peft import AdaLoraConfig

    start = int(adapter.start_share * steps)
    final = int(adapter.final_share * steps)
    if start >= steps - final:
        raise CheckpointError(
            f"adalora: of {steps} training steps the first {start} and the last {final} do not change ranks, so none "
            "is ever cut; train longer, or lower start_share and final_share in the method's file"
        )
    return AdaLoraConfig(
        init_r=adapter.initial_rank,
        target_r=adapter.target_rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=target_modules(model, adapter.target_modules),
        tinit=start,
        tfinal=final,
        deltaT=adapter.interval,
        total_step=steps,
        orth_reg_weight=adapter.orthogonality_weight,
    )


def _ia3_config(adapter: Ia3Adapter, model: Any) -> Any:
    from peft import IA3Config

    if isinstance(adapter.target_modules, tuple):
        targets = target_modules(model, adapter.target_modules)
        feedforward = list(adapter.feedforward_modules)
    else:
        targets, feedforward = scaled_by_ia3(model)
    return IA3Config(target_modules=targets, feedforward_modules=feedforward)


def _prompt_config(adapter: PromptAdapter, model: Any) -> Any:
    from peft import PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig

    if adapter.peft_type == "prefix":
        return PrefixTuningConfig(num_virtual_tokens=adapter.virtual_tokens)
    if adapter.peft_type == "prompt":
        return PromptTuningConfig(num_virtual_tokens=adapter.virtual_tokens)
    return PromptEncoderConfig(
        num_virtual_tokens=adapter.virtual_tokens,
        encoder_hidden_size=adapter.encoder_hidden_size or model.config.hidden_size,
    )


def _projection_config(adapter: RandomProjectionAdapter, model: Any) -> Any:
    from peft import RandLoraConfig, VeraConfig

    targets = target_modules(model, adapter.target_modules)
    if adapter.peft_type == "vera":
        return VeraConfig(
            r=adapter.rank,
            target_modules=targets,
            projection_prng_key=adapter.projection_seed,
            vera_dropout=adapter.dropout,
            d_initial=adapter.initial_scale,
        )
    return RandLoraConfig(
        r=adapter.rank,
        randlora_alpha=adapter.alpha,
        target_modules=targets,
        projection_prng_key=adapter.projection_seed,
        randlora_dropout=adapter.dropout,
    )


def _oft_config(adapter: OftAdapter, model: Any) -> Any:
    from peft import OFTConfig

    # The exact Cayley transform: peft's default, a truncated series, gives a matrix that is not quite orthogonal.
    return OFTConfig(
        oft_block_size=adapter.block_size,
        module_dropout=adapter.dropout,
        target_modules=target_modules(model, adapter.target_modules),
        use_cayley_neumann=False,
    )


def _form_config(adapter: FormAdapter, model: Any) -> Any:
    from robustness.tuners.layers import FormConfig

    return FormConfig(
        peft_type=adapter.peft_type.upper().replace("-", "_"),
        target_modules=target_modules(model, adapter.target_modules),
    )


def _save_fresh_modules(config: Any, adapter: Adapter, fresh: Sequence[str], *, with_head: bool) -> None:
    """Saves randomly initialised modules other than the head (DeBERTa's pooler), which would load random again."""
    found = {key.rpartition(".")[0] for key in fresh}
    modules = sorted(module for module in found if with_head or not in_head(module))
    if not isinstance(adapter, PromptAdapter):
        config.modules_to_save = modules
    elif modules:
        raise CheckpointError(
            f"{adapter.peft_type}: the base has no weights for {', '.join(modules)}, which must be trained and "
            "saved, but peft saves only learnt prompts and the head; use another base or another method"
        )
