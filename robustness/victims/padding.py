"""Padding: the token and the side for texts of unequal length in a batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from robustness.errors import CheckpointError
from robustness.tasks.task import Task
from robustness.victims.heads.head import Head
from robustness.victims.heads.kinds import is_decoder, looks_back

SHORT, LONGER = "a b c d", "a b c d e f g h i j k l m n o p"
"""The shorter one is long enough for CANINE, which reads characters in groups of four."""
ROUNDING = 1e-3
"""Largest rounding effect of padding in float32, relative to the largest score."""


def settle_padding_token(model: Any, tokenizer: Any, name: str) -> None:
    """Gives model and tokenizer one padding token, other than the end token of texts.

    A decoder with a head for labels reads the last token that is not its padding.

    Args:
        model: its configuration is completed.
        tokenizer: is completed.
        name: of checkpoint or base, for messages.

    Raises:
        CheckpointError: the tokenizer has neither a padding nor an end token.
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
    """Pads on the side that changes no answer; returns whether there is one.

    Scores a short text alone and with a longer one. Padding after a text is invisible to a decoder, and most encoders
    mask it. Padding before a text is right if the last place is read, as in XLNet. Convolutions, Fourier transforms
    and landmarks see padding on either side; then only texts of equal length share a batch.

    Args:
        victim: a model in float32; its tokenizer's side is set.
        task: defines the segments of a text.

    Raises:
        CheckpointError: the configuration turns an encoder into a decoder, whose answers ignore the text.
    """
    short, longer = ((text,) * len(task.fields) for text in (SHORT, LONGER))
    alone = victim.logits([short])[0]
    if looks_back(victim.model) and np.allclose(alone, victim.logits([longer])[0], rtol=0, atol=1e-6):
        raise CheckpointError(
            f"{victim.model.config.name_or_path}/config.json: is_decoder is true, so the first token of a text, "
            "which the head for labels reads, sees no other token, so all texts get one answer; expected an encoder: "
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
    """Usually the end token; another special token if every text ends in the end token."""
    last = tokenizer(SHORT)["input_ids"][-1:]
    others = (tokenizer.eos_token, tokenizer.unk_token, tokenizer.bos_token, tokenizer.sep_token)
    free = [token for token in others if token is not None and tokenizer.convert_tokens_to_ids(token) not in last]
    return str(free[0] if free else tokenizer.eos_token)
