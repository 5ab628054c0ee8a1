"""The inputs of a model's forward pass, determined from the model itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from robustness.errors import CheckpointError
from robustness.victims.files.reasons import loading_reason

USUAL = frozenset({"input_ids", "attention_mask", "token_type_ids"})
"""Assumed inputs of a forward pass that names none."""
NO_LIMIT = 1_000_000
"""Maximum tokens of a text if neither model nor tokenizer sets a limit."""
LENGTH_SETTINGS = ("max_position_embeddings", "max_seq_len")
"""Configurations' names for the maximum of positions; -1 means no limit."""


def bare_model(model: Any) -> Any:
    """Returns the transformers model inside wrappers of PEFT and torch.compile."""
    inner = getattr(model, "_orig_mod", None)  # of torch.compile
    if inner is None and hasattr(model, "get_base_model"):
        inner = model.get_base_model()
    return model if inner is None or inner is model else bare_model(inner)


def name_outputs(model: Any) -> None:
    """Makes a model with return_dict: false or torchscript: true in its config.json answer like others."""
    model.config.return_dict = True
    if hasattr(model.config, "torchscript"):  # returns tuples too
        model.config.torchscript = False


def accepted_inputs(model: Any) -> frozenset[str]:
    """Returns the names of a model's inputs.

    A tokenizer may give more: a BERT tokenizer saved with a DistilBERT gives segments. Inputs through a wrapper or
    `**kwargs` do not count, because they may cause an error or have no effect.
    """
    parameters = inspect.signature(bare_model(model).forward).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = frozenset(each.name for each in parameters if each.kind in named)
    return names if "input_ids" in names else USUAL


def max_tokens(model: Any, tokenizer: Any, virtual_tokens: int = 0) -> int:
    """The maximum tokens of a text: the model's positions, and at most the tokenizer's limit.

    Args:
        model: or one without weights, see `empty_model`.
        tokenizer: the model's tokenizer.
        virtual_tokens: learnt prompts or prefixes, which use positions of the text.
    """
    room = min([stated_positions(model.config), *_table_rooms(model)])
    return min(room - virtual_tokens, tokenizer_limit(tokenizer))


def longest_text(model: Any, tokenizer: Any, *, reserved: int = 0) -> int:
    """The maximum tokens that a victim may read of a text, including special ones.

    Args:
        model: a PeftModel's learnt prompts or prefixes are subtracted.
        tokenizer: the model's tokenizer.
        reserved: tokens to follow the text.

    Raises:
        CheckpointError: no token of a text fits.
    """
    learnt = getattr(getattr(model, "active_peft_config", None), "num_virtual_tokens", 0)
    longest = max_tokens(model, tokenizer, learnt) - reserved
    special = tokenizer.num_special_tokens_to_add()
    if longest <= special:
        where = getattr(tokenizer, "name_or_path", "") or "in memory"
        raise CheckpointError(
            f"model {type(bare_model(model)).__name__} with the tokenizer {where}: its "
            f"{max_tokens(model, tokenizer)} tokens leave no room for a text beside {special} special tokens, "
            f"{learnt} learnt ones and {reserved} of an answer; use fewer learnt tokens, or a base and a tokenizer "
            "of longer texts"
        )
    return longest


def stated_positions(config: Any) -> int:
    """The maximum of positions by a model's configuration; relative positions and -1 mean no limit."""
    said = [getattr(config, name, None) for name in LENGTH_SETTINGS]
    return min([NO_LIMIT, *(int(count) for count in said if count and count > 0)])


def tokenizer_limit(tokenizer: Any) -> int:
    """A tokenizer's own limit; -1, None and transformers' huge number are none."""
    own = getattr(tokenizer, "model_max_length", None) or 0
    return int(min(own, NO_LIMIT)) if own > 0 else NO_LIMIT


def _table_rooms(model: Any) -> Iterator[int]:
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if "position" not in name or not hasattr(module, "padding_idx") or weight is None:
            continue
        # RoBERTa and its kin count from the index of padding on, BART and OPT from an offset on.
        before = getattr(module, "offset", None)
        if before is None:
            before = 0 if module.padding_idx is None else module.padding_idx + 1
        yield len(weight) - before


def empty_model(folder: Path) -> Any:
    """Returns the model of a folder's config.json without weights, which uses no memory and cannot run.

    Raises:
        CheckpointError: the configuration describes no model.
    """
    from transformers import AutoConfig, AutoModel

    try:
        with torch.device("meta"):
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            return AutoModel.from_config(config, trust_remote_code=False)
    except Exception as error:  # each kind of configuration refuses values in its own way
        reason = loading_reason(folder, error)
        raise CheckpointError(f"{folder}: cannot be built from its config.json: {reason}") from error


@final
@dataclass(frozen=True, slots=True)
class Company:
    """Which texts may share a batch."""

    padded: bool = True
    """Whether texts of unequal length may; some models' answers change with padding in spite of the mask."""
    end_token: int | None = None
    """The token that all texts of a batch must have equally often, because encoder-decoders find their last state by
    it."""

    def kinds(self, texts: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        """Returns a number for each text's tokens, shape (texts,); texts of one number may share a batch."""
        kinds = np.zeros(len(texts), dtype=np.int64)
        if self.end_token is not None:
            kinds += [list(ids).count(self.end_token) for ids in texts]
        if not self.padded:
            kinds += [len(ids) * NO_LIMIT for ids in texts]
        return kinds


def pad(
    rows: dict[str, list[list[int]]], tokenizer: Any, accepted: frozenset[str], side: str
) -> dict[str, NDArray[np.int64]]:
    """Like `tokenizer.pad` in a tenth of its time, which a GPU would wait for.

    Args:
        rows: by the model's input names; a list of tokens for each text.
        tokenizer: defines padding.
        accepted: the model's input names; adds a mask if it is one of them.
        side: left or right.
    """
    lengths = np.array([len(ids) for ids in rows["input_ids"]])
    places = np.arange(max(1, int(lengths.max())))
    if side == "left":
        places = places[::-1]
    filled = places < lengths[:, None]
    fill = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    padded = {"attention_mask": filled.astype(np.int64)} if "attention_mask" in accepted else {}
    for name, values in rows.items():
        padded[name] = np.full(filled.shape, fill.get(name) or 0, dtype=np.int64)
        padded[name][filled] = np.fromiter(chain.from_iterable(values), dtype=np.int64, count=int(lengths.sum()))
    return padded
