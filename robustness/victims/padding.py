"""Padding: with which token and on which side texts of unequal length share a batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from robustness.errors import CheckpointError
from robustness.tasks.task import Task
from robustness.victims.heads.head import Head
from robustness.victims.heads.kinds import is_decoder, looks_back

SHORT, LONGER = "a b c d", "a b c d e f g h i j k l m n o p"
"""The shorter one is no shorter than what a model that reads characters in fours (CANINE) can take."""
ROUNDING = 1e-3
"""Of the largest score: what padding may change in float32 and still be rounding."""


def settle_padding_token(model: Any, tokenizer: Any, name: str) -> None:
    """Lets model and tokenizer pad with one token, which is not the one that texts end in.

    A decoder with a head for labels reads the last token that is not its padding.

    Args:
        model: its configuration is completed.
        tokenizer: is completed.
        name: of checkpoint or base, for messages.

    Raises:
        CheckpointError: a tokenizer with neither a padding nor an end token.
    """
    config = model.config
    own = getattr(config, "pad_token_id", None)
    decodes = getattr(config, "is_decoder", False) or is_decoder(config)
    known = tokenizer.convert_ids_to_tokens(own) if own is not None and 0 <= own < len(tokenizer) else None
    if known is not None and (decodes or tokenizer.pad_token_id is None):
        tokenizer.pad_token = known
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise CheckpointError(
                f"{name}: its tokenizer has neither a padding nor an end token, so texts make "
                "no batch; set pad_token in its tokenizer_config.json"
            )
        tokenizer.pad_token = _token_for_padding(tokenizer)
    if own is None or decodes:
        for each in {id(part): part for part in (config, config.get_text_config())}.values():
            each.pad_token_id = tokenizer.pad_token_id


def settle_side(victim: Head, task: Task) -> bool:
    """Pads on the side where it changes no answer; returns whether there is one.

    A short text is scored alone and beside a longer one. Behind a text no token of a decoder looks, and most encoders
    mask what is there; before it is right where the last place is read, as by XLNet. Convolutions, Fourier transforms
    and landmarks see padding on either side: such texts share a batch with texts of their own length alone.

    Args:
        victim: a model in float32; its tokenizer's side is set.
        task: tells the segments of a text.

    Raises:
        CheckpointError: an encoder that its configuration makes a decoder, whose answers say nothing of a text.
    """
    short, longer = ((text,) * len(task.fields) for text in (SHORT, LONGER))
    alone = victim.logits([short])[0]
    if looks_back(victim.model) and np.allclose(alone, victim.logits([longer])[0], rtol=0, atol=1e-6):
        raise CheckpointError(
            f"{victim.model.config.name_or_path}/config.json: is_decoder is true, so the first token of a text, "
            "which the head for labels reads, sees nothing of it and all texts get one answer; expected an encoder: "
            "set is_decoder to false"
        )
    own = victim.tokenizer.padding_side
    for side in victim.padding_sides:
        victim.tokenizer.padding_side = side
        difference = np.abs(victim.logits([short, longer])[0] - alone).max()
        if difference <= ROUNDING * np.abs(alone).max():
            return True
    victim.tokenizer.padding_side = own
    return False


def _token_for_padding(tokenizer: Any) -> str:
    """The end token, as usual; another special one where it ends every text and would be taken for padding."""
    last = tokenizer(SHORT)["input_ids"][-1:]
    others = (tokenizer.eos_token, tokenizer.unk_token, tokenizer.bos_token, tokenizer.sep_token)
    free = [token for token in others if token is not None and tokenizer.convert_tokens_to_ids(token) not in last]
    return str(free[0] if free else tokenizer.eos_token)
