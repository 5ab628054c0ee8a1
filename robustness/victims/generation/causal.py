"""Runs a causal language model on rows of tokens of unequal length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import torch

from robustness.victims.generation.caches import holds
from robustness.victims.inputs import accepted_inputs
from robustness.victims.precision import rounding_share

TRIAL_TEXTS = "a b c", "a b c d e f g h i j k l"
READING_AHEAD = 1e-3
"""The largest change of a log-probability that is still rounding."""
ROUNDING = 1e-3
"""Largest rounding effect of padding and a cache in float32, relative to the largest logit."""
CACHES = ("cache", "past_key_values")
"""The argument for a cache in transformers 5 and 4."""


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one forward pass."""

    logits: torch.Tensor
    """Logits of the last tokens, shape (rows, kept, vocabulary), float32."""
    cache: Any
    """None without a requested cache or if the model lacks one."""


@final
class CausalModel:
    """Runs a model and counts rows and tokens.

    Args:
        model: gives logits of the next token; its device and precision stay unchanged.
        tokenizer: the model's own; it has a padding token.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.device: torch.device = next(model.parameters()).device
        self.forwards = 0
        """Rows run through the model so far."""
        self.token_forwards = 0
        """Tokens of these rows, without padding."""
        self._accepted = accepted_inputs(model)
        prompts = getattr(model, "active_peft_config", None)
        self._is_prompt_learning = bool(getattr(prompts, "is_prompt_learning", False))

    @cached_property
    def ends(self) -> frozenset[int]:
        """Tokens that end a text, by the tokenizer, the configuration and the generation's configuration."""
        sources = (self.tokenizer, self.model.config, getattr(self.model, "generation_config", None))
        found: set[int] = set()
        for source in sources:
            ids = getattr(source, "eos_token_id", None)
            found |= set(ids if isinstance(ids, list | tuple) else [] if ids is None else [ids])
        return frozenset(found)

    @torch.inference_mode()
    def run(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        *,
        keep: int,
        positions: torch.Tensor | None = None,
        cache: Any = None,
        caching: bool = False,
    ) -> Step:
        """Runs one batch.

        Args:
            ids: new tokens, shape (rows, new).
            mask: 1 for a token and 0 for padding, shape (rows, cached + new).
            keep: the number of last tokens with logits.
            positions: of the new tokens, shape (rows, new); None: consecutive.
            cache: cache of earlier tokens; modified in place.
            caching: whether to return a cache.
        """
        self.forwards += len(ids)
        self.token_forwards += int(mask[:, -ids.shape[1] :].sum())
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "logits_to_keep": keep}
        inputs["use_cache"] = caching or cache is not None
        inputs |= dict.fromkeys(CACHES, cache)
        if positions is not None:
            inputs["cache_position"] = torch.arange(mask.shape[1] - ids.shape[1], mask.shape[1], device=self.device)
        given = {name: value for name, value in inputs.items() if name in self._accepted and value is not None}
        output = self.model(**given)
        # Read only if present, because reading the old name can warn.
        name = next((name for name in CACHES if name in output), None) if inputs["use_cache"] else None
        return Step(output.logits[:, -keep:].float(), None if name is None else output[name])

    def pad(self, rows: Sequence[Sequence[int]], *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns tokens and mask, shape (rows, tokens)."""
        width = max(1, *map(len, rows))
        ids = torch.full((len(rows), width), int(self.tokenizer.pad_token_id))
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            place = slice(width - len(row), width) if left else slice(len(row))
            ids[index, place] = torch.tensor(row, dtype=torch.long)
            mask[index, place] = 1
        return ids.to(self.device), mask.to(self.device)

    def reads_ahead(self, prompt: Sequence[int]) -> bool:
        """Whether what follows a prompt changes the prediction at its end, so that the model is not causal.

        One of two tokens follows the prompt. Both texts have one length, so both round alike in every precision.
        """
        forwards, tokens = self.forwards, self.token_forwards
        first, second = (
            self.run(*self.pad([[*prompt, token]], left=False), keep=2).logits[0, 0].log_softmax(dim=-1)
            for token in (0, 1)
        )
        self.forwards, self.token_forwards = forwards, tokens
        return bool((first - second).abs().max() > READING_AHEAD)

    @cached_property
    def can_cache(self) -> bool:
        """Whether padding before a text and a cache leave answers unchanged, tested with two texts.

        Learnt prompts precede the padding, a running state reads the padding, and some models accept no positions.
        All of these run on whole texts, padded on the right.
        """
        if self._is_prompt_learning or "position_ids" not in self._accepted:
            return False
        forwards, tokens = self.forwards, self.token_forwards
        rows = [list(self.tokenizer(text)["input_ids"]) for text in TRIAL_TEXTS]
        ids, mask = self.pad([row[:-1] for row in rows], left=True)
        first = self.run(ids, mask, keep=1, positions=positions_of(mask), caching=True)
        if not holds(first.cache, max(map(len, rows))):
            return False
        last = torch.tensor([row[-1:] for row in rows], device=self.device)
        mask = torch.cat([mask, torch.ones_like(last)], dim=1)
        second = self.run(last, mask, keep=1, positions=positions_of(mask)[:, -1:], cache=first.cache)
        alone = [self.run(*self.pad([row], left=False), keep=1).logits for row in rows]
        self.forwards, self.token_forwards = forwards, tokens
        plain = torch.cat(alone)
        dtype = next(each.dtype for each in self.model.parameters() if each.is_floating_point())
        rounding = max(ROUNDING, rounding_share(dtype))
        return bool((second.logits - plain).abs().max() <= rounding * plain.abs().max())


def positions_of(mask: torch.Tensor) -> torch.Tensor:
    """Returns each token's position in its row without padding, shape (rows, tokens).

    >>> positions_of(torch.tensor([[0, 0, 1, 1]])).tolist()
    [[0, 0, 0, 1]]
    """
    return (mask.cumsum(dim=1) - 1).clamp(min=0)
