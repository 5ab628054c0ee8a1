"""Pickles, which can run code when they are opened, and the refusal of any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from robustness.errors import CheckpointError


@contextmanager
def without_pickles() -> Iterator[None]:
    """Has torch.load refuse within the block, whatever path a config leads a library to.

    PEFT itself unpickles, for example, what a multitask prompt's config names as its initial state.
    """

    def refuse(file: object, *_: object, **__: object) -> None:
        raise CheckpointError(f"{file} would be unpickled, which can run code; expected safetensors files alone")

    loaded = torch.load
    torch.load = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.load = loaded
