"""Character edits that keep a word's first and last character, by which people recognise it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from robustness.recipes.text.transformations.transformation import (
    Transformation,
    drawn_everywhere,
    everywhere,
    random_letter,
)

KEYBOARD_NEIGHBOURS: dict[str, str] = {
    "q": "was", "w": "qeasd", "e": "wsdfr", "r": "edfgt", "t": "rfghy", "y": "tghju", "u": "yhjki", "i": "ujklo",
    "o": "iklp", "p": "ol", "a": "qwszx", "s": "qweadzx", "d": "werfcxs", "f": "ertgvcd", "g": "rtyhbvd",
    "h": "tyugjbn", "j": "yuikmnh", "k": "uiolmj", "l": "iopk", "z": "asx", "x": "sdzc", "c": "xdfv", "v": "cfgb",
    "b": "vghn", "n": "bhjm", "m": "njk",
}  # fmt: skip
"""Keys around each letter of a QWERTY keyboard, as in TextAttack."""


def inner_swaps(word: str) -> Iterator[str]:
    """Yields the word with two neighbouring inner characters swapped, at every place (arXiv 1905.11268).

    >>> list(inner_swaps("plots"))
    ['polts', 'pltos']
    """
    for i in range(1, len(word) - 2):
        yield word[:i] + word[i + 1] + word[i] + word[i + 2 :]


def inner_deletions(word: str) -> Iterator[str]:
    """Yields the word without one inner character, at every place (arXiv 1905.11268).

    >>> list(inner_deletions("plot"))
    ['pot', 'plt']
    """
    for i in range(1, len(word) - 1):
        yield word[:i] + word[i + 1 :]


def inner_insertions(word: str, rng: np.random.Generator) -> Iterator[str]:
    """Yields the word with one random letter before an inner character, at every place (arXiv 1905.11268)."""
    for i in range(1, len(word) - 1):
        yield word[:i] + random_letter(rng) + word[i:]


def inner_spaces(word: str) -> Iterator[str]:
    """Yields the word cut in two before an inner character, at every place (arXiv 1812.05271).

    >>> list(inner_spaces("plot"))
    ['p lot', 'pl ot']
    """
    for i in range(1, len(word) - 1):
        yield f"{word[:i]} {word[i:]}"


def keyboard_slips(word: str) -> Iterator[str]:
    """Yields the word with one inner letter replaced by a key beside it, at every place (arXiv 1905.11268).

    >>> list(keyboard_slips("oPen"))[:3]
    ['oOen', 'oLen', 'oPwn']
    """
    if len(word) < 4:
        return
    for i in range(1, len(word) - 1):
        keys = KEYBOARD_NEIGHBOURS.get(word[i].lower(), "")
        for key in keys.upper() if word[i].isupper() else keys:
            yield word[:i] + key + word[i + 1 :]


def _somewhere(forms: Callable[[str], Iterator[str]]) -> Transformation:
    """One of the forms at random; nothing if it is the word itself, as for edits at a random place."""

    def draw(word: str, rng: np.random.Generator) -> list[str]:
        found = list(forms(word))
        drawn = found[int(rng.integers(len(found)))] if found else word
        return [] if drawn == word else [drawn]

    draw.__doc__ = f"Draws one at random of these: {forms.__doc__}"
    return draw


INNER_EDITS: dict[str, Transformation] = {
    "all-inner-swaps": everywhere(inner_swaps),
    "all-inner-deletions": everywhere(inner_deletions),
    "all-inner-insertions": drawn_everywhere(inner_insertions),
    "all-keyboard-slips": everywhere(keyboard_slips),
    "one-inner-swap": _somewhere(inner_swaps),
    "one-inner-deletion": _somewhere(inner_deletions),
    "one-inner-space": _somewhere(inner_spaces),
}
"""By name in recipe files."""
