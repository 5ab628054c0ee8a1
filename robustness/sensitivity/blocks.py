"""The blocks of a transformer, which form its depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from robustness.sensitivity.probe import Unsupported
from robustness.victims.heads.embedded_batch import EmbeddedBatch

Blocks = dict[str, torch.nn.Module]
"""Modules by path, from the input to the output."""


def find_stacks(model: Any) -> list[Blocks]:
    """Returns every outermost list of modules: one for an encoder, two for an encoder with a decoder.

    Nested lists (Funnel has one for each length of the text) count as one, in order.

    Raises:
        Unsupported: no list of at least one module.
    """
    lists = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module)
    }
    outermost = {
        path: each for path, each in lists.items() if not any(path.startswith(f"{other}.") for other in lists)
    }
    stacks = [dict(_flat(path, each)) for path, each in outermost.items()]
    if not stacks:
        raise Unsupported(f"model {type(model).__name__}: no list of blocks was found")
    return stacks


def find_blocks(model: Any) -> Blocks:
    """Returns the longest of a model's stacks, its depth; for an encoder with a decoder the encoder's.

    Raises:
        Unsupported: the model has no stack, or several alternating lists (XLM's attentions and feed-forward layers),
            none of which holds the hidden states.
    """
    stacks = find_stacks(model)
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        stacks = [each for each in stacks if _parent(each) == _parent(stacks[0])]  # the encoder comes first
    longest = max(stacks, key=len)
    beside = [each for each in stacks if len(each) == len(longest) and _parent(each) == _parent(longest)]
    if len(beside) > 1:
        raise Unsupported(f"model {type(model).__name__}: its blocks alternate in {len(beside)} module lists")
    return longest


def _parent(blocks: Blocks) -> str:
    return next(iter(blocks)).rpartition(".")[0].rpartition(".")[0]


def _flat(path: str, modules: Any) -> Iterator[tuple[str, torch.nn.Module]]:
    for index, module in enumerate(modules):
        if isinstance(module, torch.nn.ModuleList):
            yield from _flat(f"{path}.{index}", module)
        else:
            yield f"{path}.{index}", module


@contextmanager
def recorded_inputs(modules: Sequence[torch.nn.Module]) -> Iterator[list[torch.Tensor]]:
    """Collects the hidden states (batch, tokens, dim) that enter each module in one forward pass."""
    hidden: list[torch.Tensor] = []

    def keep(_module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        hidden.append(arguments[0] if arguments else keywords.get("hidden_states", next(iter(keywords.values()))))

    hooks = [module.register_forward_pre_hook(keep, with_kwargs=True) for module in modules]
    try:
        yield hidden
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def recorded_output(module: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collects a module's output; if it has several tensors, the first."""
    hidden: list[torch.Tensor] = []

    def keep(_module: Any, _arguments: Any, output: Any) -> None:
        hidden.append(_first(output))

    hook = module.register_forward_hook(keep)
    try:
        yield hidden
    finally:
        hook.remove()


def _first(output: Any) -> torch.Tensor:
    while not isinstance(output, torch.Tensor):
        output = next(iter(output.values())) if isinstance(output, Mapping) else output[0]
    return output


def refuse_other_layouts(batch: EmbeddedBatch, blocks: Sequence[torch.nn.Module], states: Sequence[Any]) -> None:
    """Checks that the inputs of all blocks and the last output have one vector for each text and token.

    Raises:
        Unsupported: they do not, or a block ran more than once.
    """
    if len(states) != len(blocks) + 1 or not are_token_vectors(batch, blocks[0], states):
        raise Unsupported("its blocks do not pass on one vector per token, once per text")


def are_token_vectors(batch: EmbeddedBatch, block: torch.nn.Module, states: Sequence[Any]) -> bool:
    """Returns whether hidden states have shape (batch, tokens, dim), in that order.

    Args:
        batch: the batch of the recorded forward pass.
        block: the block where they were recorded, or before it.
        states: the recorded tensors.
    """
    rows, tokens = batch.attended.shape
    shapes = {tuple(each.shape[:2]) if isinstance(each, torch.Tensor) and each.ndim == 3 else () for each in states}
    if shapes != {(rows, tokens)} or rows != tokens or rows == 1:
        return shapes == {(rows, tokens)}
    return not puts_tokens_first(batch, block)  # as many texts as tokens: the shape does not decide


def puts_tokens_first(batch: EmbeddedBatch, block: torch.nn.Module) -> bool:
    """Returns whether hidden states have shape (tokens, batch, dim), as in XLNet; runs one text alone to see."""
    one = batch.select(torch.tensor([0], device=batch.content.device))
    with torch.no_grad(), recorded_inputs([block]) as alone:
        one.logits(one.embeddings)
    return bool(alone) and alone[0].shape[0] != 1  # SqueezeBERT calls its blocks past their hooks
