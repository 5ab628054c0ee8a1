"""A base in 4 bit, on which an adapter is trained (QLoRA, arXiv 2305.14314)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from robustness.errors import CheckpointError, UsageError
from robustness.victims.files.checkpoint import quantisation_of
from robustness.victims.files.quantised import find_fault, packing_options, settle_layers
from robustness.victims.files.tensors import TensorFolder
from robustness.victims.precision import faster_dtype


def refuse_unready(methods: str, device: torch.device) -> None:
    """Raises UsageError if a device computes no 4-bit layer, or bitsandbytes is missing.

    Args:
        methods: names of the methods that train on a base in 4 bit.
        device: the device.
    """
    if fault := find_fault(str(device)):
        raise UsageError(f"--method {methods}: it trains on a base in 4 bit, and {fault}; or leave it out")


def refuse_quantised(base: Path) -> None:
    """Raises CheckpointError for a base of quantised weights: full fine-tuning changes no packed number."""
    if settings := quantisation_of(base):
        raise CheckpointError(
            f"--base {base}: its config.json says that {settings.get('quant_method', 'a library')} quantised it, and "
            "packed weights cannot be fine-tuned in full; give the unquantised model, which --method qlora holds in "
            "4 bit itself"
        )


def base_options(folder: Path, kind: Any, labels: dict[str, Any]) -> dict[str, Any]:
    """Returns what `from_pretrained` needs for a base in 4 bit.

    It is packed on the CPU, as victims are, and moved afterwards. So it has the codes that are evaluated, and one
    generator draws what the base lacks for every method.

    Args:
        folder: of the base.
        kind: transformers' automatic class of the model.
        labels: changes to the folder's config.
    """
    with TensorFolder(folder) as tensors:
        return packing_options(folder, kind, tuple(tensors), labels)


def compute_dtype(device: torch.device) -> torch.dtype:
    """Returns the type of products with 4-bit weights: bfloat16 on a GPU that has it (as in the paper), else float32.

    A processor is not timed, because two processes might measure otherwise and train other weights.
    """
    return faster_dtype(device) if device.type == "cuda" else torch.float32


def settle_base(model: Any, device: torch.device) -> None:
    """Makes a base's 4-bit layers compute in the type for a device; the rest stays in float32."""
    settle_layers(model, compute_dtype(device))
    # accelerate compares this note of where weights were put with its own spelling of the device.
    vars(model).pop("hf_device_map", None)
    for note in ("quantization_config", "_pre_quantization_dtype"):
        vars(model.config).pop(note, None)  # it would be saved beside the adapter, whose own weights are not packed


def describe_base(device: torch.device) -> dict[str, object]:
    """Returns how a base in 4 bit was held, for the training record."""
    dtype = str(compute_dtype(device)).removeprefix("torch.")
    return {"library": "bitsandbytes", "type": "nf4", "double": True, "compute_dtype": dtype}
