"""Greedy decoding behind a prompt whose word embeddings are others than those of its tokens."""

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
        embeddings: in place of what is looked up for them, shape (len(prompt), dim).
        limits: where a response ends.
        begun: the first tokens of the response, where they are known.
    """
    _ = causal.can_cache  # settled by a trial of other texts, before the lookup is replaced
    with _replaced(causal.model, torch.tensor(prompt, device=embeddings.device), embeddings):
        (response,) = decode(causal, [prompt], limits, begun=[begun])
    return response


@contextmanager
def _replaced(model: Any, prompt: torch.Tensor, embeddings: torch.Tensor) -> Iterator[None]:
    """Wherever a row that begins with the prompt is looked up; a token that is read behind a cache stands alone."""
    is_first = True

    def replace(_module: Any, arguments: tuple[Any, ...], answer: Any) -> Any:
        nonlocal is_first
        looked, count = arguments[0], len(prompt)
        if looked.shape[-1] < count or not (is_first or looked.shape[-1] > 1):
            return answer
        if not torch.equal(looked[0, :count], prompt):
            return answer
        is_first = False
        # A module may return a scale beside what it looks up.
        found = answer[0] if isinstance(answer, tuple) else answer
        given = torch.cat([embeddings[None].to(found.dtype), found[:, count:]], dim=1)
        return (given, *answer[1:]) if isinstance(answer, tuple) else given

    hook = embedding_module(model).register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()
