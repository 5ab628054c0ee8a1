"""Configs that would make far larger models than their files hold, found before anything of that size is made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch

from robustness.errors import CheckpointError
from robustness.victims.files.checkpoint import ADAPTER_CONFIG, read_json

Shapes = Mapping[str, tuple[int, ...]]

COUNTS = re.compile(r".*(?:layer|block|stage|depth|group|expert)s?", re.IGNORECASE)
"""Settings that say how often something with tensors of its own is repeated."""
RANKS = re.compile(r"r|.*_r|.*rank(?:_pattern)?", re.IGNORECASE)
"""Settings of adapters that are a size of their tensors."""
SIZES = re.compile(
    r".*(?:size|dim|width|head|position|embedding|vocab|channel|rank|kernel|window|label|token|length|vector).*"
    r"|r|[dn]_.*|num_.*",
    re.IGNORECASE,
)
UNLIKE_SIZES = re.compile(r".*(?:_id|_ids|seed|prng_key|_step|_steps|max_length|max_seq.*)", re.IGNORECASE)
"""Of these, what nothing is made in the size of."""
REPEATED = 512
"""Layers, or experts that share one tensor, that a model of few tensors may have."""
ROOM = 1 << 24
"""Numbers, 64 MiB of them, that a model may have beyond its files whatever their size: a new head, tables, masks."""
FOLD = 4
"""How many times as many numbers as in its files a model may have."""
ADAPTER_ROOM = 1 << 12
"""The largest size that an adapter of few weights may name."""


def refuse_disproportion(name: str, folder: Path, shapes: Shapes, kind: Any, config: Mapping[str, Any]) -> None:
    """Refuses a model whose config.json asks for far more layers or numbers than its files hold.

    What they lack, and what they hold in another size, the libraries would make and fill first: a number that is
    damaged in one place takes all memory, or never ends.

    Args:
        name: of the checkpoint.
        folder: of the model.
        shapes: of the tensors in its files.
        kind: transformers' automatic class of the model.
        config: changes to the folder's config.

    Raises:
        CheckpointError: see above.
    """
    held = sum(map(prod, shapes.values()))
    where = folder / "config.json"
    for key, value in _integers(read_json(where)):
        if COUNTS.fullmatch(key) and value > max(len(shapes), REPEATED):
            _refuse(name, where, key, value, f"{len(shapes)} tensors")
        if _is_size(key) and value > max(held, ROOM):
            _refuse(name, where, key, value, f"{held:,} numbers")
    wanted = _count_numbers(folder, kind, config)
    if wanted is not None and wanted > FOLD * held + ROOM:
        raise CheckpointError(
            f"checkpoint {name}: {where} describes a model of {wanted:,} numbers, and the files beside it hold "
            f"{held:,}; put back the config.json that was saved with the weights"
        )


def refuse_disproportionate_adapter(name: str, folder: Path, shapes: Shapes) -> None:
    """Refuses an adapter whose config names a rank or length beyond all that its file holds; see above."""
    held = sum(map(prod, shapes.values()))
    longest = max((size for shape in shapes.values() for size in shape), default=0)
    where = folder / ADAPTER_CONFIG
    for key, value in _integers(read_json(where)):
        if RANKS.fullmatch(key) and value > longest:
            _refuse(name, where, key, value, f"tensors of at most {longest} rows or columns")
        if (_is_size(key) or COUNTS.fullmatch(key)) and value > max(held, ADAPTER_ROOM):
            _refuse(name, where, key, value, f"{held:,} numbers")


def _integers(content: Any, within: str = "") -> Iterator[tuple[str, int]]:
    """Whole numbers with the setting they are in; of a table such as peft's rank_pattern, with the table's name."""
    if isinstance(content, dict):
        for key, value in content.items():
            is_pattern = within.endswith("_pattern")
            yield from _integers(value, within if is_pattern else str(key))
    elif isinstance(content, list):
        for value in content:
            yield from _integers(value, within)
    elif isinstance(content, int | float) and not isinstance(content, bool) and abs(content) < float("inf"):
        yield within, int(content)


def _is_size(key: str) -> bool:
    return bool(SIZES.fullmatch(key)) and not UNLIKE_SIZES.fullmatch(key)


def _count_numbers(folder: Path, kind: Any, config: Mapping[str, Any]) -> int | None:
    """Numbers in the parameters and buffers of the model, of which none is made; None where it cannot be had so.

    Quantised weights are packed, several in one number.
    """
    from transformers import AutoConfig

    if read_json(folder / "config.json").get("quantization_config"):
        return None
    try:
        settings = AutoConfig.from_pretrained(folder, trust_remote_code=False, **config)
        with torch.device("meta"):
            model = kind.from_config(settings, trust_remote_code=False)
    except Exception:  # of many kinds: reading the model itself, which comes next, says which
        return None
    return int(sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers())))


def _refuse(name: str, where: Path, key: str, value: int, held: str) -> None:
    raise CheckpointError(
        f"checkpoint {name}: {where} says {key} = {value}, and the weights' files hold {held}; put back the "
        f"{where.name} that was saved with the weights"
    )
