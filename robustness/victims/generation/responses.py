"""Responses of examples and of what a search makes of them: decoded once, and read along from then on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch

from robustness.victims.generation.causal import CausalModel
from robustness.victims.generation.decoding import Decoded, DecodingLimits, decode
from robustness.victims.generation.reading import Continuation, Reading, read_along
from robustness.victims.generation.sharing import common, read_shared

REMEMBERED = 4_096
"""Examples whose responses are kept to be read along."""


@final
class Responses:
    """What one model says to prompts, and how likely it is to say what is right.

    Under a changed prompt greedy decoding gives a known text again exactly if each token of it is the likeliest when
    it is read along, in one forward pass: so decoding begins at the first token that is not. In float32 that is what
    decoding from the start gives; in lower precisions rounding turns with the batch, and nothing is taken as said.

    Args:
        causal: the model.
        limits: where a response ends.
    """

    def __init__(self, causal: CausalModel, limits: DecodingLimits) -> None:
        self._causal = causal
        self._limits = limits
        self._is_exact = next(causal.model.parameters()).dtype in (torch.float32, torch.float64)
        self._first: dict[str, tuple[int, ...]] = {}
        """By example, the response that is read along."""

    def read(self, examples: Sequence[str], rows: Sequence[Continuation]) -> list[Reading]:
        """Reads along: rows of one example share what they begin with; those that are alone share a batch.

        Args:
            examples: the id of each row's.
            rows: what may follow which prompt.
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
        """Returns the responses to the rows' prompts, and how many tokens of each were decoded.

        Args:
            examples: the id of each row's.
            rows: what was read along.
            agreed: so many first tokens of it are what greedy decoding gives.
        """
        begun = [()] * len(rows) if not self._is_exact else self._begin(examples, rows, agreed)
        responses = decode(self._causal, [row.prompt for row in rows], self._limits, begun=begun)
        return [(each, len(each.tokens) - len(start)) for each, start in zip(responses, begun, strict=True)]

    def _begin(
        self, examples: Sequence[str], rows: Sequence[Continuation], agreed: Sequence[int]
    ) -> list[tuple[int, ...]]:
        """The first tokens of each response, by what was read or, where it tells more, by the example's first one."""
        begun = [self._limit(row.tokens[:count]) for row, count in zip(rows, agreed, strict=True)]
        known = [self._first.get(example, ()) for example in examples]
        # Where both go on alike past the first token that is not said, the other one is not said either.
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
        """As far as decoding would go: to the first end token, or to the limit."""
        end = next((place for place, token in enumerate(tokens, 1) if token in self._causal.ends), len(tokens))
        return tokens[: min(end, self._limits.max_new_tokens)]
