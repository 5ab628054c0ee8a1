"""Responses to examples and to their candidates: decodes once, then checks in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch

from robustness.victims.generation.causal import CausalModel
from robustness.victims.generation.decoding import Decoded, DecodingLimits, decode
from robustness.victims.generation.reading import Continuation, Reading, read_along
from robustness.victims.generation.sharing import common, read_shared

REMEMBERED = 4_096
"""Number of examples whose responses are kept."""


@final
class Responses:
    """One model's responses to prompts, and its losses of gold texts.

    Under a changed prompt greedy decoding gives a known text again exactly if each of its tokens is the likeliest in
    one forward pass. So decoding begins at the first other token. In float32 this equals decoding from the start. In
    lower precisions rounding depends on the batch, so every response is decoded from the start.

    Args:
        causal: the model.
        limits: where a response ends.
    """

    def __init__(self, causal: CausalModel, limits: DecodingLimits) -> None:
        self._causal = causal
        self._limits = limits
        self._is_exact = next(causal.model.parameters()).dtype in (torch.float32, torch.float64)
        self._first: dict[str, tuple[int, ...]] = {}
        """By example, the response to check."""

    def read(self, examples: Sequence[str], rows: Sequence[Continuation]) -> list[Reading]:
        """Scores continuations: rows of one example share their common prefix; single rows share a batch.

        Args:
            examples: the id of each row's example.
            rows: prompts and possible continuations.
        """
        groups: dict[str, list[int]] = {}
        for index, example in enumerate(examples):
            groups.setdefault(example, []).append(index)
        alone = [indices[0] for indices in groups.values() if len(indices) == 1]
        found = dict(zip(alone, read_along(self._causal, [rows[index] for index in alone]), strict=True))
        for indices in groups.values():
            if len(indices) > 1:
                found |= zip(indices, read_shared(self._causal, [rows[index] for index in indices]), strict=True)
        return [found[index] for index in range(len(rows))]

    def decode(self, examples: Sequence[str], prompts: Sequence[tuple[int, ...]]) -> list[Decoded]:
        """Returns the responses to prompts, decoded from the first token on; an example's first one is kept."""
        responses = decode(self._causal, prompts, self._limits)
        for example, response in zip(examples, responses, strict=True):
            if example not in self._first:
                if len(self._first) >= REMEMBERED:
                    del self._first[next(iter(self._first))]
                self._first[example] = response.tokens
        return responses

    def decode_rest(
        self, examples: Sequence[str], rows: Sequence[Continuation], agreed: Sequence[int]
    ) -> list[tuple[Decoded, int]]:
        """Returns the responses to the rows' prompts, and the number of decoded tokens of each.

        Args:
            examples: the id of each row's example.
            rows: the scored continuations.
            agreed: number of first tokens that greedy decoding gives.
        """
        begun = [()] * len(rows) if not self._is_exact else self._begin(examples, rows, agreed)
        responses = decode(self._causal, [row.prompt for row in rows], self._limits, begun=begun)
        return [(each, len(each.tokens) - len(start)) for each, start in zip(responses, begun, strict=True)]

    def _begin(
        self, examples: Sequence[str], rows: Sequence[Continuation], agreed: Sequence[int]
    ) -> list[tuple[int, ...]]:
        """The known first tokens of each response: from the scored one or, if longer, the first response."""
        begun = [self._limit(row.tokens[:count]) for row, count in zip(rows, agreed, strict=True)]
        known = [self._first.get(example, ()) for example in examples]
        # If both agree beyond the first different token, the other response is different too.
        open_rows = [
            index
            for index, (row, count) in enumerate(zip(rows, agreed, strict=True))
            if count < len(row.tokens) and common(row.tokens, known[index]) <= count
        ]
        others = [Continuation(rows[index].prompt, known[index]) for index in open_rows]
        for index, reading in zip(open_rows, self.read([examples[i] for i in open_rows], others), strict=True):
            begun[index] = max(begun[index], self._limit(known[index][: reading.agreed]), key=len)
        return begun

    def _limit(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """Cut where decoding would end: at the first end token, or at the limit."""
        end = next((place for place, token in enumerate(tokens, 1) if token in self._causal.ends), len(tokens))
        return tokens[: min(end, self._limits.max_new_tokens)]
