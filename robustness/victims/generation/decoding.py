"""Greedy decoding in batches: sorts prompts by length, pads on the left, removes finished rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from robustness.victims.generation.caches import holds, select
from robustness.victims.generation.causal import CausalModel, Step, positions_of

BATCH_ROWS = 32
"""Prompts decoded together: see tests/benchmarks/results/generation.json."""


@dataclass(frozen=True, slots=True)
class DecodingLimits:
    """Where a response ends, in addition to the model's own end tokens."""

    max_new_tokens: int
    stop: tuple[str, ...] = ()
    """A response ends before the first of these."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A response."""

    text: str
    """Without special tokens, and cut before the first stop string."""
    tokens: tuple[int, ...]
    """Tokens with the end token, for the later check in one forward pass."""
    cut: bool
    """Whether it was cut at the token limit."""


@dataclass(slots=True)
class _Row:
    """One response during decoding."""

    prompt: Sequence[int]
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    """With stop strings."""
    ended: bool = False


def decode(
    causal: CausalModel,
    prompts: Sequence[Sequence[int]],
    limits: DecodingLimits,
    *,
    begun: Sequence[Sequence[int]] | None = None,
    batch_rows: int = BATCH_ROWS,
) -> list[Decoded]:
    """Returns each prompt's greedy response, in their order.

    In float32 it equals the model's own `generate` for the prompt alone.

    Args:
        causal: the model.
        prompts: their tokens.
        limits: where a response ends.
        begun: known first tokens of each response, which are not decoded again.
        batch_rows: prompts decoded together.
    """
    rows = [_Row(prompt, list(start)) for prompt, start in zip(prompts, begun or [()] * len(prompts), strict=True)]
    for row in rows:
        _settle(row, causal, limits)
    # Longest first: a batch that does not fit fails at once.
    waiting = sorted((row for row in rows if not row.ended), key=lambda row: -len(row.prompt) - len(row.tokens))
    for start in range(0, len(waiting), batch_rows):
        batch = waiting[start : start + batch_rows]
        if causal.can_cache:
            _decode_cached(causal, batch, limits)
        else:
            _decode_repeated(causal, batch, limits)
    return [_finish(row, causal, limits) for row in rows]


def _decode_cached(causal: CausalModel, rows: list[_Row], limits: DecodingLimits) -> None:
    ids, mask = causal.pad([[*row.prompt, *row.tokens] for row in rows], left=True)
    positions = positions_of(mask)
    step = causal.run(ids, mask, keep=1, positions=positions, caching=True)
    if not holds(step.cache, mask.shape[1] + limits.max_new_tokens):
        _decode_repeated(causal, rows, limits)
        return
    places = positions[:, -1:]
    while True:
        chosen = _choose(step, rows, causal, limits)
        kept = [index for index, row in enumerate(rows) if not row.ended]
        if not kept:
            return
        if len(kept) < len(rows):
            rows = [rows[index] for index in kept]
            index = torch.tensor(kept, device=causal.device)
            chosen, places, mask = chosen[index], places[index], mask[index]
            first = int(mask.argmax(dim=1).min())  # padding common to all remaining rows
            mask = mask[:, first:]
            select(step.cache, index, first)
        places = places + 1
        mask = torch.cat([mask, torch.ones_like(chosen)], dim=1)
        step = causal.run(chosen, mask, keep=1, positions=places, cache=step.cache)


def _decode_repeated(causal: CausalModel, rows: list[_Row], limits: DecodingLimits) -> None:
    """Runs whole texts for each token, for models whose cache cannot be cut or take positions."""
    while rows:
        sequences = [[*row.prompt, *row.tokens] for row in rows]
        ids, mask = causal.pad(sequences, left=False)
        shortest = min(map(len, sequences))
        step = causal.run(ids, mask, keep=ids.shape[1] - shortest + 1)
        ends = mask.sum(dim=1) - shortest
        logits = step.logits[torch.arange(len(rows), device=causal.device), ends]
        _choose(Step(logits[:, None], None), rows, causal, limits)
        rows = [row for row in rows if not row.ended]


def _choose(step: Step, rows: Sequence[_Row], causal: CausalModel, limits: DecodingLimits) -> torch.Tensor:
    """Appends the likeliest token of each row, and returns them, shape (rows, 1)."""
    chosen = step.logits[:, -1].argmax(dim=-1, keepdim=True)
    for row, token in zip(rows, chosen[:, 0].tolist(), strict=True):
        row.tokens.append(token)
        _settle(row, causal, limits)
    return chosen


def _settle(row: _Row, causal: CausalModel, limits: DecodingLimits) -> None:
    """Checks whether a response has ended."""
    if not row.tokens:
        row.ended = limits.max_new_tokens == 0
        return
    ended = row.tokens[-1] in causal.ends or len(row.tokens) >= limits.max_new_tokens
    if limits.stop:
        row.text = _read(causal.tokenizer, row.tokens)
        ended = ended or any(stop in row.text for stop in limits.stop)
    row.ended = ended


def _finish(row: _Row, causal: CausalModel, limits: DecodingLimits) -> Decoded:
    text = _read(causal.tokenizer, row.tokens)
    places = [place for place in map(text.find, limits.stop) if place >= 0]
    cut = not places and (not row.tokens or row.tokens[-1] not in causal.ends)
    return Decoded(text[: min(places, default=len(text))], tuple(row.tokens), cut)


def _read(tokenizer: Any, tokens: Sequence[int]) -> str:
    # Cleaning up would take out blanks before commas and brackets.
    return str(tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
