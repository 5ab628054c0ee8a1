"""A classifier as a differentiable function of its texts' word embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from robustness.errors import CheckpointError, UsageError
from robustness.testsets.example import Example, Texts
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
    from robustness.victims.heads.labels import Victim


def embed_texts(victim: Victim, examples: Sequence[Example]) -> EmbeddedBatch:
    """Encodes examples as one padded batch; texts too long for the model are truncated as for scores.

    Raises:
        UsageError: no examples, or they have different numbers of segments.
        CheckpointError: the tokenizer gives no segments of tokens.
    """
    inputs, content = _encode(victim, examples)
    with torch.no_grad():
        embeddings = look_up(victim.model, inputs["input_ids"])
    labels = torch.tensor([example.label for example in examples], device=victim.device)
    return EmbeddedBatch(embeddings, content, labels, median_token_norm(victim), inputs, _forward_of(victim))


def batch_texts(victim: Victim, examples: Sequence[Example]) -> list[list[Example]]:
    """Groups examples by token length, longest first, so that a batch fits the device and pads little."""
    if not examples:
        return []
    rows = _tokenize(victim, [example.texts for example in examples])["input_ids"]
    return group_by_length(examples, rows, victim.company, victim.device)


def locate_texts(victim: Victim, examples: Sequence[Example]) -> list[Located]:
    """Returns the content tokens of each example, truncated as `embed_texts` does, and the protected ones too."""
    if not examples:
        return []
    encoded = _tokenize(victim, [example.texts for example in examples], places=True)
    special = _special_tokens(victim)
    found = []
    for row, example in enumerate(examples):
        kept = [
            (token, (segment, *offset))
            for token, segment, offset in zip(
                encoded["input_ids"][row], encoded.sequence_ids(row), encoded["offset_mapping"][row], strict=True
            )
            if segment in example.attacked and token not in special
        ]
        tokens = np.array([token for token, _ in kept], dtype=np.int64)
        found.append(Located(tokens, tuple(place for _, place in kept)))
    return found


def _tokenize(victim: Victim, texts: Sequence[Texts], *, places: bool = False) -> Any:
    if len({len(text) for text in texts}) != 1:
        raise UsageError("embedding a batch: expected at least one example, all with the same number of segments")
    if not victim.tokenizer.is_fast:
        raise CheckpointError(
            f"tokenizer {type(victim.tokenizer).__name__}: embedding attacks need a fast tokenizer, which knows the "
            "segment of every token; save the checkpoint with a tokenizer.json"
        )
    segments = [list(column) for column in zip(*texts, strict=True)]
    return victim.tokenizer(
        *segments,
        truncation=True,
        max_length=victim.max_tokens,
        padding=False,
        return_attention_mask=False,
        return_offsets_mapping=places,
    )


def _special_tokens(victim: Victim) -> set[int]:
    """Special tokens, without the one for unknown words."""
    return set(victim.tokenizer.all_special_ids) - {victim.tokenizer.unk_token_id}


def _encode(victim: Victim, examples: Sequence[Example]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The model's inputs and the content mask."""
    # Places cost time, and only protected spans need them.
    places = any(example.protected for example in examples)
    encoded = _tokenize(victim, [example.texts for example in examples], places=places)
    special = _special_tokens(victim)
    flags = []
    for row, example in enumerate(examples):
        ids = encoded["input_ids"][row]
        offsets = encoded["offset_mapping"][row] if places else [(0, 0)] * len(ids)
        found = zip(ids, encoded.sequence_ids(row), offsets, strict=True)
        flags.append(
            [
                int(segment is not None and token not in special and is_open(example, (segment, *offset)))
                for token, segment, offset in found
            ]
        )
    columns = {name: encoded[name] for name in encoded if name in victim.accepted}
    inputs = victim.inputs(columns | {"content": flags})
    return inputs, inputs.pop("content").bool()


def _forward_of(victim: Victim) -> Forward:
    """The model's own forward pass with replaced word embeddings."""

    def forward(embeddings: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        with replaced_lookup(victim.model, inputs, embeddings):
            logits: torch.Tensor = victim.model(**inputs).logits
        victim.forwards += len(logits)
        return victim.in_label_order(logits)

    return forward
