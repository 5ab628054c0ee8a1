"""The blocks of a transformer: where its depth is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from robustness.sensitivity.probe import Unsupported


def find_blocks(model: Any) -> tuple[str, list[torch.nn.Module]]:
    """Returns the path and the modules of the longest list of like modules, which is a transformer's depth.

    Raises:
        Unsupported: no list of at least one module (a model that shares one block, such as ALBERT, has none to tell
            apart).
    """
    found: tuple[str, list[torch.nn.Module]] = ("", [])
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) > len(found[1]):
            found = (name, list(module))
    if not found[1]:
        raise Unsupported(f"model {type(model).__name__}: no list of blocks to tell its depth by")
    return found


@contextmanager
def recorded_inputs(modules: list[torch.nn.Module]) -> Iterator[list[torch.Tensor]]:
    """Collects the hidden states (batch, tokens, dim) that enter each module in one forward pass."""
    hidden: list[torch.Tensor] = []

    def keep(_module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        hidden.append(arguments[0] if arguments else keywords["hidden_states"])

    hooks = [module.register_forward_pre_hook(keep, with_kwargs=True) for module in modules]
    try:
        yield hidden
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def recorded_output(module: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collects what a module returns, the first of a tuple."""
    hidden: list[torch.Tensor] = []

    def keep(_module: Any, _arguments: Any, output: Any) -> None:
        hidden.append(output[0] if isinstance(output, tuple) else output)

    hook = module.register_forward_hook(keep)
    try:
        yield hidden
    finally:
        hook.remove()
