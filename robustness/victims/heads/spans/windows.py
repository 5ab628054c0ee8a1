"""Windows of tokens: a tokenizer's encoding of questions and paragraphs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WINDOW_TOKENS = 384
STRIDE_TOKENS = 128
"""Tokens that neighbouring windows share."""
ANSWER_TOKENS = 30
QUESTION_TOKENS = 64
"""Longer questions are cut, so that every window has room for the paragraph."""


@dataclass(frozen=True, slots=True)
class Windows:
    """The tokenizer's encoding of some texts."""

    inputs: dict[str, list[list[int]]]
    owner: NDArray[np.int64]
    """Index of each window's text."""
    offsets: list[NDArray[np.int64]]
    """For each window: start and end characters of its tokens, shape (tokens, 2)."""
    segments: list[NDArray[np.int64]]
    """For each window: 0 for tokens of the question, 1 for the paragraph's, -1 for others, shape (tokens,)."""
    allowed: list[NDArray[np.bool_]]
    """For each window: its tokens of the paragraph."""
