"""Reading along: scores given continuations in one forward pass, without decoding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from robustness.victims.generation.causal import CausalModel

BATCH_TOKENS = 512
"""Batch size for rows without a common prefix."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """Possible tokens after a prompt."""

    prompt: tuple[int, ...]
    """At least one token."""
    tokens: tuple[int, ...]

    @property
    def whole(self) -> tuple[int, ...]:
        """Prompt and tokens."""
        return self.prompt + self.tokens


@dataclass(frozen=True, slots=True)
class Reading:
    """A model's scores of one continuation."""

    loss: float
    """Mean negative log-likelihood per token."""
    agreed: int
    """Number of first tokens that greedy decoding gives; a tie counts as different."""
    margin: float
    """The smallest difference of a token's logit and the best other one; above 0 if greedy decoding gives all."""


EMPTY = Reading(loss=0.0, agreed=0, margin=math.inf)
"""The reading of no tokens."""


def read_along(
    causal: CausalModel, continuations: Sequence[Continuation], *, batch_tokens: int = BATCH_TOKENS
) -> list[Reading]:
    r"""Returns the model's reading of each continuation, in their order.

    The loss is $$-\frac{1}{T} \sum_t \log p(y_t \mid x, y_{<t})$$, and the margin $$\min_t \left( z_{y_t} - \max_{v
    \ne y_t} z_v \right)$$ with logits z at each token's place. Rows are sorted by length and padded on the right,
    which no token attends to.
    """
    readings = [EMPTY] * len(continuations)
    # Longest first, so that memory errors occur at once.
    order = sorted(range(len(continuations)), key=lambda index: -len(continuations[index].whole))
    waiting = [index for index in order if continuations[index].tokens]
    while waiting:
        size = max(1, batch_tokens // len(continuations[waiting[0]].whole))
        batch, waiting = waiting[:size], waiting[size:]
        found = read_batch(causal, [continuations[index] for index in batch])
        for index, reading in zip(batch, found, strict=True):
            readings[index] = reading
    return readings


@torch.inference_mode()
def read_batch(
    causal: CausalModel, rows: Sequence[Continuation], cached: int = 0, cache: Any = None
) -> list[Reading]:
    """Reads rows of one batch.

    Args:
        causal: the model.
        rows: each has at least one token to score.
        cached: number of common first tokens in the cache; fewer than any prompt has.
        cache: has as many rows; it is used up.
    """
    ids, mask = causal.pad([row.whole[cached:-1] for row in rows], left=False)  # nothing follows the last token
    width = ids.shape[1]
    first = min(len(row.prompt) for row in rows) - 1 - cached  # the place that predicts the first token
    options: dict[str, Any] = {}
    if cache is not None:
        places = torch.arange(cached, cached + width, device=causal.device).expand(len(rows), -1)
        options = {"positions": places, "cache": cache}
        mask = torch.cat([mask.new_ones(len(rows), cached), mask], dim=1)
    logits = causal.run(ids, mask, keep=width - first, **options).logits
    wanted, _ = causal.pad([row.whole[cached + 1 :] for row in rows], left=False)
    losses, margins = _compare(logits, wanted[:, first:])
    return [
        _summarise(losses[index, start : start + len(row.tokens)], margins[index, start : start + len(row.tokens)])
        for index, row in enumerate(rows)
        for start in [len(row.prompt) - 1 - cached - first]
    ]


def _compare(logits: torch.Tensor, wanted: torch.Tensor) -> tuple[Any, Any]:
    """Returns -log p of the wanted tokens, and their logits minus the best others, shape (rows, tokens).

    Works in place, because a copy of the logits of a large vocabulary costs as much as a layer.
    """
    places = wanted[:, :, None]
    chosen = logits.gather(2, places)
    others = logits.scatter_(2, places, -math.inf).amax(dim=2, keepdim=True)
    rest = logits.sub_(others).exp_().sum(dim=2)
    margins = (chosen - others)[:, :, 0]
    return (rest.double().log() - margins.double()).exp().log1p().cpu().numpy(), margins.cpu().numpy()


def _summarise(losses: Any, margins: Any) -> Reading:
    missed = (margins <= 0).nonzero()[0]
    return Reading(float(losses.mean()), int(missed[0]) if len(missed) else len(margins), float(margins.min()))
