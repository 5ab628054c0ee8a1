"""A checkpoint to a victim: full folders and PEFT adapters on their base, safetensors only."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from robustness.definitions.tasks import Head, Task
from robustness.errors import CheckpointError, UsageError
from robustness.tuners.prefixes import name_cache
from robustness.tuners.registration import register_tuners
from robustness.victims.answering import AnsweringVictim
from robustness.victims.checkpoint import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    SAFE_FILES,
    Checkpoint,
    check_weights,
    first_line,
    read_json,
)
from robustness.victims.instructions import refuse_missing_instructions
from robustness.victims.kinds import AnyVictim
from robustness.victims.labels import map_labels
from robustness.victims.pickles import without_pickles
from robustness.victims.prompted import PromptedVictim
from robustness.victims.victim import Victim

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

NOT_IN_FILES = ("modules_to_save", "prompt_encoder", "vblora_vector_bank", "unilora_theta_d")
"""Parts of the names of tensors that PEFT calls missing and that no file holds; a missing head is another matter."""

DRAWN_AGAIN = ("base_model.vera_A", "base_model.vera_B")
"""VeRA's random matrices, which older releases of peft save, draw again from their seed, and call unexpected."""

NOT_LINEAR = ("mpc-n",)
"""Methods whose update depends on the input."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a victim lives and in which precision."""

    device: torch.device
    dtype: torch.dtype


def place(device: str = "auto", dtype: str = "float32") -> Placement:
    """Reads the command line's words; raises UsageError for an unknown or absent device or dtype.

    That includes bfloat16 on a processor whose kernels for it would end the process.
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
        refuse_missing_instructions()
    return Placement(torch.device(device), DTYPES[dtype])


@dataclass(frozen=True, slots=True)
class LoadedCheckpoint:
    """A checkpoint's modules, before and after merging."""

    checkpoint: Checkpoint
    unmerged: Any
    """The PeftModel of an adapter; for a full checkpoint the model itself."""
    uninitialised: tuple[str, ...]
    """Parameters that no file supplied: they hold random numbers."""
    tokenizer: Any
    label_columns: tuple[int, ...]
    """Empty where the task has no labels."""
    task: Task
    is_prompted: bool = False
    """Whether it is a causal language model without a head for labels."""

    @property
    def can_merge(self) -> bool:
        """Whether the adapter can be folded into the base weights: learnt prompts and nonlinear updates cannot."""
        if not self.checkpoint.is_adapter or self.checkpoint.adaptation in NOT_LINEAR:
            return False
        return hasattr(self.unmerged.base_model, "merge_and_unload")


def load_checkpoint(checkpoint: Checkpoint, task: Task) -> LoadedCheckpoint:
    """Loads in float32 on the CPU, in evaluation mode.

    Raises:
        CheckpointError: weights that do not fit, a head without names for the task's labels, another base.
    """
    if checkpoint.is_adapter:
        model, uninitialised = _load_adapter(checkpoint, task)
    else:
        model, uninitialised = _load_model(checkpoint, checkpoint.folder, task)
    columns: tuple[int, ...] = ()
    prompted = is_prompted(checkpoint, task)
    if task.head is Head.CLASSIFICATION and not prompted:
        names = _adapter_labels(checkpoint) if checkpoint.is_adapter else dict(model.config.id2label)
        columns = map_labels(task, names, checkpoint.name)
    tokenizer = _load_tokenizer(checkpoint)
    _settle_padding(model, tokenizer, checkpoint)
    return LoadedCheckpoint(checkpoint, model.eval(), uninitialised, tokenizer, columns, task, prompted)


def to_victim(loaded: LoadedCheckpoint, placement: Placement) -> AnyVictim:
    """Merges the adapter where that is possible, in float32, then casts: what is merged is exact."""
    model = loaded.unmerged
    if loaded.can_merge:
        model = model.merge_and_unload()
    return as_victim(loaded, model, placement)


def to_untuned_victim(loaded: LoadedCheckpoint, placement: Placement) -> AnyVictim | None:
    """Returns the base under the checkpoint's own head: every weight that the base's files hold is the base's.

    What they lack, the head, is as it was trained. None where the head cannot be had apart from the rest: learnt
    prompts and updates that are no weights.
    """
    checkpoint, task = loaded.checkpoint, loaded.task
    if checkpoint.is_adapter and not loaded.can_merge:
        return None
    trained = loaded.unmerged.merge_and_unload() if loaded.can_merge else loaded.unmerged
    labels = {"num_labels": trained.config.num_labels} if task.labels else {}
    model, missing = _load_model(checkpoint, checkpoint.base, task, **labels)
    weights, head = model.state_dict(), trained.state_dict()
    for name in missing:
        weights[name].copy_(head[name])
    _settle_padding(model, loaded.tokenizer, checkpoint)
    return as_victim(loaded, model, placement)


def as_victim(loaded: LoadedCheckpoint, model: Any, placement: Placement) -> AnyVictim:
    """Wraps one form of a loaded checkpoint without changing it."""
    model = model.to(device=placement.device, dtype=placement.dtype).eval()
    if loaded.task.head is Head.ANSWERING:
        return AnsweringVictim(model, loaded.tokenizer, segment_ids=not _drops_segment_ids(loaded))
    if loaded.is_prompted:
        return PromptedVictim(model, loaded.tokenizer, loaded.task)
    return Victim(model, loaded.tokenizer, loaded.label_columns)


def _drops_segment_ids(loaded: LoadedCheckpoint) -> bool:
    """PEFT's own model for question answering hands no segment ids on: its adapters were trained without them."""
    if not loaded.checkpoint.is_adapter:
        return False
    return str(read_json(loaded.checkpoint.folder / ADAPTER_CONFIG).get("task_type")) == "QUESTION_ANS"


def digest_weights(folder: Path) -> str:
    """The sha256 over a folder's safetensors files, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def digest_files(*folders: Path) -> str:
    """The sha256 over everything that is loaded from some folders: weights, configs, tokenizers, by name."""
    digest = hashlib.sha256()
    for folder in folders:
        for pattern in SAFE_FILES:
            for file in sorted(folder.glob(pattern)):
                with file.open("rb") as stream:
                    digest.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def digest_victim(checkpoint: Checkpoint, victim: Victim) -> str:
    """Everything that the scores of a text depend on, as 32 hex digits.

    That is the content of the checkpoint's and its base's folders (weights, adapter, labels, tokenizer), the order
    of labels, precision, kind of device, the longest text, and the libraries that compute.
    """
    digest = hashlib.sha256(digest_files(checkpoint.folder, checkpoint.base).encode())
    libraries = [version(name) for name in ("torch", "transformers", "tokenizers", "peft")]
    digest.update(json.dumps([*victim.describe_scoring(), *libraries]).encode())
    return digest.hexdigest()[:32]


def is_prompted(checkpoint: Checkpoint, task: Task) -> bool:
    """A causal language model, by its own config: as such it is asked by prompts."""
    if not task.verbalisers:
        return False
    if checkpoint.is_adapter:
        return str(read_json(checkpoint.folder / ADAPTER_CONFIG).get("task_type")) == "CAUSAL_LM"
    architectures = read_json(checkpoint.folder / "config.json").get("architectures") or [""]
    return str(architectures[0]).endswith(("ForCausalLM", "LMHeadModel"))


def _settle_padding(model: Any, tokenizer: Any, checkpoint: Checkpoint) -> None:
    """A decoder is padded on the right, where no real token looks, and finds its last token by the padding's id."""
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise CheckpointError(
                f"checkpoint {checkpoint.name}: its tokenizer has neither a padding nor an end token, so texts make "
                "no batch; set pad_token in its tokenizer_config.json"
            )
        tokenizer.pad_token = tokenizer.eos_token
    config = model.config
    if config.pad_token_id is None or getattr(config, "is_decoder", False) or _is_decoder(config):
        config.pad_token_id = tokenizer.pad_token_id
        tokenizer.padding_side = "right"


def _is_decoder(config: Any) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    return type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING


def _load_model(checkpoint: Checkpoint, folder: Path, task: Task, **config: Any) -> tuple[Any, tuple[str, ...]]:
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForQuestionAnswering,
        AutoModelForSequenceClassification,
    )

    name = checkpoint.name
    check_weights(name if folder == checkpoint.folder else f"{name}: base", folder)
    kind: Any = AutoModelForQuestionAnswering if task.head is Head.ANSWERING else AutoModelForSequenceClassification
    if is_prompted(checkpoint, task):
        kind, config = AutoModelForCausalLM, {}
    try:
        with _quiet_transformers(), without_pickles():
            model, report = kind.from_pretrained(
                folder,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
                **config,
            )
    except Exception as error:  # transformers and safetensors each raise kinds of their own
        raise CheckpointError(f"checkpoint {name}: {folder} cannot be loaded: {first_line(error)}") from error
    return model, tuple(sorted(report["missing_keys"]))


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silences "some weights were not initialized": every base says so, and the gate says where it matters."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _load_adapter(checkpoint: Checkpoint, task: Task) -> tuple[Any, tuple[str, ...]]:
    from peft import PeftModel

    _refuse_other_base(checkpoint)
    register_tuners()
    labels = {"num_labels": len(task.labels)} if task.labels else {}
    check_weights(checkpoint.name, checkpoint.folder, ADAPTER_WEIGHTS)
    base, missing = _load_model(checkpoint, checkpoint.base, task, **labels)
    try:
        with warnings.catch_warnings(), without_pickles():
            warnings.simplefilter("ignore")  # of missing keys, which are looked at below
            model = PeftModel.from_pretrained(base, checkpoint.folder)
            _forget_rank_pattern(model)
            name_cache(model)
            report = model.load_adapter(checkpoint.folder, model.active_adapter)  # the first drops its report
        supplied = _tensor_names(checkpoint.folder / ADAPTER_WEIGHTS)
    except Exception as error:  # a size mismatch is a RuntimeError, a bad config a TypeError, a bad file others
        reason = first_line(error)
        if isinstance(error, KeyError) and reason.startswith("'base_model."):  # PEFT looks saved modules up by name
            reason = (
                f"head-loaded: its file lacks {reason}, which its config says is saved; save it again with the head"
            )
        raise CheckpointError(
            f"checkpoint {checkpoint.name}: the adapter does not fit the base {checkpoint.base}: {reason}"
        ) from error
    _refuse_misfit(checkpoint, model, report)
    return model, tuple(key for key in missing if not any(f".{stored}".endswith(f".{key}") for stored in supplied))


def _forget_rank_pattern(model: Any) -> None:
    """The first loading has cut AdaLoRA's layers to their ranks; the second would cut what is left."""
    if model.active_peft_config.peft_type == "ADALORA":
        model.active_peft_config.rank_pattern = None


def _refuse_misfit(checkpoint: Checkpoint, model: Any, report: Any) -> None:
    """PEFT itself leaves what is missing at its initial value, and drops what has no place."""
    missing = [key for key in report.missing_keys if not any(part in key for part in NOT_IN_FILES)]
    unexpected = [key for key in report.unexpected_keys if not key.startswith(DRAWN_AGAIN)]
    if model.active_peft_config.is_prompt_learning:
        unexpected = []
    for keys, problem in ((missing, "its file lacks"), (unexpected, "the base has no place for its")):
        if keys:
            raise CheckpointError(
                f"checkpoint {checkpoint.name}: the adapter does not fit the base {checkpoint.base}: {problem} "
                f"{keys[0]} ({len(keys)} such tensors); set the pair's base to the one it was trained on"
            )


def _refuse_other_base(checkpoint: Checkpoint) -> None:
    named = checkpoint.named_base
    if named is None or named == checkpoint.base or digest_weights(named) == digest_weights(checkpoint.base):
        return
    raise CheckpointError(
        f"checkpoint {checkpoint.name}: same-base: the adapter was trained on {named}, the pair's base is "
        f"{checkpoint.base}; set the pair's base to the adapter's, or pair it with a checkpoint of its own base"
    )


def _tensor_names(file: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as tensors:
        return list(tensors.keys())


def _adapter_labels(checkpoint: Checkpoint) -> dict[int, str]:
    """An adapter folder carries its labels in config.json: adapter_config.json has no place for them."""
    own = checkpoint.folder / "config.json"
    if not own.is_file():
        raise CheckpointError(
            f"checkpoint {checkpoint.name}: label-map: {checkpoint.folder} has no config.json, so its labels have "
            "no names; copy the base's config.json there and set id2label in it"
        )
    try:
        return {int(column): str(name) for column, name in read_json(own)["id2label"].items()}
    except (KeyError, ValueError, AttributeError):
        raise CheckpointError(f"checkpoint {checkpoint.name}: label-map: {own} has no id2label") from None


def _load_tokenizer(checkpoint: Checkpoint) -> Any:
    from transformers import AutoTokenizer

    own = (checkpoint.folder / "tokenizer_config.json").is_file()
    folder = checkpoint.folder if own else checkpoint.base
    try:
        return AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
    except Exception as error:  # as for models: each library raises kinds of its own
        raise CheckpointError(
            f"checkpoint {checkpoint.name}: no tokenizer in {folder}: {first_line(error)}"
        ) from error
