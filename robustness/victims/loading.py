"""Loads a checkpoint as a victim: full folders and PEFT adapters on their base, safetensors only."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robustness.errors import CheckpointError, RobustnessError, UsageError, first_line
from robustness.tasks.task import Task
from robustness.versions import version_of
from robustness.victims.cpu_features import refuse_missing_cpu_features
from robustness.victims.files.adapters import detach_adapted, load_adapter, unwrap_saved
from robustness.victims.files.bases import check_base
from robustness.victims.files.checkpoint import ADAPTER_CONFIG, SAFE_FILES, Checkpoint, read_json
from robustness.victims.files.models import load_model
from robustness.victims.files.quantised import LIBRARY, find_fault, refuse_without_kernels, settle_layers
from robustness.victims.files.tokenizers import read_tokenizer
from robustness.victims.heads.head import Head
from robustness.victims.heads.kinds import HeadKind, head_kind, refuse_other_head, task_type_remedy
from robustness.victims.heads.labels import Scores
from robustness.victims.heads.registry import HeadOptions, build_head, find_label_columns
from robustness.victims.padding import settle_padding_token, settle_side
from robustness.victims.sharing import SharedBases, plain_tensors

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

MERGE_ROUNDING = 1e-3
"""The largest difference of a logit in float32, merged against unmerged, that is still rounding."""

TRIAL_TOKENS = 16
"""Tokens of the text that compares the merged with the unmerged model."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A victim's device and precision."""

    device: torch.device
    dtype: torch.dtype


def place(device: str = "auto", dtype: str = "float32") -> Placement:
    """Parses the command line's values; raises UsageError for an unknown or absent device or dtype.

    This includes bfloat16 on a processor where its kernels would end the process.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UsageError(f"--device {device}: unknown device; expected auto, cpu, cuda or cuda:N")
    if dtype not in DTYPES:
        raise UsageError(f"--dtype {dtype}: unknown dtype; expected {' or '.join(DTYPES)}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device {device}: this machine has no CUDA device; use --device cpu or auto")
    if device.startswith("cuda:") and int(device.removeprefix("cuda:")) >= torch.cuda.device_count():
        raise UsageError(f"--device {device}: this machine has {torch.cuda.device_count()} CUDA device(s), from 0 on")
    if device == "cpu" and dtype == "bfloat16":
        refuse_missing_cpu_features()
    return Placement(torch.device(device), DTYPES[dtype])


@dataclass(frozen=True, slots=True)
class LoadedCheckpoint:
    """A checkpoint's modules, before its adapter is merged."""

    checkpoint: Checkpoint
    unmerged: Any
    """The PeftModel of an adapter; for a full checkpoint the model itself."""
    uninitialised: tuple[str, ...]
    """Parameters missing in all files: they have random values."""
    tokenizer: Any
    label_columns: tuple[int, ...]
    """Empty if the task has no labels."""
    task: Task
    kind: HeadKind = HeadKind.LABELS
    trial: Scores | None = None
    """Scores of one short text by an unmerged adapter; None for a full checkpoint."""
    padded: bool = True
    """Whether texts of unequal length may share a batch; the tokenizer defines the padding side."""


def load_checkpoint(
    checkpoint: Checkpoint, task: Task, held: Mapping[str, torch.Tensor] | None = None
) -> LoadedCheckpoint:
    """Loads in float32 on the CPU, in evaluation mode.

    Args:
        checkpoint: the checkpoint.
        task: determines its head.
        held: tensors in memory, of which an adapter's base takes each that equals its own.

    Raises:
        CheckpointError: weights do not fit, a head lacks names for the task's labels, or the base is another.
    """
    if checkpoint.is_on_four_bit:
        _refuse_other_library(checkpoint)
    kind = head_kind(checkpoint, task)
    refuse_other_head(checkpoint, task, kind)
    columns = find_label_columns(kind, checkpoint, task)
    if checkpoint.is_adapter:
        check_base(checkpoint)
        model, uninitialised = load_adapter(checkpoint, task, kind, held)
    else:
        # An untrained base has no labels, and transformers would give it two.
        labels: dict[str, Any] = kind.label_settings(len(task.labels))
        whole = load_model(checkpoint, checkpoint.folder, kind, **labels)
        model, uninitialised = whole.model, tuple(sorted(whole.missing))
    tokenizer = _load_tokenizer(checkpoint)
    _settle_vocabulary(model, tokenizer, checkpoint)
    settle_padding_token(model, tokenizer, f"checkpoint {checkpoint.name}")
    loaded = LoadedCheckpoint(checkpoint, model.eval(), uninitialised, tokenizer, columns, task, kind)
    if checkpoint.is_adapter:
        loaded = replace(loaded, trial=_try_first(loaded))
    return replace(loaded, padded=_try_batch(loaded))


def _refuse_other_library(checkpoint: Checkpoint) -> None:
    """Refuses a process, such as a worker, whose bitsandbytes packs or computes otherwise than the run's."""
    here = version_of(LIBRARY)
    if checkpoint.packed_by and checkpoint.packed_by != here and find_fault("cpu") is None:
        raise CheckpointError(
            f"checkpoint {checkpoint.name}: its base is in 4 bit by bitsandbytes {checkpoint.packed_by}, and here is "
            f"{here}; install the same on every machine: numbers depend on it"
        )


def to_victim(loaded: LoadedCheckpoint, placement: Placement, bases: SharedBases | None = None) -> Head:
    """Merges the adapter in float32 if this keeps the outputs, then casts, so that the merge is exact.

    Args:
        loaded: the checkpoint; it is used up.
        placement: device and precision.
        bases: the models of its base that are in use, with which it shares what is equal.
    """
    model = loaded.unmerged if loaded.checkpoint.is_on_four_bit else merge(loaded)
    if model is None:  # what merging has left as it was serves again
        model = load_checkpoint(loaded.checkpoint, loaded.task, plain_tensors(loaded.unmerged)).unmerged
    if bases is not None:
        bases.move(loaded.checkpoint.base, model, placement.device, placement.dtype)
    return as_victim(loaded, model, placement)


def merge(loaded: LoadedCheckpoint) -> Any | None:
    """Merges an adapter into its base's weights and returns the model; None if this is impossible.

    It is possible if peft merges the method and the merged model gives the same output for a trial text. Learnt
    prompts and input-dependent updates are no weights, and one weight may be used in two places. `loaded` is used up
    either way. A base in 4 bit stays apart: merging would round base and adapter together to 16 levels.
    """
    model = loaded.unmerged
    if loaded.trial is None:
        return model
    if loaded.checkpoint.is_on_four_bit:
        return None
    if model.active_peft_config.is_prompt_learning or not hasattr(model.base_model, "merge_and_unload"):
        return None
    try:
        unwrap_saved(model)
        detach_adapted(model)
        merged = model.merge_and_unload()
    except Exception as error:  # methods refuse by errors of many classes, some after merging part of the layers
        logger.info("%s stays unmerged: %s", loaded.checkpoint.name, first_line(error))
        return None
    difference = float(np.abs(_try_out(loaded, merged) - loaded.trial).max())
    if difference > MERGE_ROUNDING:
        logger.info("%s stays unmerged: merging moves a logit by %.2g", loaded.checkpoint.name, difference)
        return None
    return merged


def _try_first(loaded: LoadedCheckpoint) -> Scores:
    """Scores of the trial text; an adapter's own code refuses it here."""
    try:
        return _try_out(loaded, loaded.unmerged)
    except Exception as error:  # peft's wrappers pass inputs that a model does not accept, and fail in many ways
        remedy = task_type_remedy(loaded.checkpoint, loaded.kind)
        raise CheckpointError(
            f"checkpoint {loaded.checkpoint.name}: the adapter cannot be run on a text: {first_line(error)}{remedy}"
        ) from error


def _try_batch(loaded: LoadedCheckpoint) -> bool:
    """Tests two short texts; returns whether texts of unequal length may share a batch."""
    victim = as_victim(loaded, loaded.unmerged, Placement(torch.device("cpu"), torch.float32))
    name = f"checkpoint {loaded.checkpoint.name}"
    try:
        padded = settle_side(victim, loaded.task)
        fault = victim.find_fault()
    except RobustnessError:
        raise
    except Exception as error:  # any error of a model or a tokenizer at a text
        raise CheckpointError(
            f"{name}: it cannot answer a short text: {type(error).__name__}: {first_line(error)}"
        ) from error
    if fault is not None:
        raise CheckpointError(f"{name}: {fault}")
    return padded


def _try_out(loaded: LoadedCheckpoint, model: Any) -> Scores:
    """Scores of one short text of the vocabulary's own words."""
    special = set(loaded.tokenizer.all_special_ids)
    ids = [index for index in range(loaded.tokenizer.vocab_size) if index not in special]  # without added tokens
    text = loaded.tokenizer.decode(ids[:: max(1, len(ids) // TRIAL_TOKENS)][:TRIAL_TOKENS])
    victim = as_victim(loaded, model, Placement(torch.device("cpu"), torch.float32))
    return victim.logits([(text,) * len(loaded.task.fields)])


def to_untuned_victim(
    loaded: LoadedCheckpoint, placement: Placement, bases: SharedBases | None = None
) -> Head | None:
    """Returns the base with the checkpoint's own head: all weights in the base's files are the base's.

    The head, which they lack, is the trained one. None if the head is not separable (learnt prompts, updates that are
    no weights), or if the base lacks tokens of the checkpoint.
    """
    checkpoint = loaded.checkpoint
    trained = _without_adapter(loaded) if checkpoint.is_on_four_bit else merge(loaded)
    if trained is None:
        return None
    labels: dict[str, Any] = loaded.kind.label_settings(trained.config.num_labels)
    bases = bases or SharedBases()
    base = load_model(
        checkpoint,
        checkpoint.base,
        loaded.kind,
        four_bit=checkpoint.is_on_four_bit,
        held=bases.held(checkpoint.base),
        **labels,
    )
    weights, head = base.model.state_dict(), trained.state_dict()
    if any(weights[name].shape != head[name].shape for name in weights):
        return None
    for name in base.missing:
        weights[name].copy_(head[name])
    settle_padding_token(base.model, loaded.tokenizer, f"checkpoint {checkpoint.name}")
    bases.move(checkpoint.base, base.model, placement.device, placement.dtype)
    return as_victim(loaded, base.model, placement)


def _without_adapter(loaded: LoadedCheckpoint) -> Any | None:
    """The model with its trained head and without its adapter, unmerged; None if peft cannot part them."""
    model = loaded.unmerged
    if model.active_peft_config.is_prompt_learning or not hasattr(model.base_model, "unload"):
        return None
    unwrap_saved(model)
    return model.unload()


def as_victim(loaded: LoadedCheckpoint, model: Any, placement: Placement) -> Head:
    """Wraps one form of a loaded checkpoint, without changing it."""
    if loaded.checkpoint.is_on_four_bit:
        refuse_without_kernels(loaded.checkpoint.name, placement.device)
    # Of the class above: transformers' own refuses to cast a model with 4-bit layers, whose other weights are cast.
    model = torch.nn.Module.to(model, device=placement.device, dtype=placement.dtype).eval()
    settle_layers(model, placement.dtype)
    options = HeadOptions(
        loaded.task, loaded.label_columns, segment_ids=not _drops_segment_ids(loaded), padded=loaded.padded
    )
    return build_head(loaded.kind, model, loaded.tokenizer, options)


def _drops_segment_ids(loaded: LoadedCheckpoint) -> bool:
    """PEFT's own model for question answering drops segment ids, so its adapters were trained without them."""
    if not loaded.checkpoint.is_adapter:
        return False
    return str(read_json(loaded.checkpoint.folder / ADAPTER_CONFIG).get("task_type")) == "QUESTION_ANS"


def digest_files(*folders: Path) -> str:
    """The sha256 over all files loaded from some folders: weights, configs, tokenizers, by name."""
    digest = hashlib.sha256()
    for folder in folders:
        for pattern in SAFE_FILES:
            for file in sorted(folder.glob(pattern)):
                with file.open("rb") as stream:
                    name = file.relative_to(folder).as_posix()
                    digest.update(name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def digest_victim(checkpoint: Checkpoint, victim: Head) -> str:
    """A digest of everything that scores of a text depend on, 32 hex digits.

    It covers the content of the checkpoint's and its base's folders (weights, adapter, labels, tokenizer). It also
    covers label order, precision, kind of device, longest text, and versions of the computing libraries.
    """
    digest = hashlib.sha256(digest_files(checkpoint.folder, checkpoint.base).encode())
    libraries = [version_of(name) for name in ("torch", "transformers", "tokenizers", "peft")]
    if checkpoint.is_on_four_bit:
        libraries += [checkpoint.base_precision, version_of(LIBRARY)]
    digest.update(json.dumps([*victim.describe_scoring(), *libraries]).encode())
    return digest.hexdigest()[:32]


def _settle_vocabulary(model: Any, tokenizer: Any, checkpoint: Checkpoint) -> None:
    """Refuses a tokenizer with more tokens than the model; replaces only a surplus padding token."""
    try:
        rows = len(model.get_input_embeddings().weight)
    except (NotImplementedError, AttributeError):  # a model without a table of words
        return
    beyond = [token for token, index in sorted(tokenizer.get_vocab().items(), key=itemgetter(1)) if index >= rows]
    if beyond == [tokenizer.pad_token]:
        tokenizer.pad_token = None
    elif beyond:
        saved = "; save the adapter with save_embedding_layers=True" if checkpoint.is_adapter else ""
        raise CheckpointError(
            f"checkpoint {checkpoint.name}: its tokenizer has {len(beyond)} tokens, from {beyond[0]!r} on, beyond "
            f"the {rows} that the model has embeddings for: they were added and the model was not resized; call "
            f"model.resize_token_embeddings(len(tokenizer)) before training{saved}; or use the base's tokenizer files"
        )


def _load_tokenizer(checkpoint: Checkpoint) -> Any:
    own = (checkpoint.folder / "tokenizer_config.json").is_file()
    folder = checkpoint.folder if own else checkpoint.base
    try:
        return read_tokenizer(folder)
    except Exception as error:  # as for models: each library raises its own errors
        raise CheckpointError(
            f"checkpoint {checkpoint.name}: no tokenizer in {folder}: {first_line(error)}"
        ) from error
