"""A prompted language model as a differentiable function of its texts' word embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import (
    EmbeddedBatch,
    Forward,
    group_by_length,
    is_open,
    median_token_norm,
)
from robustness.victims.heads.text_gradients import Located
from robustness.victims.lookup import look_up, replaced_lookup

if TYPE_CHECKING:
    from robustness.victims.heads.texts import TextVictim
    from robustness.victims.heads.verbalisers import PromptedVictim


def embed_prompts(victim: PromptedVictim, examples: Sequence[Example]) -> EmbeddedBatch:
    """Encodes examples as one padded batch; its logits are the victim's scores of the labels.

    The content is the unprotected tokens of the attacked segments, without template, special tokens and verbalisers.

    Raises:
        CheckpointError: the tokenizer gives no token places, or the model does not read its embeddings exactly once.
    """
    encoded = [victim.encode_segments(example.texts) for example in examples]
    ids, mask = victim.pad([row for row, _ in encoded])
    content = torch.zeros_like(mask, dtype=torch.bool)
    for row, (example, (_, places)) in enumerate(zip(examples, encoded, strict=True)):
        flags = [place is not None and is_open(example, place) for place in places]
        content[row, : len(flags)] = torch.tensor(flags, dtype=torch.bool, device=content.device)
    with torch.no_grad():
        embeddings = look_up(victim.model, ids)
    labels = torch.tensor([example.label for example in examples], device=victim.device)
    inputs = {"input_ids": ids, "attention_mask": mask}
    return EmbeddedBatch(embeddings, content, labels, median_token_norm(victim), inputs, _forward_of(victim))


def batch_prompts(victim: PromptedVictim, examples: Sequence[Example]) -> list[list[Example]]:
    """Groups examples by the length of their prompts."""
    rows = [victim.encode(example.texts) for example in examples]
    return group_by_length(examples, rows, victim.company, victim.device)


def locate_in_prompts(victim: PromptedVictim | TextVictim, examples: Sequence[Example]) -> list[Located]:
    """Returns the tokens of the attacked segments, with their places in the segments, not in the prompt."""
    found = []
    for example in examples:
        ids, places = victim.encode_segments(example.texts)
        kept = [(token, place) for token, place in zip(ids, places, strict=True) if place is not None]
        kept = [(token, place) for token, place in kept if place[0] in example.attacked]
        tokens = np.array([token for token, _ in kept], dtype=np.int64)
        found.append(Located(tokens, tuple(place for _, place in kept)))
    return found


def _forward_of(victim: PromptedVictim) -> Forward:
    """The prompt once, for the first token of each verbaliser, and again with each verbaliser of several tokens."""

    def forward(embeddings: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        ends = mask.sum(dim=1)[:, None]
        rows = torch.arange(len(ids), device=ids.device)[:, None]

        def log_probabilities(ids: torch.Tensor, mask: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
            added = ids.shape[1] - embeddings.shape[1]
            padded = torch.nn.functional.pad(embeddings, (0, 0, 0, added))
            said = torch.arange(ids.shape[1], device=ids.device) >= ends
            given = {"input_ids": ids, "attention_mask": mask}
            with replaced_lookup(victim.model, given, padded, keep=said):
                logits: torch.Tensor = victim.run(**given).logits[:, -ids.shape[1] :]
            return torch.log_softmax(logits[rows, places].float(), dim=-1)

        first = log_probabilities(ids, mask, ends - 1)[:, 0]
        scores = []
        for verbaliser in victim.verbalisers:
            total = first[:, verbaliser[0]]
            if len(verbaliser) > 1:
                wanted = torch.tensor(verbaliser, device=ids.device)
                steps = torch.arange(len(verbaliser), device=ids.device)
                longer, seen = (torch.nn.functional.pad(each, (0, len(verbaliser))) for each in (ids, mask))
                longer = longer.scatter(1, ends + steps, wanted.expand(len(ids), -1))
                seen = seen.scatter(1, ends + steps, torch.ones_like(ends).expand(-1, len(verbaliser)))
                after = log_probabilities(longer, seen, ends + steps[:-1])
                total = total + after.gather(2, wanted[1:].expand(len(ids), -1)[:, :, None])[:, :, 0].sum(dim=1)
            scores.append(total / len(verbaliser))
        victim.forwards += len(ids)
        return torch.stack(scores, dim=1)

    return forward
