"""Transformations: the possible forms of one word."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from functools import wraps
from typing import TypeAlias

import numpy as np

Transformation: TypeAlias = Callable[[str, np.random.Generator], list[str]]
"""(word, generator) -> replacements other than the word itself, possibly none."""

LETTERS = string.ascii_letters


def swap_neighbours(word: str, rng: np.random.Generator) -> list[str]:
    """Swaps two neighbouring characters at a random place (arXiv 1801.04354)."""
    if len(word) < 2:
        return []
    i = int(rng.integers(len(word) - 1))
    return _unless_unchanged(word, word[:i] + word[i + 1] + word[i] + word[i + 2 :])


def substitute_character(word: str, rng: np.random.Generator) -> list[str]:
    """Replaces one random character by a random ASCII letter (arXiv 1801.04354)."""
    if len(word) < 2:
        return []
    i = int(rng.integers(len(word)))
    return _unless_unchanged(word, word[:i] + random_letter(rng) + word[i + 1 :])


def delete_character(word: str, rng: np.random.Generator) -> list[str]:
    """Deletes one random character; a word of one letter stays (arXiv 1801.04354)."""
    if len(word) < 2:
        return []
    i = int(rng.integers(len(word)))
    return [word[:i] + word[i + 1 :]]


def insert_character(word: str, rng: np.random.Generator) -> list[str]:
    """Inserts a random ASCII letter before a random character (arXiv 1801.04354)."""
    if len(word) < 2:
        return []
    i = int(rng.integers(len(word)))
    return [word[:i] + random_letter(rng) + word[i:]]


CHARACTER_EDITS: dict[str, Transformation] = {
    "swap-neighbours": swap_neighbours,
    "substitute-character": substitute_character,
    "delete-character": delete_character,
    "insert-character": insert_character,
}
"""By name in recipe files."""


def everywhere(forms: Callable[[str], Iterator[str]]) -> Transformation:
    """Returns the transformation to all forms of a word except the word itself."""

    @wraps(forms)
    def edit(word: str, _: np.random.Generator) -> list[str]:
        return [form for form in forms(word) if form != word]

    return edit


def drawn_everywhere(forms: Callable[[str, np.random.Generator], Iterator[str]]) -> Transformation:
    """Returns the transformation to all forms of a word, given by a random function."""

    @wraps(forms)
    def edit(word: str, rng: np.random.Generator) -> list[str]:
        return list(forms(word, rng))

    return edit


def random_letter(rng: np.random.Generator) -> str:
    """Returns an ASCII letter of either case."""
    return LETTERS[int(rng.integers(len(LETTERS)))]


def _unless_unchanged(word: str, replacement: str) -> list[str]:
    return [] if replacement == word else [replacement]
