"""Reads a whole model from a folder, in float32 on the CPU."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from robustness.errors import CheckpointError
from robustness.victims.files.checkpoint import MODEL_WEIGHTS, Checkpoint, check_weights, list_weights
from robustness.victims.files.pickles import without_pickles
from robustness.victims.files.proportions import Shapes, refuse_disproportion
from robustness.victims.files.quantised import packing_options, refuse_without_kernels, settle_layers
from robustness.victims.files.reasons import loading_reason, refuse_compiled_attention
from robustness.victims.files.tensors import WRAPPERS, match_names
from robustness.victims.heads.kinds import HeadKind
from robustness.victims.inputs import name_outputs

UNMERGED = re.compile(r"\.(?:base_layer|original_module|modules_to_save|lora_A)\.|^(?:.*\.)?prompt_encoder\.")
"""Parts that peft adds to the tensor names of an adapted model."""
PIECE = 2**16
"""Numbers that are converted at a time to be compared."""
GENERATION_CONFIG = "generation_config.json"

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Whole:
    """A model, and the parameters that its folder lacks."""

    model: Any
    missing: frozenset[str]
    """Parameters missing in the files, or of another size there: they are freshly initialised."""


@dataclass(frozen=True, slots=True)
class _Report:
    """The match between a folder's tensors and the model of its config."""

    missing: frozenset[str]
    unplaced: frozenset[str]
    """Tensors without a place in the model."""
    resized: frozenset[str]
    expected: int
    """Tensors of the model."""


def load_model(
    checkpoint: Checkpoint,
    folder: Path,
    kind: HeadKind,
    *,
    four_bit: bool = False,
    held: Tensors | None = None,
    **config: Any,
) -> Whole:
    """Reads the model of a folder: the checkpoint's own, or its base.

    Restores names that a wrapper had changed. Quantised weights are converted to float32, unless 4 bit are wanted.

    Args:
        checkpoint: the owner of the model or base.
        folder: of the model.
        kind: of its head.
        four_bit: whether to hold the weights in 4 bit.
        held: tensors in memory by name. The model takes each that equals a tensor of the folder.
        config: changes to the folder's config.

    Raises:
        CheckpointError: weights that are missing, unsafe, not numbers, or do not fit the config's model; or nothing
            here computes 4-bit layers.
    """
    name = checkpoint.name if folder == checkpoint.folder else f"{checkpoint.name}: base"
    check_weights(name, folder)
    refuse_compiled_attention(f"checkpoint {name}", folder)
    shapes = _stored_shapes(name, folder)
    _refuse_unmerged(name, folder, shapes)
    renamed = {stored: WRAPPERS.sub("", stored) for stored in shapes}
    automatic = automatic_class(kind)
    refuse_disproportion(name, folder, shapes, automatic, config)
    packing = _packing(name, folder, automatic, renamed, config) if four_bit else None
    held = {} if four_bit else held or {}
    is_renamed = any(stored != plain for stored, plain in renamed.items())
    tensors = read_tensors(name, folder, renamed, held) if is_renamed or held else None
    model, report = _read(name, folder, automatic, config, packing, tensors)
    prefix = "" if is_renamed else _needless_prefix(report)
    if prefix:
        renamed = {stored: stored.removeprefix(prefix) for stored in shapes}
        packing = _packing(name, folder, automatic, renamed, config) if four_bit else None
        tensors = read_tensors(name, folder, renamed, held)
        model, report = _read(name, folder, automatic, config, packing, tensors)
    if report.resized and folder == checkpoint.folder:
        _refuse_resized(name, folder, model, {renamed[stored]: shape for stored, shape in shapes.items()}, report)
    refuse_no_numbers(name, folder, model.named_parameters())
    return Whole(model, report.missing | report.resized)


def refuse_no_numbers(name: str, where: Path, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Raises CheckpointError for a weight that is nan or infinite; minus infinity may be a mask."""
    for key, tensor in tensors:
        if not tensor.is_floating_point() or bool(torch.isfinite(tensor.detach().sum())):
            continue  # the sum of finite numbers may overflow, so it is only a first test
        for kind, found in (("NaN", tensor.isnan()), ("infinite", tensor.isposinf())):
            if count := int(found.sum()):
                raise CheckpointError(
                    f"checkpoint {name}: finite: {count} of {tensor.numel()} numbers of {key} in {where} are {kind}: "
                    "its training diverged or the file is damaged; use an earlier checkpoint, or train it again"
                )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silences progress bars and "some weights were not initialized", which the gate reports where it matters."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def automatic_class(kind: HeadKind) -> Any:
    """Returns transformers' automatic class of models with such a head."""
    import transformers

    return getattr(transformers, kind.traits.automatic_class)


def _packing(
    name: str, folder: Path, kind: Any, renamed: Mapping[str, str], config: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The options of 4-bit weights, if this machine computes them."""
    refuse_without_kernels(name, "cpu")
    try:
        return packing_options(folder, kind, renamed.values(), config)
    except CheckpointError as error:
        raise CheckpointError(f"checkpoint {name}: {error}") from None


def _read(
    name: str,
    folder: Path,
    kind: Any,
    config: Mapping[str, Any],
    packing: Mapping[str, Any] | None,
    tensors: Tensors | None = None,
) -> tuple[Any, _Report]:
    """The model of a folder; `tensors`: they take the place of its files'."""
    options: dict[str, Any] = {
        **(packing or {}),
        "dtype": torch.float32,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # the report has them; the error has their sizes
    }
    try:
        with quiet_transformers(), without_pickles(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # missing tensors are drawn, with the same values each time
            if tensors is None:
                model, info = kind.from_pretrained(
                    folder, use_safetensors=True, trust_remote_code=False, **options, **config
                )
            else:
                model, info = _read_given(folder, kind, config, tensors, options)
            if packing is not None:
                settle_layers(model, torch.float32)
            elif getattr(model, "is_quantized", False):
                model = model.dequantize().float()
    except Exception as error:  # transformers and safetensors raise errors of many classes
        reason = loading_reason(folder, error)
        raise CheckpointError(f"checkpoint {name}: {folder} cannot be loaded: {reason}") from error
    name_outputs(model)
    # For a tensor of another size transformers 4 reports the name, 5 also both sizes.
    resized = frozenset(each if isinstance(each, str) else each[0] for each in info["mismatched_keys"])
    return model, _Report(
        frozenset(info["missing_keys"]), frozenset(info["unexpected_keys"]), resized, len(model.state_dict())
    )


def _read_given(
    folder: Path, kind: Any, config: Mapping[str, Any], tensors: Tensors, options: Any
) -> tuple[Any, Any]:
    """The libraries rename tensors only after they have distinguished a base from a model with a head by names."""
    from transformers import AutoConfig, GenerationConfig

    settings = AutoConfig.from_pretrained(folder, trust_remote_code=False, **config)
    with torch.device("meta"):
        model_class = type(kind.from_config(settings, trust_remote_code=False))
    model, info = model_class.from_pretrained(
        None, config=settings, state_dict=dict(tensors), use_safetensors=True, trust_remote_code=False, **options
    )
    if model.can_generate() and (folder / GENERATION_CONFIG).is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model, info


def read_tensors(name: str, folder: Path, renamed: Mapping[str, str], held: Tensors) -> dict[str, torch.Tensor]:
    """Returns a folder's tensors under other names, and those of `held` in place of equal ones.

    Reads one tensor after the other, so that an equal one takes no memory that lasts.
    """
    from safetensors import safe_open

    known = {plain: own for own, plain in match_names(held, renamed.values()).items()}
    tensors: dict[str, torch.Tensor] = {}
    for file in list_weights(name, folder, MODEL_WEIGHTS):
        with safe_open(folder / file, framework="pt") as stored:
            for key in stored.keys():  # noqa: SIM118
                plain, tensor = renamed[key], stored.get_tensor(key)
                own = held[known[plain]] if plain in known else None
                tensors[plain] = tensor if own is None or not equals(own, tensor) else own
    return tensors


def equals(held: torch.Tensor, other: torch.Tensor) -> bool:
    """Returns whether a tensor is another one in its own precision and on its own device, to the last bit."""
    if held.shape != other.shape:
        return False
    rows = max(1, PIECE // max(1, held[:1].numel())) if held.ndim else 1
    pieces = zip(torch.split(held, rows), torch.split(other, rows), strict=True) if held.ndim else [(held, other)]
    return all(torch.equal(one, part.to(device=one.device, dtype=one.dtype)) for one, part in pieces)


def _stored_shapes(name: str, folder: Path) -> Shapes:
    from safetensors import safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    for file in list_weights(name, folder, MODEL_WEIGHTS):
        with safe_open(folder / file, framework="pt") as tensors:
            shapes |= {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
    return shapes


def _needless_prefix(report: _Report) -> str:
    """A surplus prefix of all names in the files, such as Lightning's `model.`; empty without one."""
    tails = {tail for key in report.missing for tail in (key, key.partition(".")[2]) if "." in tail}
    if len(report.missing) <= report.expected / 2:
        return ""
    first = min(report.unplaced, default="")
    for tail in sorted(tails, key=len, reverse=True):  # the shortest prefix first
        prefix = first.removesuffix(tail)
        placed = sum(stored.removeprefix(prefix) in tails for stored in report.unplaced)
        if prefix.endswith(".") and prefix != first and placed > report.expected / 2:
            return prefix
    return ""


def _refuse_unmerged(name: str, folder: Path, shapes: Shapes) -> None:
    adapted = sorted(filter(UNMERGED.search, shapes))
    if adapted:
        raise CheckpointError(
            f"checkpoint {name}: {folder} holds {adapted[0]}: a peft model that was saved with its adapter neither "
            "merged nor apart; save model.merge_and_unload(), or the adapter alone by the save_pretrained of its "
            "PeftModel"
        )


def _refuse_resized(name: str, folder: Path, model: Any, shapes: Shapes, report: _Report) -> None:
    key = min(report.resized)
    wanted = tuple(model.state_dict()[key].shape)
    stored = shapes.get(key) or next(shape for plain, shape in shapes.items() if key.endswith(f".{plain}"))
    raise CheckpointError(
        f"checkpoint {name}: {folder}: {key} has the size {stored} in the file and {wanted} by config.json; put back "
        "the config.json that was saved with the weights"
    )
