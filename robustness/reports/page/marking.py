"""Texts in pieces, marked where one differs from another."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby

MAX_CHARACTERS = 1_200
"""Longer texts are shown to here."""
_WORDS = re.compile(r"\s+|[^\s]+")


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a text, marked where it was changed."""

    text: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Marked:
    """Two texts, and where each differs from the other."""

    before: tuple[Piece, ...]
    after: tuple[Piece, ...]


def shown_text(text: object) -> str:
    """Returns a cell of examples.csv as people read it: a pair one after the other, and cut where it is long."""
    whole = str(text)
    if whole.startswith("["):
        with suppress(ValueError):  # a single text that merely starts so
            whole = " / ".join(str(segment) for segment in json.loads(whole))
    return whole if len(whole) <= MAX_CHARACTERS else whole[:MAX_CHARACTERS] + " ..."


def mark_words(before: str, after: str) -> Marked:
    """Returns both texts with changed words marked in each.

    >>> [piece.text for piece in mark_words("a fine film", "a fime film").after if piece.changed]
    ['fime']
    """
    return _mark(_WORDS.findall(before), _WORDS.findall(after))


def mark_letters(before: str, after: str) -> Marked:
    """Returns both texts with changed letters marked in each, of words that stand in each other's place.

    >>> marked = mark_letters("a fine film", "a fime film")
    >>> [piece.text for piece in marked.before if piece.changed], [p.text for p in marked.after if p.changed]
    (['n'], ['m'])
    """
    first, second = _WORDS.findall(before), _WORDS.findall(after)
    parts: list[Marked] = []
    for kind, i, j, k, m in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if kind == "replace" and j - i == m - k:
            parts += [_mark(*words) for words in zip(first[i:j], second[k:m], strict=True)]
        elif kind == "replace":
            parts.append(_mark("".join(first[i:j]), "".join(second[k:m])))
        else:
            parts.append(_mark(first[i:j], second[k:m]))
    return Marked(
        tuple(_join(piece for part in parts for piece in part.before)),
        tuple(_join(piece for part in parts for piece in part.after)),
    )


def _mark(before: Sequence[str], after: Sequence[str]) -> Marked:
    left: list[Piece] = []
    right: list[Piece] = []
    for kind, i, j, k, m in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        changed = kind != "equal"
        left += [Piece("".join(before[i:j]), changed)] if j > i else []
        right += [Piece("".join(after[k:m]), changed)] if m > k else []
    return Marked(tuple(left), tuple(right))


def _join(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Neighbours that are both marked, or both not, as one."""
    for changed, same in groupby(pieces, key=lambda piece: piece.changed):
        yield Piece("".join(piece.text for piece in same), changed)
