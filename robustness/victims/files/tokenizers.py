"""A tokenizer read from a folder, or the reason why it is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_tokenizer(folder: str | Path) -> Any:
    """Returns the tokenizer of a folder, a fast one where there is one.

    Where its files are missing transformers 5 makes one that knows no word, so that every text reads alike.

    Raises:
        ValueError: it knows no word, or its limit is no number; the libraries raise many other kinds.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, use_fast=True)
    limit = getattr(tokenizer, "model_max_length", None)
    if limit is not None and not isinstance(limit, int | float):
        raise ValueError(f"model_max_length in its tokenizer_config.json is {limit!r}; expected a number")
    special = set(tokenizer.all_special_tokens)
    words = (token for token in tokenizer.get_vocab() if token not in special)
    if not any(any(map(str.isalnum, word)) for word in words):
        raise ValueError("it knows no word; copy tokenizer.json and what was saved with it there")
    return tokenizer
