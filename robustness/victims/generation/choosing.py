"""Choosing: probabilities of a few continuations after prompts with a common beginning."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from robustness.victims.generation.caches import holds
from robustness.victims.generation.causal import CausalModel
from robustness.victims.generation.reading import Continuation, read_along
from robustness.victims.generation.sharing import Group, share


def score_choices(
    causal: CausalModel, prompts: Sequence[tuple[int, ...]], choices: Sequence[tuple[int, ...]]
) -> torch.Tensor:
    r"""Returns the mean log-probability of each choice's tokens after each prompt, shape (prompts, choices), float32.

    $$\frac{1}{|v|} \sum_k \log p(v_k \mid \mathrm{prompt}, v_{<k})$$

    Args:
        causal: can cache.
        prompts: their tokens; a common beginning is run once, and equal prompts have exactly equal scores.
        choices: their tokens, at least one each.
    """
    places: dict[tuple[int, ...], int] = {}
    rows = [places.setdefault(prompt, len(places)) for prompt in prompts]
    each = list(places)
    longest = max(choices, key=len)
    order: list[int] = []
    parts: list[torch.Tensor] = []
    with torch.inference_mode():
        for group in share(causal, [prompt + longest for prompt in each], [len(prompt) - 1 for prompt in each]):
            parts.append(_score_group(causal, [each[index] for index in group.indices], group, choices))
            order += group.indices
        found = {index: place for place, index in enumerate(order)}
        return torch.cat(parts)[torch.tensor([found[row] for row in rows], device=causal.device)]


def _score_group(
    causal: CausalModel, prompts: Sequence[tuple[int, ...]], group: Group, choices: Sequence[tuple[int, ...]]
) -> torch.Tensor:
    ids, mask = causal.pad([prompt[group.shared :] for prompt in prompts], left=False)
    ends, width, longest = mask.sum(dim=1), ids.shape[1], max(map(len, choices))
    keep = width - int(ends.min()) + 1
    mask = torch.cat([mask.new_ones(len(prompts), group.shared), mask], dim=1)
    places = torch.arange(group.shared, mask.shape[1], device=causal.device).expand(len(prompts), -1)
    step = causal.run(ids, mask, keep=keep, positions=places, cache=group.cache, caching=longest > 1)
    if longest > 1 and not holds(step.cache, mask.shape[1] + longest):
        return _score_apart(causal, prompts, choices)
    each = torch.arange(len(prompts), device=causal.device)
    first = step.logits[each, ends - 1 - (width - keep)].log_softmax(dim=-1)
    scores = []
    for choice in choices:
        total = first[:, choice[0]]
        if len(choice) > 1:
            said, wanted = (
                torch.tensor(tokens, device=causal.device).expand(len(prompts), -1)
                for tokens in (choice[:-1], choice[1:])
            )
            behind = (group.shared + ends)[:, None] + torch.arange(said.shape[1], device=causal.device)
            longer = torch.cat([mask, torch.ones_like(said)], dim=1)
            logits = causal.run(said, longer, keep=said.shape[1], positions=behind, cache=step.cache).logits
            step.cache.crop(-said.shape[1])
            total = total + logits.log_softmax(dim=-1).gather(2, wanted[:, :, None])[:, :, 0].sum(dim=1)
        scores.append(total / len(choice))
    return torch.stack(scores, dim=1)


def _score_apart(
    causal: CausalModel, prompts: Sequence[tuple[int, ...]], choices: Sequence[tuple[int, ...]]
) -> torch.Tensor:
    """Runs whole texts, because a window forgets the common beginning."""
    rows = [Continuation(prompt, choice) for prompt in prompts for choice in choices]
    losses = [reading.loss for reading in read_along(causal, rows)]
    return -torch.tensor(losses, device=causal.device).reshape(len(prompts), len(choices))
