"""Models whose weights bitsandbytes holds in 4 bit (QLoRA, arXiv 2305.14314)."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from robustness.errors import CheckpointError, first_line
from robustness.victims.files.checkpoint import is_four_bit, quantisation_of
from robustness.victims.files.tensors import match_names

LIBRARY = "bitsandbytes"
INSTALLATION = "bitsandbytes is not installed: pip install 'peft-robustness[qlora]'"
FULL_INSTEAD = 'take the base in full precision: --base-precision full, or base_precision = "full" in the pairs file'
STORAGE = "bnb_4bit_quant_storage"
COARSE = 0.2
"""Largest error of a number in [-1, 1] in NF4, whose levels are at most 0.31 apart, with a margin for rounding."""


@cache
def find_fault(device: str) -> str | None:
    """Returns why a device computes no 4-bit layer, or None; tests it on a small matrix.

    Args:
        device: as torch spells it, such as cpu or cuda:0.
    """
    try:
        import bitsandbytes
    except ImportError:
        return INSTALLATION
    except Exception as error:  # a build for another machine raises errors of many classes
        return f"bitsandbytes cannot be imported: {type(error).__name__}: {first_line(error)}"
    weight = torch.linspace(-1, 1, 64 * 64, device=device).view(64, 64)
    eye = torch.eye(64, device=device)
    try:
        packed, state = bitsandbytes.functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
        off = float((bitsandbytes.matmul_4bit(eye, packed, quant_state=state) - weight.T).abs().max())
    except Exception as error:  # missing kernels raise errors of many classes
        return f"bitsandbytes has no kernels for {device}: {type(error).__name__}: {first_line(error)}"
    return None if off < COARSE else f"bitsandbytes computes wrongly on {device}, with errors of {off:.2g}"


def refuse_without_kernels(name: str, device: str | torch.device) -> None:
    """Raises CheckpointError if a device computes no 4-bit layer, or bitsandbytes is missing.

    Args:
        name: of the checkpoint.
        device: the device.
    """
    if fault := find_fault(str(device)):
        raise CheckpointError(f"checkpoint {name}: its base is held in 4 bit, and {fault}; or {FULL_INSTEAD}")


def packing_options(
    folder: Path, kind: Any, stored: Iterable[str], config: Mapping[str, Any], device: str = "cpu"
) -> dict[str, Any]:
    """Returns what `from_pretrained` needs for 4-bit weights: NF4, double quantisation, unquantised heads.

    A folder of 4-bit weights is read as it was saved.

    Args:
        folder: of the model.
        kind: transformers' automatic class of the model.
        stored: names of the tensors in its files.
        config: changes to the folder's config.
        device: where the weights go.

    Raises:
        CheckpointError: another library or another width quantised the folder's weights.
    """
    from transformers import BitsAndBytesConfig

    placed = {"device_map": {"": device}}
    if settings := quantisation_of(folder):
        if not is_four_bit(folder):
            raise CheckpointError(
                f"{folder}: its config.json says that {settings.get('quant_method', 'a library')} quantised it, so "
                "it cannot be held in 4 bit; give the unquantised model"
            )
        if settings.get(STORAGE, "uint8") != "uint8":
            raise CheckpointError(
                f"{folder / 'config.json'}: {STORAGE} is {settings[STORAGE]!r}; expected uint8, for a cast of the "
                "model would change packed numbers of another type"
            )
        return placed
    return placed | {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
            llm_int8_skip_modules=_unquantised(folder, kind, stored, config),
        )
    }


def _unquantised(folder: Path, kind: Any, stored: Iterable[str], config: Mapping[str, Any]) -> list[str]:
    """Modules that stay in full precision: heads, and those without weights in the files, which are trained."""
    from transformers import AutoConfig

    settings = AutoConfig.from_pretrained(folder, trust_remote_code=False, **config)
    with torch.device("meta"):
        model = kind.from_config(settings, trust_remote_code=False)
    output = model.get_output_embeddings()
    body = getattr(model, model.base_model_prefix, None)
    names = [name for name, module in model.named_modules() if module is output]
    if body is not None and body is not model:
        names += [name for name, child in model.named_children() if child is not body]
    weights = [name for name, _ in model.named_parameters()]
    known = match_names(weights, stored)
    return sorted({*names, *(name.rpartition(".")[0] for name in weights if name not in known)})


def packed_layers(model: Any) -> list[Any]:
    """Returns the layers of a model whose weights are packed in 4 bit."""
    library: Any = sys.modules.get(LIBRARY)  # without it no layer is
    return [] if library is None else [each for each in model.modules() if isinstance(each, library.nn.Linear4bit)]


def settle_layers(model: Any, dtype: torch.dtype) -> None:
    """Makes 4-bit layers compute in one type, with gradients.

    Otherwise bitsandbytes repacks weights at the first text without gradients, on processors with AVX512-BF16. Its
    kernels for these round products to bfloat16 in every type, and no gradient passes through them, even later.
    """
    for layer in packed_layers(model):
        layer.compute_dtype, layer.compute_type_is_set = dtype, True
        layer.support_avx512bf16_for_cpu = False


def count_numbers(parameter: torch.nn.Parameter) -> int:
    """Returns how many weights a parameter holds; 4-bit weights are two in a byte.

    >>> count_numbers(torch.nn.Parameter(torch.zeros(3, 5)))
    15
    """
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else int(torch.Size(state.shape).numel())
