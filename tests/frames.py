"""Calls that fail while their frame holds a tensor, as a model does that runs out of memory."""

from __future__ import annotations

import weakref
from typing import NoReturn

import torch


class Spilling:
    """Fails, by an error with a cause, and knows whether the tensors of its frames are still held."""

    def __init__(self) -> None:
        self._tensors: list[weakref.ref[torch.Tensor]] = []
        self.held: list[int] = []
        """At each attempt to free memory, how many tensors could not be freed."""

    def __call__(self, *_: object) -> NoReturn:
        tensor = torch.zeros(3)
        self._tensors.append(weakref.ref(tensor))
        try:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        except RuntimeError as error:
            raise torch.cuda.OutOfMemoryError("no memory") from error

    def recover(self, *_: object) -> None:
        """Stands for what frees memory."""
        self.held.append(sum(tensor() is not None for tensor in self._tensors))
