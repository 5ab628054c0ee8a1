"""Refuses pickles, which can run code when they are opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from robustness.errors import CheckpointError


@contextmanager
def without_pickles() -> Iterator[None]:
    """Makes torch.load refuse every path within the block.

    PEFT, for example, would unpickle the initial state that a multitask prompt's config names.
    """

    def refuse(file: object, *_: object, **__: object) -> None:
        raise CheckpointError(f"{file} would be unpickled, which can run code; expected safetensors files alone")

    loaded = torch.load
    torch.load = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.load = loaded
