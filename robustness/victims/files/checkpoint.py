"""Reads a checkpoint on disk or on the hub without loading weights."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from robustness.definitions.pairs import BasePrecision
from robustness.errors import CheckpointError, first_line, shorten
from robustness.pointers import explain_pointer
from robustness.retrying import with_retries
from robustness.versions import version_of
from robustness.victims.files.selection import recorded_training

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
MODEL_WEIGHTS = "model.safetensors"
HUB_ID = re.compile(r"[\w][\w.\-]*(/[\w][\w.\-]*)?")
SAFE_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "additional_chat_templates/*.jinja"]
"""What is loaded, with the chat templates that transformers 5 writes as files of their own."""
HUB_TIMEOUT = 20
"""Seconds to wait for an answer; HF_HUB_DOWNLOAD_TIMEOUT sets this for the files."""
SHOWN = 3
"""Subfolders that a message names."""
Labels = Sequence[tuple[str, str]]
PICKLED_WEIGHTS = ("pytorch_model.bin", "adapter_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An inspected reference: its kind and its base."""

    name: str
    """As written in the pairs file."""
    folder: Path
    base: Path
    """The pair's base."""
    adaptation: str
    """`full` or the name of the PEFT method."""
    named_base: Path | None = None
    """The base in the adapter's own config; None for a full checkpoint, or if it does not exist."""
    moved_base: str = ""
    """The base's name in an adapter's config, if it does not exist."""
    partner: Path | None = None
    """Folder of its partner, whose config names labels if its own folder does not."""
    labels: tuple[tuple[str, str], ...] = ()
    """Label names in its config, with the task's."""
    base_precision: BasePrecision = BasePrecision.FULL
    """The base under an adapter in this run."""
    trained_precision: BasePrecision | None = None
    """The base in an adapter's training; None: nothing records it."""
    packed_by: str = ""
    """The release of bitsandbytes that the run began with, for a base in 4 bit; workers must have the same."""

    @property
    def is_adapter(self) -> bool:
        """Whether it is an adapter on a base."""
        return self.adaptation != "full"

    @property
    def is_on_four_bit(self) -> bool:
        """Whether it is an adapter on a base in 4 bit, into which it is never merged."""
        return self.base_precision is BasePrecision.FOUR_BIT


def read_checkpoint(
    name: str,
    reference: str,
    base: str,
    partner: str | None = None,
    labels: Labels = (),
    base_precision: BasePrecision | None = None,
) -> Checkpoint:
    """Reads a checkpoint's files; downloads a hub id's files first, without pickles.

    Args:
        name: its name in tables.
        reference: a folder or a hub id.
        base: the pair's base, a folder or a hub id.
        partner: its partner, a folder or a hub id.
        labels: label names in its config, with the task's.
        base_precision: of the base under an adapter; None: as in its training.

    Raises:
        CheckpointError: missing files, pickled weights, an unreadable config, or a missing base.
    """
    folder = locate(reference, f"checkpoint {name}")
    base_folder = locate(base, f"checkpoint {name}: base")
    beside = None if partner is None else locate(partner, f"checkpoint {name}: its partner")
    if (folder / ADAPTER_CONFIG).is_file():
        config = read_json(folder / ADAPTER_CONFIG)
        check_weights(name, folder, ADAPTER_WEIGHTS)
        check_weights(f"{name}: base", base_folder)
        made = replace(_adapter(name, folder, base_folder, config), partner=beside, labels=tuple(labels))
        return _settle_precision(made, base_precision)
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"checkpoint {name}: {folder} has neither config.json nor {ADAPTER_CONFIG}{_hint(folder)}"
        )
    read_json(folder / "config.json")
    check_weights(name, folder)
    return Checkpoint(name, folder, base_folder, "full", partner=beside, labels=tuple(labels))


def read_lone_checkpoint(reference: str) -> Checkpoint:
    """Reads a checkpoint outside pairs; an adapter uses the base that it names.

    Raises:
        CheckpointError: as `read_checkpoint` does, or an adapter that names no base.
    """
    folder = locate(reference, f"checkpoint {reference}")
    if not (folder / ADAPTER_CONFIG).is_file():
        return read_checkpoint(reference, str(folder), str(folder))
    named = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not named:
        where = folder / ADAPTER_CONFIG
        raise CheckpointError(
            f"checkpoint {reference}: {where} names no base; set base_model_name_or_path to its folder"
        )
    return read_checkpoint(reference, str(folder), str(_locate_named_base(reference, folder, str(named))))


def locate(reference: str, what: str) -> Path:
    """Returns the folder of a reference, downloading a hub id's safe files (no pickle, no code).

    Raises:
        CheckpointError: neither a folder nor an available hub id.
    """
    if is_folder(reference):
        return Path(reference).resolve()
    reference = shorten(reference)
    if os.path.exists(reference):  # noqa: PTH110 - as below
        raise CheckpointError(f"{what}: {reference} is a file; expected a folder or a hub id")
    if not HUB_ID.fullmatch(reference):
        raise CheckpointError(f"{what}: no folder {reference}; expected a folder or a hub id (owner/name)")
    from huggingface_hub import snapshot_download

    try:
        return Path(
            with_retries(
                lambda: snapshot_download(reference, allow_patterns=SAFE_FILES, etag_timeout=HUB_TIMEOUT), reference
            )
        )
    except Exception as error:  # the hub library raises a dozen classes, from HTTP to validation
        reason = first_line(error)
        raise CheckpointError(f"{what}: no folder {reference}, and not available from the hub: {reason}") from None


def is_folder(path: str | Path) -> bool:
    """Returns whether it is a folder; pathlib fails for overlong names."""
    return os.path.isdir(path)  # noqa: PTH112


def _adapter(name: str, folder: Path, base: Path, config: dict[str, Any]) -> Checkpoint:
    kind = config.get("peft_type")
    if not isinstance(kind, str):
        raise CheckpointError(f"checkpoint {name}: {folder / ADAPTER_CONFIG} has no peft_type")
    named_base = config.get("base_model_name_or_path")
    if not named_base:
        raise CheckpointError(
            f"checkpoint {name}: {folder / ADAPTER_CONFIG} names no base; set base_model_name_or_path to {base}"
        )
    made = Checkpoint(name, folder, base, name_adaptation(config))
    try:
        return replace(made, named_base=_locate_named_base(name, folder, str(named_base)))
    except CheckpointError:  # it may have moved: known weights are compared
        return replace(made, moved_base=shorten(str(named_base)))


def name_adaptation(config: Mapping[str, Any]) -> str:
    """Returns a PEFT method's name in tables, from its adapter_config.json.

    >>> name_adaptation({"peft_type": "PREFIX_TUNING"}), name_adaptation({"peft_type": "LORA", "use_dora": True})
    ('prefix', 'dora')
    """
    if config.get("use_dora"):
        return "dora"
    if str(config.get("init_lora_weights")).startswith("pissa"):
        return "pissa"
    kind = str(config["peft_type"]).lower()
    return "p-tuning" if kind == "p_tuning" else kind.replace("_tuning", "").replace("_", "-")


def quantisation_of(folder: Path) -> Mapping[str, Any]:
    """Returns how a folder's own weights are quantised, from its config.json; empty if they are not."""
    path = folder / "config.json"
    found = read_json(path).get("quantization_config") if path.is_file() else None
    return found if isinstance(found, dict) else {}


def is_four_bit(folder: Path) -> bool:
    """Whether bitsandbytes packed a folder's own weights in 4 bit."""
    settings = quantisation_of(folder)
    return settings.get("quant_method") == "bitsandbytes" and bool(settings.get("load_in_4bit"))


def _settle_precision(adapter: Checkpoint, asked: BasePrecision | None) -> Checkpoint:
    """The adapter on its base in this run: as asked, or else as in its training.

    Without a record, a packed base shows the training, or else the answer to the question.
    """
    recorded = recorded_training(adapter.folder).get("base_precision")
    trained = next((each for each in BasePrecision if each == recorded), None)
    if trained is None and is_four_bit(adapter.base):
        trained = BasePrecision.FOUR_BIT
    used = asked or trained or BasePrecision.FULL
    is_qlora = (trained or used) is BasePrecision.FOUR_BIT
    name = f"q{adapter.adaptation}" if is_qlora else adapter.adaptation
    packed_by = version_of("bitsandbytes") if used is BasePrecision.FOUR_BIT else ""
    return replace(adapter, adaptation=name, base_precision=used, trained_precision=trained, packed_by=packed_by)


def _locate_named_base(name: str, folder: Path, named_base: str) -> Path:
    beside = folder / named_base
    try:
        return beside.resolve() if is_folder(beside) else locate(named_base, f"checkpoint {name}")
    except CheckpointError as error:
        config = folder / ADAPTER_CONFIG
        raise CheckpointError(
            f"checkpoint {name}: its {ADAPTER_CONFIG} names the base {shorten(named_base)}, which is not there "
            f"({error}); put the base back, or set base_model_name_or_path in {config} to its present folder"
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object; raises CheckpointError for anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} {explain_pointer(path) or f'cannot be read as JSON: {error}'}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object")
    return content


def check_weights(name: str, folder: Path, wanted: str = MODEL_WEIGHTS) -> None:
    """Refuses a folder without safetensors files with readable headers; opens no other file.

    Raises:
        CheckpointError: weights that are missing, pickled, damaged, or elsewhere.
    """
    from safetensors import safe_open

    files = list_weights(name, folder, wanted)
    if wanted == MODEL_WEIGHTS:
        _refuse_detour(name, folder)
    for file in files:
        try:
            with safe_open(folder / file, framework="pt"):
                pass
        except Exception as error:  # safetensors raises errors of its own
            damage = f"cannot be read: {first_line(error)}; copy or save it again"
            reason = explain_pointer(folder / file) or damage
            raise CheckpointError(f"checkpoint {name}: {folder / file} {reason}") from None


def list_weights(name: str, folder: Path, wanted: str) -> list[str]:
    """Returns the names of a folder's safetensors files to load; raises as `check_weights`."""
    index = folder / f"{wanted}.index.json"
    if (folder / wanted).is_file():
        return [wanted]
    if wanted == MODEL_WEIGHTS and index.is_file():  # PEFT ignores an index and would look for a pickle
        return _indexed_files(name, index)
    raise CheckpointError(_why_no_weights(name, folder, wanted))


def _indexed_files(name: str, index: Path) -> list[str]:
    """The files of a sharded model; transformers itself would open any path, even pickles."""
    pieces = read_json(index).get("weight_map")
    if not isinstance(pieces, dict) or not pieces:
        raise CheckpointError(f"checkpoint {name}: {index} has no weight_map")
    files = sorted({str(piece) for piece in pieces.values()})
    for file in files:
        if not file.endswith(".safetensors") or PurePath(file).name != file or "\\" in file:
            raise CheckpointError(
                f"checkpoint {name}: {index} names {shorten(repr(file))}; expected safetensors files beside it and "
                "no path"
            )
        if not os.path.isfile(index.parent / file):  # noqa: PTH113 - as in `is_folder`
            raise CheckpointError(f"checkpoint {name}: {index} names {shorten(file)}, which is not there")
    return files


def _refuse_detour(name: str, folder: Path) -> None:
    """Refuses files that would lead transformers to other weights than those inspected."""
    if (folder / ADAPTER_CONFIG).is_file() and not (folder / ADAPTER_WEIGHTS).is_file():
        raise CheckpointError(
            f"checkpoint {name}: {folder} holds a whole model; remove {folder / ADAPTER_CONFIG}, which is left of an "
            "adapter"
        )
    if (folder / ADAPTER_CONFIG).is_file():
        raise CheckpointError(
            f"checkpoint {name}: {folder} is an adapter; expected a model: merge it, or give the adapter's own base"
        )
    if (folder / "config.json").is_file() and read_json(folder / "config.json").get("transformers_weights"):
        raise CheckpointError(
            f"checkpoint {name}: {folder / 'config.json'} has transformers_weights, which names other weights than "
            f"{MODEL_WEIGHTS}; take it out"
        )


def _why_no_weights(name: str, folder: Path, wanted: str) -> str:
    pickled = [file for file in PICKLED_WEIGHTS if (folder / file).is_file()]
    pieces = sorted(file.name for file in folder.glob("adapter_model-*.safetensors"))
    if wanted == ADAPTER_WEIGHTS and _holds_model(folder):
        reason = (
            f"{folder} has no {wanted} but a whole model, as after merging; remove {folder / ADAPTER_CONFIG}, which "
            "is left of the adapter"
        )
    elif wanted == ADAPTER_WEIGHTS and pieces:
        reason = (
            f"{folder} has the adapter in pieces, which peft does not read; join them: {_joining(folder, pieces)}"
        )
    elif pickled:
        reason = (
            f"{folder / pickled[0]} is a pickle, which can run code when it is opened; expected {wanted}. If you "
            f"trust it, convert it: {_conversion(folder, wanted)}"
        )
    else:
        reason = f"{folder} has no {wanted}{_hint(folder)}"
    return f"checkpoint {name}: {reason}"


def _holds_model(folder: Path) -> bool:
    return any((folder / file).is_file() for file in (MODEL_WEIGHTS, f"{MODEL_WEIGHTS}.index.json"))


def _hint(folder: Path) -> str:
    """A hint where the files may be instead, to append to a reason; empty without a hint."""
    if not (folder / ADAPTER_CONFIG).is_file() and (folder / ADAPTER_WEIGHTS).is_file():
        return f", but {ADAPTER_WEIGHTS}; copy the {ADAPTER_CONFIG} that was saved with it there"
    within = [each.parent for each in sorted(folder.glob(f"*/{ADAPTER_CONFIG}"))]
    within += [each.parent for each in sorted(folder.glob("*/config.json")) if _holds_model(each.parent)]
    if not within:
        return ""
    shown = " or ".join(map(str, within[:SHOWN])) + (" or another" if len(within) > SHOWN else "")
    return f"; what is saved lies in its subfolder: give {shown}"


def _conversion(folder: Path, wanted: str) -> str:
    """A shell command that converts all files of a sharded model into one."""
    code = (
        "import sys, torch; from safetensors.torch import save_file; *pieces, out = sys.argv[1:]; "
        "save_file({k: v.contiguous().clone() for piece in pieces "
        "for k, v in torch.load(piece, map_location='cpu', weights_only=True).items()}, out, {'format': 'pt'})"
    )
    pieces = sorted(folder.glob(f"{'adapter' if wanted == ADAPTER_WEIGHTS else 'pytorch'}_model*.bin"))
    return shlex.join(["python", "-c", code, *map(str, pieces), str(folder / wanted)])


def _joining(folder: Path, pieces: Sequence[str]) -> str:
    """A shell command that writes the single file that peft reads."""
    code = (
        "import sys; from safetensors.torch import load_file, save_file; *pieces, out = sys.argv[1:]; "
        "save_file({k: v for piece in pieces for k, v in load_file(piece).items()}, out, {'format': 'pt'})"
    )
    return shlex.join(
        ["python", "-c", code, *(str(folder / piece) for piece in pieces), str(folder / ADAPTER_WEIGHTS)]
    )
