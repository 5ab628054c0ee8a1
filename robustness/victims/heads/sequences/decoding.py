"""Greedy decoding after a prompt with replaced word embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from robustness.victims.generation.causal import CausalModel
from robustness.victims.generation.decoding import Decoded, DecodingLimits, decode
from robustness.victims.lookup import embedding_module


def decode_perturbed(
    causal: CausalModel,
    prompt: tuple[int, ...],
    embeddings: torch.Tensor,
    limits: DecodingLimits,
    begun: Sequence[int] = (),
) -> Decoded:
    """Returns the greedy response to a prompt's other embeddings.

    Args:
        causal: the model.
        prompt: its tokens.
        embeddings: replace the prompt's word embeddings, shape (len(prompt), dim).
        limits: where a response ends.
        begun: known first tokens of the response.
    """
    _ = causal.can_cache  # tested with other texts before the lookup is replaced
    with _replaced(causal.model, torch.tensor(prompt, device=embeddings.device), embeddings):
        (response,) = decode(causal, [prompt], limits, begun=[begun])
    return response


@contextmanager
def _replaced(model: Any, prompt: torch.Tensor, embeddings: torch.Tensor) -> Iterator[None]:
    """Replaces rows that begin with the prompt; a token after a cache is looked up alone."""
    is_first = True

    def replace(_module: Any, arguments: tuple[Any, ...], answer: Any) -> Any:
        nonlocal is_first
        looked, count = arguments[0], len(prompt)
        if looked.shape[-1] < count or not (is_first or looked.shape[-1] > 1):
            return answer
        if not torch.equal(looked[0, :count], prompt):
            return answer
        is_first = False
        # A module may also return a scale.
        found = answer[0] if isinstance(answer, tuple) else answer
        given = torch.cat([embeddings[None].to(found.dtype), found[:, count:]], dim=1)
        return (given, *answer[1:]) if isinstance(answer, tuple) else given

    hook = embedding_module(model).register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()
