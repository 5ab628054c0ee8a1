"""Reads a tokenizer from a folder, or gives the reason why it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robustness.pointers import explain_pointer
from robustness.victims.files.checkpoint import SAFE_FILES


def read_tokenizer(folder: str | Path) -> Any:
    """Returns the tokenizer of a folder, if possible a fast one.

    If its files are missing, transformers 5 creates a tokenizer without words, for which all texts are equal.

    Raises:
        ValueError: one of its files is a pointer, it knows no word, or its limit is no number; the libraries raise
            many other classes.
    """
    from transformers import AutoTokenizer

    _refuse_pointers(Path(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, use_fast=True)
    limit = getattr(tokenizer, "model_max_length", None)
    if limit is not None and not isinstance(limit, int | float):
        raise ValueError(f"model_max_length in its tokenizer_config.json is {limit!r}; expected a number")
    special = set(tokenizer.all_special_tokens)
    words = (token for token in tokenizer.get_vocab() if token not in special)
    if not any(any(map(str.isalnum, word)) for word in words):
        raise ValueError("it knows no word; copy tokenizer.json and what was saved with it there")
    return tokenizer


def _refuse_pointers(folder: Path) -> None:
    """Refuses a word list that is a Git LFS pointer, which would be read as a list of three words."""
    for pattern in SAFE_FILES:
        for file in sorted(folder.glob(pattern)):
            if file.suffix != ".safetensors" and (pointer := explain_pointer(file)):
                raise ValueError(f"{file.name} {pointer}")
