"""Refuses configs of far larger models than their files contain, before allocating memory."""

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
"""Settings for the number of repetitions of parts with tensors."""
RANKS = re.compile(r"r|.*_r|.*rank(?:_pattern)?", re.IGNORECASE)
"""Settings of adapters that determine tensor sizes."""
SIZES = re.compile(
    r".*(?:size|dim|width|head|position|embedding|vocab|channel|rank|kernel|window|label|token|length|vector).*"
    r"|r|[dn]_.*|num_.*",
    re.IGNORECASE,
)
UNLIKE_SIZES = re.compile(r".*(?:_id|_ids|seed|prng_key|_step|_steps|max_length|max_seq.*)", re.IGNORECASE)
"""Exceptions: no tensor has this size."""
REPEATED = 512
"""Maximum of layers, or of experts that share one tensor, in a model of few tensors."""
ROOM = 1 << 24
"""Numbers (64 MiB) that any model may have beyond its files: a new head, tables, masks."""
FOLD = 4
"""Maximum ratio of a model's numbers to those in its files."""
ADAPTER_ROOM = 1 << 12
"""The largest size that an adapter of few weights may name."""


def refuse_disproportion(name: str, folder: Path, shapes: Shapes, kind: Any, config: Mapping[str, Any]) -> None:
    """Refuses a model whose config.json asks for far more layers or numbers than its files hold.

    The libraries would first allocate missing and differently sized tensors. So one damaged number could take all
    memory or never end.

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
    """Refuses an adapter whose config has a rank or length beyond its file's tensors; see above."""
    held = sum(map(prod, shapes.values()))
    longest = max((size for shape in shapes.values() for size in shape), default=0)
    where = folder / ADAPTER_CONFIG
    for key, value in _integers(read_json(where)):
        if RANKS.fullmatch(key) and value > longest:
            _refuse(name, where, key, value, f"tensors of at most {longest} rows or columns")
        if (_is_size(key) or COUNTS.fullmatch(key)) and value > max(held, ADAPTER_ROOM):
            _refuse(name, where, key, value, f"{held:,} numbers")


def _integers(content: Any, within: str = "") -> Iterator[tuple[str, int]]:
    """Whole numbers with their setting; within a table such as peft's rank_pattern with the table's name."""
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
    """Numbers in the model's parameters and buffers, without allocating them; None if this fails.

    Quantised weights are packed, several in one number.
    """
    from transformers import AutoConfig

    if read_json(folder / "config.json").get("quantization_config"):
        return None
    try:
        settings = AutoConfig.from_pretrained(folder, trust_remote_code=False, **config)
        with torch.device("meta"):
            model = kind.from_config(settings, trust_remote_code=False)
    except Exception:  # errors of many classes: reading the model next reports them
        return None
    return int(sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers())))


def _refuse(name: str, where: Path, key: str, value: int, held: str) -> None:
    raise CheckpointError(
        f"checkpoint {name}: {where} says {key} = {value}, and the weights' files hold {held}; put back the "
        f"{where.name} that was saved with the weights"
    )
