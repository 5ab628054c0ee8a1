"""Imperceptible edits: they change the encoding, while the displayed text stays (nearly) the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robustness.recipes.text.transformations.transformation import Transformation, drawn_everywhere, everywhere

INVISIBLE = ("\u200b", "\u200c", "\u200d")
"""Zero width space, non-joiner and joiner."""

BACKSPACE = "\u0008"
PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))

_OVERRIDE_LEFT_TO_RIGHT, _OVERRIDE_RIGHT_TO_LEFT, _END_OVERRIDE = "\u202d", "\u202e", "\u202c"
_ISOLATE, _END_ISOLATE = "\u2066", "\u2069"

# Letters of other scripts that most typefaces draw like the Latin one, by code point: Cyrillic, Greek, Armenian,
# Roman numerals, phonetic letters.
_LOOK_ALIKE_CODES: dict[str, int] = {
    "a": 0x0430, "c": 0x0441, "d": 0x0501, "e": 0x0435, "g": 0x0261, "h": 0x04BB, "i": 0x0456, "j": 0x0458,
    "l": 0x217C, "n": 0x0578, "o": 0x043E, "p": 0x0440, "q": 0x051B, "s": 0x0455, "u": 0x057D, "v": 0x0475,
    "w": 0x051D, "x": 0x0445, "y": 0x0443, "z": 0x1D22, "A": 0x0410, "B": 0x0412, "C": 0x0421, "E": 0x0415,
    "F": 0x03DC, "G": 0x050C, "H": 0x041D, "I": 0x0406, "J": 0x0408, "K": 0x041A, "L": 0x216C, "M": 0x041C,
    "N": 0x039D, "O": 0x041E, "P": 0x0420, "Q": 0x051A, "S": 0x0405, "T": 0x0422, "V": 0x0474, "W": 0x051C,
    "X": 0x0425, "Y": 0x04AE, "Z": 0x0396,
}  # fmt: skip
HOMOGLYPHS: dict[str, str] = {letter: chr(code) for letter, code in _LOOK_ALIKE_CODES.items()}
"""Latin letters with a letter of another script that looks alike."""


def homoglyphs(word: str) -> Iterator[str]:
    """Yields the word with one letter replaced by a look-alike, at every place (arXiv 2106.09898, 1812.05271)."""
    for i, letter in enumerate(word):
        if letter in HOMOGLYPHS:
            yield word[:i] + HOMOGLYPHS[letter] + word[i + 1 :]


def invisible_insertions(word: str) -> Iterator[str]:
    """Yields the word with one invisible character after a character, at every place (arXiv 2106.09898).

    >>> len(list(invisible_insertions("film")))
    12
    """
    for i in range(1, len(word) + 1):
        for character in INVISIBLE:
            yield word[:i] + character + word[i:]


def reorderings(word: str) -> Iterator[str]:
    """Yields the word with two neighbours swapped, but displayed in the old order (arXiv 2106.09898).

    >>> "".join(c for c in next(reorderings("film")) if c.isalpha())
    'iflm'
    """
    for i in range(len(word) - 1):
        first, second = word[i], word[i + 1]
        isolated = f"{_ISOLATE}{second}{_END_ISOLATE}{_ISOLATE}{first}{_END_ISOLATE}"
        reversed_run = f"{_ISOLATE}{_OVERRIDE_RIGHT_TO_LEFT}{isolated}{_END_OVERRIDE}{_END_ISOLATE}"
        shown = f"{_OVERRIDE_LEFT_TO_RIGHT}{reversed_run}{_END_OVERRIDE}"
        yield word[:i] + shown + word[i + 2 :]


def deleted_insertions(word: str, rng: np.random.Generator) -> Iterator[str]:
    """Yields the word with a random character and a backspace after a character, at every place (2106.09898)."""
    for i in range(1, len(word) + 1):
        yield word[:i] + PRINTABLE[int(rng.integers(len(PRINTABLE)))] + BACKSPACE + word[i:]


IMPERCEPTIBLE_EDITS: dict[str, Transformation] = {
    "homoglyphs": everywhere(homoglyphs),
    "invisible-insertions": everywhere(invisible_insertions),
    "reorderings": everywhere(reorderings),
    "deleted-insertions": drawn_everywhere(deleted_insertions),
}
"""By name in recipe files."""
